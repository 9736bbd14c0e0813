"""core/state.py: words for what is observed."""

from __future__ import annotations

import pytest

from llmctl.core.state import Answer, Health, State, UnitStatus, model_state

RUNNING = UnitStatus("u", active="active", sub="running")
QUEUED = UnitStatus("u", active="inactive", job=7)
RESTARTING = UnitStatus("u", active="activating", sub="auto-restart")
RESTART_QUEUED = UnitStatus("u", active="activating", sub="auto-restart-queued")
FAILED = UnitStatus("u", active="failed", sub="failed")
STOPPING = UnitStatus("u", active="deactivating", sub="stop-sigterm", job=7)
DEAD = UnitStatus("u")

READY = Answer(Health.READY, alias="coder")


@pytest.mark.parametrize(
    ("status", "running", "up", "failed", "queued"),
    [
        (RUNNING, True, True, False, False),
        (UnitStatus("u", active="active", sub="running", job=3), False, True, False, True),
        (QUEUED, False, False, False, True),
        (RESTARTING, False, True, True, False),
        (RESTART_QUEUED, False, True, True, False),
        (FAILED, False, False, True, False),
        (STOPPING, False, False, False, True),
        (UnitStatus("u", active="reloading"), False, True, False, False),
        (DEAD, False, False, False, False),
    ],
)
def test_questions_to_a_unit(
    status: UnitStatus, running: bool, up: bool, failed: bool, queued: bool
) -> None:
    found = (status.is_running, status.is_up, status.has_failed, status.is_queued)
    assert found == (running, up, failed, queued)


@pytest.mark.parametrize(
    ("status", "yes"),
    [
        (RUNNING, True),
        (QUEUED, True),
        (STOPPING, True),
        (UnitStatus("u", active="activating", sub="start"), True),
        (RESTARTING, False),
        (UnitStatus("u", active="activating", sub="auto-restart", job=7), True),
        (FAILED, False),
        (DEAD, False),
    ],
)
def test_a_unit_holds_on_until_nothing_of_it_runs_or_will(status: UnitStatus, yes: bool) -> None:
    assert status.holds_on is yes


@pytest.mark.parametrize(
    ("answer", "yes"),
    [
        (READY, True),
        (Answer(Health.READY, alias="other"), False),
        (Answer(Health.READY), False),
        (Answer(Health.READY, locked=True), True),
        (Answer(Health.LOADING, alias="coder"), False),
    ],
)
def test_ready_means_that_the_right_alias_answers(answer: Answer, yes: bool) -> None:
    assert answer.is_from("coder") is yes


@pytest.mark.parametrize(
    ("status", "answer", "state"),
    [
        (RUNNING, READY, State.READY),
        (RUNNING, Answer(Health.LOADING), State.LOADING),
        (RUNNING, Answer(Health.READY, alias="other"), State.LOADING),
        (RUNNING, None, State.LOADING),
        (QUEUED, None, State.LOADING),
        (RESTARTING, READY, State.FAILED),
        (FAILED, READY, State.FAILED),
        (STOPPING, READY, State.STOPPED),
        (DEAD, READY, State.STOPPED),
    ],
)
def test_a_unit_and_its_port_make_one_word(
    status: UnitStatus, answer: Answer | None, state: State
) -> None:
    assert model_state(status, answer, "coder") is state
