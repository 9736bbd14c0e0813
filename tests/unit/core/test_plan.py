"""core/plan.py: wanted + observed -> steps."""

from __future__ import annotations

import pytest

from llmctl.core.plan import (
    AwaitReady,
    Observed,
    Reload,
    RemoveUnit,
    Restart,
    Start,
    Step,
    Stop,
    Wanted,
    WriteUnit,
    describe,
    is_stale,
    plan_rollback,
    plan_switch,
    plan_writes,
)
from llmctl.core.unit import UnitFile, render_unit

A, B = "llm-a.service", "llm-b.service"


def unit(name: str, value: str) -> UnitFile:
    return render_unit(name, "[Service]\nExecStart={{ value }}\n", {"value": value}, version="1")


OLD, NEW, SLICE = unit(A, "/old"), unit(A, "/new"), unit("llm.slice", "/x")
EDITED = NEW.text.replace("/new", "/hand-made")
FOREIGN = "[Service]\nExecStart=/theirs\n"
WANTED = Wanted("a", NEW, "new-process")


def observed(text: str | None = NEW.text, **facts: object) -> Observed:
    return Observed(texts={A: text, SLICE.name: SLICE.text}, **facts)  # type: ignore[arg-type]


START = (Start(A), AwaitReady("a"))
RESTART = (Restart(A), AwaitReady("a"))


@pytest.mark.parametrize(
    ("seen", "steps"),
    [
        (observed(), START),
        (observed(None), (WriteUnit(NEW), Reload(), *START)),
        (observed(OLD.text), (WriteUnit(NEW, OLD.text), Reload(), *START)),
        (observed(active=(A,), running="new-process"), START),
        (observed(active=(A,), running="old-process"), RESTART),
        (observed(active=(A,), running=None), RESTART),
        (observed(active=(B,)), START),
        (observed(needs_reload=True), (Reload(), *START)),
        (
            observed(OLD.text, active=(A,), running="old-process"),
            (WriteUnit(NEW, OLD.text), Reload(), *RESTART),
        ),
        (
            observed(OLD.text, active=(A,), running="new-process"),
            (WriteUnit(NEW, OLD.text), Reload(), *START),
        ),
        (observed(EDITED), START),
        (observed(EDITED, active=(A,), running="anything"), START),
        (observed(EDITED, active=(A,), needs_reload=True), (Reload(), *RESTART)),
    ],
)
def test_a_switch_takes_no_more_steps_than_it_needs(
    seen: Observed, steps: tuple[Step, ...]
) -> None:
    assert plan_switch(WANTED, seen) == steps


def test_a_rival_is_never_stopped_by_hand() -> None:
    steps = plan_switch(WANTED, observed(active=(B,)))
    assert not any(isinstance(step, Stop) for step in steps)


def test_what_the_unit_needs_is_written_first() -> None:
    wanted = Wanted("a", NEW, "p", (SLICE,))
    assert plan_switch(wanted, Observed(texts={}))[:2] == (WriteUnit(SLICE), WriteUnit(NEW))


@pytest.mark.parametrize("text", [NEW.text, EDITED, FOREIGN])
def test_a_text_that_is_current_edited_or_foreign_is_not_written(text: str) -> None:
    assert plan_writes((NEW,), {A: text}) == ()


@pytest.mark.parametrize(("text", "stale"), [(NEW.text, False), (OLD.text, True), (None, True)])
def test_a_text_is_stale_when_it_was_made_from_something_else(
    text: str | None, stale: bool
) -> None:
    assert is_stale(NEW, text) is stale


WRITTEN = (WriteUnit(NEW, OLD.text), Reload())


@pytest.mark.parametrize(
    ("seen", "done", "steps"),
    [
        (observed(), START, (Stop((A,)),)),
        (observed(foreign=("x.service",)), START, (Stop((A,)), Start("x.service"))),
        (observed(active=(B,)), START, (Start(B), AwaitReady("b"))),
        (
            observed(OLD.text, active=(A,), previous_text=OLD.text),
            (*WRITTEN, *RESTART),
            (WriteUnit(OLD, NEW.text), Reload(), *RESTART),
        ),
        (
            observed(active=(A,), previous_text=OLD.text),
            RESTART,
            (WriteUnit(OLD, NEW.text), Reload(), *RESTART),
        ),
        (observed(active=(A,), previous_text=NEW.text), RESTART, RESTART),
        (observed(active=(A,)), RESTART, (Stop((A,)),)),
        (observed(active=(A,)), START, ()),
        (observed(active=(B,)), (*WRITTEN, *START), (Start(B), AwaitReady("b"))),
    ],
)
def test_a_rollback_leads_to_what_was_before(
    seen: Observed, done: tuple[Step, ...], steps: tuple[Step, ...]
) -> None:
    assert plan_rollback(WANTED, seen, done) == steps


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (WriteUnit(NEW), f"write {A}"),
        (WriteUnit(NEW, OLD.text), f"update {A}"),
        (RemoveUnit(A, ""), f"remove {A}"),
        (Reload(), "reload systemd's units"),
        (Start(A), f"start {A}"),
        (Restart(A), f"restart {A}"),
        (Stop((A, B)), f"stop {A}, {B}"),
        (AwaitReady("a"), "wait until a answers"),
    ],
)
def test_a_step_is_told_in_words(step: Step, words: str) -> None:
    assert describe(step) == words
