"""engine/execute.py: steps are carried out one at a time, and nothing is promised too early."""

from __future__ import annotations

import pytest
from support.fakes import HOME
from support.world import UNIT_DIR, Run, World

from llmctl.core.plan import Reload, RemoveUnit, Restart, Start, Step, Stop, WriteUnit
from llmctl.core.progress import Began, Event
from llmctl.core.unit import UnitFile
from llmctl.engine.execute import Executor
from llmctl.errors import NoAnswerError

A = "llm-a.service"
LOG = f"{HOME}/.local/state/llmctl/logs/a.log"


def make_world(config: str = "") -> World:
    world = World()
    world.config(config)
    world.profile("a")
    world.apply()
    return world


def executor(world: World, events: list[Event] | None = None) -> Executor:
    report = (events if events is not None else []).append
    return Executor(world.box, clock=world.clock, report=report)


@pytest.mark.parametrize("back", [False, True])
def test_a_step_is_reported_before_it_is_done(back: bool) -> None:
    world = make_world()
    seen: list[tuple[Event, bool]] = []
    hands = Executor(
        world.box, clock=world.clock, report=lambda event: seen.append((event, bool(world.up())))
    )
    hands.do(Start(A), back=back)
    assert seen == [(Began(Start(A), back), False)]
    assert world.up() == [A]


def test_a_unit_is_written_for_its_owner_alone() -> None:
    world = World()
    executor(world).do(WriteUnit(UnitFile(A, "text")))
    assert world.host.text(f"{UNIT_DIR}/{A}") == "text"
    assert world.host.mode(f"{UNIT_DIR}/{A}") == 0o600


def test_a_unit_is_removed() -> None:
    world = make_world()
    executor(world).do(RemoveUnit(A, ""))
    assert f"{UNIT_DIR}/{A}" not in world.host.paths()


@pytest.mark.parametrize(
    ("steps", "asked"),
    [
        ([Reload()], ()),
        ([Stop((A,))], ()),
        ([Start(A)], (A,)),
        ([Restart(A)], (A,)),
        ([Start(A), Restart(A)], (A, A)),
    ],
)
def test_it_is_known_what_systemd_was_asked_to_start(
    steps: list[Step], asked: tuple[str, ...]
) -> None:
    hands = executor(make_world())
    for step in steps:
        hands.do(step)
    assert hands.asked == asked


# Stopping


def test_a_stop_ends_when_the_model_is_gone() -> None:
    world = make_world()
    world.goes(A, Run(stop_s=8.0))
    world.start(A)
    began = world.clock.now()
    executor(world).do(Stop((A,)))
    assert world.clock.now() - began == pytest.approx(8.0, abs=0.5)
    assert world.unit(A).active == "inactive"


def test_a_stop_forgets_that_the_model_had_to_be_killed() -> None:
    world = make_world()
    world.goes(A, Run(stop_s=30.0, killed=True))
    world.start(A)
    executor(world).do(Stop((A,)))
    assert world.unit(A).active == "inactive"


def test_a_stop_that_does_not_end_has_no_known_outcome() -> None:
    """A profile may allow an hour, so nobody gives up before."""
    world = make_world()
    world.goes(A, Run(stop_s=1e6))
    world.start(A)
    began = world.clock.now()
    with pytest.raises(NoAnswerError, match=f"{A} did not stop within 3660 s"):
        executor(world).do(Stop((A,)))
    assert world.clock.now() - began > 3600


# The log file


@pytest.mark.parametrize(
    ("up", "step", "text"),
    [
        (False, Start(A), ""),
        (True, Start(A), "words\n"),
        (False, Restart(A), ""),
        (True, Restart(A), ""),
    ],
)
def test_a_log_file_holds_what_was_written_since_the_last_start(
    up: bool, step: Step, text: str
) -> None:
    world = make_world("logs: file")
    if up:
        world.start(A)
    world.host.put(LOG, "words\n")
    executor(world).do(step)
    assert world.host.text(LOG) == text


def test_a_full_disk_is_no_reason_not_to_start() -> None:
    world = make_world("logs: file")
    world.host.full.add(f"{HOME}/.local")
    executor(world).do(Start(A))
    assert world.up() == [A]
