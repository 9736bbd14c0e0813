"""core/verdict.py: ready, still coming, or lost."""

from __future__ import annotations

import pytest

from llmctl.core.state import UnitStatus
from llmctl.core.verdict import Crashed, Gone, Phase, Watch

DEAD = UnitStatus("u")
OLD = UnitStatus("u", active="active", sub="running", invocation="old", pid=1)
NEW = UnitStatus("u", active="active", sub="running", invocation="new", pid=2)
QUEUED = UnitStatus("u", job=7)
OLD_QUEUED = UnitStatus("u", invocation="old", job=7)
STARTING = UnitStatus("u", active="activating", sub="start", invocation="new", job=7)
FAILED = UnitStatus("u", active="failed", sub="failed", invocation="new")
AGAIN = UnitStatus("u", active="activating", sub="auto-restart", invocation="new")
KILLED = UnitStatus(
    "u", active="failed", sub="failed", invocation="new", result="timeout", exit_code=2,
    exit_status=9,
)  # fmt: skip
NEXT = UnitStatus("u", active="active", sub="running", invocation="next", pid=3)
ENDED = UnitStatus("u", active="inactive", sub="dead", invocation="new")
STOPPING = UnitStatus("u", active="deactivating", sub="stop-sigterm", invocation="new", job=8)


def judged(watch: Watch, *looks: UnitStatus) -> object:
    for look in looks:
        watch = watch.see(look)
    return watch.judge(looks[-1])


@pytest.mark.parametrize(
    ("before", "looks", "verdict"),
    [
        (DEAD, [QUEUED], Phase.QUEUED),
        (DEAD, [QUEUED, STARTING], Phase.QUEUED),
        (DEAD, [QUEUED, STARTING, NEW], Phase.RUNNING),
        (DEAD, [NEW], Phase.RUNNING),
        (OLD, [OLD], Phase.RUNNING),
        (DEAD, [NEW, FAILED], Crashed(FAILED)),
        (DEAD, [NEW, AGAIN], Crashed(AGAIN)),
        (DEAD, [FAILED], Crashed(FAILED)),
        (DEAD, [AGAIN], Crashed(AGAIN)),
        (DEAD, [NEW, ENDED], Gone(ENDED, fresh=True)),
        (DEAD, [QUEUED, DEAD], Gone(DEAD, fresh=False)),
        (DEAD, [NEW, STOPPING], Phase.QUEUED),
        (DEAD, [NEW, STOPPING, KILLED], Gone(KILLED, fresh=True)),
    ],
)
def test_a_start_is_judged_by_what_systemd_shows(
    before: UnitStatus, looks: list[UnitStatus], verdict: object
) -> None:
    assert judged(Watch(before), *looks) == verdict


@pytest.mark.parametrize(
    ("looks", "verdict"),
    [
        ([OLD], Phase.QUEUED),
        ([OLD_QUEUED], Phase.QUEUED),
        ([OLD, NEW], Phase.RUNNING),
        ([OLD, FAILED], Crashed(FAILED)),
    ],
)
def test_after_a_restart_the_old_run_does_not_count(
    looks: list[UnitStatus], verdict: object
) -> None:
    assert judged(Watch(OLD, must_differ=True), *looks) == verdict


def test_a_second_run_means_that_the_first_one_died() -> None:
    verdict = judged(Watch(DEAD), NEW, NEXT)
    assert isinstance(verdict, Crashed)


def test_a_crash_is_told_of_the_run_that_died_and_not_of_the_next() -> None:
    verdict = judged(Watch(DEAD), NEW, NEXT)
    assert isinstance(verdict, Crashed)
    assert verdict.status.invocation == "new"


def test_who_was_stopped_and_had_to_be_killed_did_not_end_by_itself() -> None:
    verdict = judged(Watch(DEAD), NEW, STOPPING, KILLED)
    assert isinstance(verdict, Gone)
    assert not verdict.by_itself


def test_a_failure_from_before_is_not_ours() -> None:
    old_failure = UnitStatus("u", active="failed", sub="failed", invocation="old", job=7)
    assert judged(Watch(old_failure), old_failure) is Phase.QUEUED


@pytest.mark.parametrize(
    ("code", "fresh", "itself"), [(1, True, True), (2, True, False), (1, False, False)]
)
def test_a_server_that_exits_is_told_from_one_that_is_stopped(
    code: int, fresh: bool, itself: bool
) -> None:
    assert Gone(UnitStatus("u", exit_code=code), fresh=fresh).by_itself is itself
