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
    runs_otherwise,
)
from llmctl.core.unit import UnitFile, render_unit

A, B = "llm-a.service", "llm-b.service"


def unit(name: str, value: str) -> UnitFile:
    return render_unit(name, "[Service]\nExecStart={{ value }}\n", {"value": value}, version="1")


OLD, NEW, SLICE = unit(A, "/old"), unit(A, "/new"), unit("llm.slice", "/x")
EDITED = NEW.text.replace("/new", "/hand-made")
HAND_MADE = f"{EDITED}Nice=5\n"
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
        (observed(active=(A,), running=None), START),
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
        (observed(EDITED, active=(A,), kept=EDITED), START),
        (observed(EDITED, active=(A,), kept=NEW.text), RESTART),
        (observed(HAND_MADE, active=(A,), kept=EDITED), RESTART),
        (observed(EDITED, kept=NEW.text), START),
    ],
)
def test_a_switch_takes_no_more_steps_than_it_needs(
    seen: Observed, steps: tuple[Step, ...]
) -> None:
    assert plan_switch(WANTED, seen) == steps


OURS_NOW = render_unit(A, "[Service]\nEnvironment=LLMCTL_PROCESS=now\n", {}, version="1").text
EDITED_NOW = OURS_NOW.replace("[Service]", "[Service]\nNice=5")


@pytest.mark.parametrize(
    ("running", "kept", "otherwise"),
    [
        ("now", None, False),
        ("now", OURS_NOW, False),
        ("before", OURS_NOW, True),
        ("before", None, True),
        ("now", EDITED_NOW, True),
        ("before", EDITED_NOW, True),
        (None, None, False),
        (None, OURS_NOW, False),
        (None, EDITED_NOW, False),
    ],
)
def test_a_process_is_compared_with_what_its_unit_starts(
    running: str | None, kept: str | None, otherwise: bool
) -> None:
    assert runs_otherwise(running, "now", kept=kept) is otherwise


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
    ("seen", "done", "present", "steps"),
    [
        (observed(), START, None, (Stop((A,)),)),
        (observed(foreign=("x.service",)), START, None, (Stop((A,)), Start("x.service"))),
        (observed(active=(B,)), START, None, (Start(B), AwaitReady("b"))),
        (
            observed(OLD.text, active=(A,), previous_text=OLD.text),
            (*WRITTEN, *RESTART),
            NEW.text,
            (WriteUnit(OLD, NEW.text), Reload(), *RESTART),
        ),
        (
            observed(active=(A,), previous_text=OLD.text),
            RESTART,
            NEW.text,
            (WriteUnit(OLD, NEW.text), Reload(), *RESTART),
        ),
        (observed(active=(A,), previous_text=NEW.text), RESTART, NEW.text, RESTART),
        (observed(active=(A,)), RESTART, NEW.text, (Stop((A,)),)),
        (observed(active=(A,)), START, NEW.text, ()),
        (observed(active=(B,)), (*WRITTEN, *START), None, (Start(B), AwaitReady("b"))),
    ],
)
def test_a_rollback_leads_to_what_was_before(
    seen: Observed, done: tuple[Step, ...], present: str | None, steps: tuple[Step, ...]
) -> None:
    assert plan_rollback(WANTED, seen, done, present=present) == steps


def test_a_unit_that_was_removed_meanwhile_is_written_again_by_a_rollback() -> None:
    seen = observed(OLD.text, active=(A,), previous_text=OLD.text)
    steps = plan_rollback(WANTED, seen, RESTART, present=None)
    assert steps == (WriteUnit(OLD, None), Reload(), *RESTART)


@pytest.mark.parametrize("present", [EDITED, FOREIGN])
@pytest.mark.parametrize("previous", [OLD.text, EDITED + "# as it ran"])
def test_a_rollback_leaves_a_persons_own_text_alone(present: str, previous: str) -> None:
    seen = observed(OLD.text, active=(A,), previous_text=previous)
    assert plan_rollback(WANTED, seen, (*WRITTEN, *RESTART), present=present) == RESTART


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
