"""cli/progress.py: the engine's events become visible."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from llmctl.cli.progress import Progress
from llmctl.core.plan import Start
from llmctl.core.progress import Began, Event, Note, Waiting

if TYPE_CHECKING:
    import pytest


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def told(capsys: pytest.CaptureFixture[str], *events: Event, quiet: bool = False) -> list[str]:
    with Progress(quiet=quiet) as progress:
        for event in events:
            progress.report(event)
    said = capsys.readouterr()
    assert said.out == ""
    return said.err.splitlines()


def test_a_step_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, Began(Start("llm-a.service"))) == ["start llm-a.service"]


def test_a_step_back_is_told_as_such(capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, Began(Start("a.service"), back=True)) == ["back: start a.service"]


def test_a_note_is_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, Note("careful")) == ["warning: careful"]


def test_waiting_is_told_when_its_phase_changes_and_each_ten_seconds(
    capsys: pytest.CaptureFixture[str],
) -> None:
    events = [Waiting("loading", float(n), n / 100) for n in range(25)]
    said = told(capsys, Waiting("starting", 1.0), *events)
    assert said[0] == "starting (1 s)"
    assert said[1:] == ["loading 1% (1 s)", "loading 11% (11 s)", "loading 21% (21 s)"]


def test_a_short_wait_is_not_worth_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, Waiting("loading", 0.5)) == []


def test_a_quiet_progress_tells_only_what_people_should_know(
    capsys: pytest.CaptureFixture[str],
) -> None:
    events = (Began(Start("a")), Waiting("loading", 20.0), Note("careful"))
    assert told(capsys, *events, quiet=True) == ["warning: careful"]


def test_on_a_terminal_waiting_is_one_live_line(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    with Progress() as progress:
        progress.report(Waiting("loading", 1.0, 0.5))
        progress.report(Began(Start("a.service")))
    assert "loading 50% (1 s)" in screen.getvalue()
    assert "start a.service" in screen.getvalue()
