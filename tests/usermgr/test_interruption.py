"""llmctl ends in the middle: systemd carries on, and the next llmctl tells the truth."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from kit.waiting import eventually
from usermgr.scenarios import back_at_work
from usermgr.site import INTERRUPTED

if TYPE_CHECKING:
    import subprocess

    from usermgr.site import ManagerSite


def interrupt(process: subprocess.Popen[str], number: int) -> tuple[int, str]:
    """Its exit status and what it said on stderr."""
    process.send_signal(number)
    _, errors = process.communicate(timeout=20)
    assert "Traceback" not in errors
    return process.returncode, errors


@pytest.fixture
def pending(site: ManagerSite) -> subprocess.Popen[str]:
    """A switch to `new` that waits for the slow stop of `old`."""
    site.profiles({"old": "slowstop=3", "new": ""})
    site.llmctl("apply")
    site.llmctl("switch", "old")
    process = site.popen("switch", "new")
    site.await_job("llm-new.service")
    return process


def test_ctrl_c_while_the_old_model_stops(
    site: ManagerSite, pending: subprocess.Popen[str]
) -> None:
    status, errors = interrupt(pending, signal.SIGINT)
    assert status == INTERRUPTED
    assert "interrupted: the switch to new goes on in systemd." in errors
    assert site.group() != ("new", "ready")
    site.await_state("new", "ready")
    back_at_work(site, "new")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_killed_while_the_old_model_stops(
    site: ManagerSite, pending: subprocess.Popen[str], number: int
) -> None:
    status, _ = interrupt(pending, number)
    assert status == -number
    site.await_state("new", "ready")
    back_at_work(site, "new")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_ended_while_the_new_model_loads(site: ManagerSite, number: int) -> None:
    site.profiles({"old": "", "new": "load=4"})
    site.llmctl("switch", "old")
    process = site.popen("switch", "new")
    site.await_event("start", "new")
    status, _ = interrupt(process, number)
    assert status == (INTERRUPTED if number == signal.SIGINT else -number)
    assert site.group() == ("new", "loading")
    site.await_state("new", "ready")
    back_at_work(site, "new")


def test_killed_before_a_model_that_fails_it_leaves_a_failure_that_status_shows(
    site: ManagerSite,
) -> None:
    site.profiles({"old": "", "new": "load=9,exit=5@1"})
    site.llmctl("switch", "old")
    process = site.popen("switch", "new")
    site.await_event("start", "new")
    interrupt(process, signal.SIGKILL)
    site.await_state(None, "failed")
    site.llmctl("switch", "old")
    back_at_work(site, "old")


def test_ctrl_c_during_a_rollback_leaves_it_to_systemd_and_says_so(site: ManagerSite) -> None:
    """It is the old model that comes up then, not the one that was asked for."""
    site.profiles({"old": "", "new": "load=9,exit=5@0.2"})
    site.llmctl("switch", "old")
    site.behave("old", "load=4")
    process = site.popen("switch", "new")
    starts = [("start", "old"), ("start", "new"), ("start", "old")]
    eventually(
        lambda: [(e.word, e.alias) for e in site.events() if e.word == "start"] == starts,
        20,
        why="the old model starts again",
    )
    status, errors = interrupt(process, signal.SIGINT)
    assert status == INTERRUPTED
    said = errors.partition("interrupted: ")[2]
    assert "systemd" in said
    assert "old" in said
    assert "the switch to new goes on" not in said
    site.await_state("old", "ready")
    back_at_work(site, "old")


@pytest.mark.parametrize("command", [("status",), ("status", "--json"), ("list",)])
def test_ctrl_c_while_a_server_is_asked(site: ManagerSite, command: tuple[str, ...]) -> None:
    site.profile("a", "hang")
    site.llmctl("switch", "a", "--no-wait")
    site.await_event("start", "a")
    process = site.popen(*command)
    site.await_asking()
    status, errors = interrupt(process, signal.SIGINT)
    assert status in (INTERRUPTED, -signal.SIGINT)
    assert "KeyboardInterrupt" not in errors


def test_ctrl_c_during_off_leaves_the_stop_to_systemd(site: ManagerSite) -> None:
    site.profile("a", "slowstop=3")
    site.llmctl("switch", "a")
    process = site.popen("off")
    site.await_job("llm-a.service")
    status, _ = interrupt(process, signal.SIGINT)
    assert status == INTERRUPTED
    eventually(lambda: not site.active_units(), why="the model has stopped")
    assert site.group() == (None, "stopped")


def test_ctrl_c_ends_following_the_logs_quietly(site: ManagerSite) -> None:
    site.profile("a")
    site.llmctl("switch", "a")
    process = site.popen("logs", "--follow")
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    eventually(lambda: children.read_text("ascii"), why="it follows the journal")
    status, errors = interrupt(process, signal.SIGINT)
    assert (status, errors) == (0, "")
