"""engine/wait.py: not a moment longer than there is hope, and no shorter."""

from __future__ import annotations

import pytest
from support.world import PORT, Run, World

from llmctl.core.progress import Event, Waiting
from llmctl.core.state import Health
from llmctl.core.verdict import Crashed, Gone, Impostor, Outcome, Ready, Stalled, Watch
from llmctl.engine.wait import Waiter, in_charge

A, B = "llm-a.service", "llm-b.service"


def wait(
    run: Run, *, text: str = "", timeout: float = 10.0, events: list[Event] | None = None
) -> tuple[Outcome, float, World]:
    """What comes of waiting for a run that goes so, and how long it took."""
    world = World()
    world.profile("a", text)
    box = world.box
    world.apply()
    world.goes(A, run)
    watch = Watch(box.systemd.status([A])[0])
    box.systemd.start(A)
    began = world.clock.now()
    report = (events if events is not None else []).append
    waiter = Waiter(box, box.target("a"), watch, timeout=timeout, clock=world.clock, report=report)
    return waiter.wait(), world.clock.now() - began, world


def test_a_quick_model_costs_no_more_than_a_hundredth_of_a_second() -> None:
    _, took, _ = wait(Run(ready_s=0.1))
    assert took < 0.12


def test_ready_tells_how_long_it_took() -> None:
    outcome, took, _ = wait(Run(ready_s=3.0))
    assert isinstance(outcome, Ready)
    assert outcome.seconds == pytest.approx(took)


def test_a_load_that_makes_progress_is_waited_for() -> None:
    outcome, took, _ = wait(Run(ready_s=300, reads_until_s=299), timeout=10)
    assert isinstance(outcome, Ready)
    assert took == pytest.approx(300, abs=1)


def test_a_load_without_progress_is_given_up_after_the_timeout() -> None:
    outcome, took, _ = wait(Run(ready_s=300), timeout=10)
    assert isinstance(outcome, Stalled)
    assert outcome.health is Health.LOADING
    assert took == pytest.approx(10, abs=1)


def test_a_load_whose_progress_ends_is_given_up() -> None:
    outcome, took, _ = wait(Run(ready_s=300, reads_until_s=60), timeout=10)
    assert isinstance(outcome, Stalled)
    assert took == pytest.approx(70, abs=1.5)


def test_a_server_that_never_listens_is_given_up() -> None:
    outcome, _, _ = wait(Run(silent=True), timeout=10)
    assert isinstance(outcome, Stalled)
    assert outcome.health is Health.SILENT


def test_time_in_the_queue_behind_a_slow_stop_does_not_count() -> None:
    outcome, took, _ = wait(Run(queue_s=60, ready_s=5), timeout=10)
    assert isinstance(outcome, Ready)
    assert took == pytest.approx(65, abs=1)


@pytest.mark.parametrize("again", [False, True])
def test_a_crash_ends_the_wait_within_a_moment(again: bool) -> None:
    outcome, took, _ = wait(Run(ready_s=60, crash_s=2, again=again))
    assert isinstance(outcome, Crashed)
    assert took < 2.5


def test_an_end_without_failure_is_not_a_crash() -> None:
    outcome, _, world = wait(Run(ready_s=60, exit_s=2))
    assert outcome == Gone(world.unit(A), fresh=True)


def test_another_name_on_the_port_is_an_impostor() -> None:
    outcome, took, _ = wait(Run(ready_s=0.1, alias="other"))
    assert isinstance(outcome, Impostor)
    assert outcome.alias == "other"
    assert took < 2


def test_an_old_server_that_still_answers_for_a_moment_is_no_impostor() -> None:
    world = World()
    world.profile("a")
    box = world.box
    world.apply()
    world.goes(A, Run(ready_s=5, silent=True))
    watch = Watch(box.systemd.status([A])[0])
    box.systemd.start(A)
    old = World()
    old.profile("b")
    old.apply()
    old.goes(B, Run(ready_s=0))
    old.start(B)
    world.host.servers[PORT] = old.host.servers[PORT]
    world.clock.after(0.5, world.host.servers.clear)
    waiter = Waiter(
        box, box.target("a"), watch, timeout=5, clock=world.clock, report=lambda _: None
    )
    assert isinstance(waiter.wait(), Stalled)


def test_behind_an_unknown_key_the_listeners_unit_says_who_answers() -> None:
    world = World()
    world.profile("a")
    box = world.box
    world.apply()
    world.goes(A, Run(ready_s=0.1, locked=True))
    watch = Watch(box.systemd.status([A])[0])
    box.systemd.start(A)
    world.listening(PORT, world.unit(A).pid)
    waiter = Waiter(
        box, box.target("a"), watch, timeout=5, clock=world.clock, report=lambda _: None
    )
    assert isinstance(waiter.wait(), Ready)


def test_behind_an_unknown_key_a_stranger_is_not_believed() -> None:
    outcome, _, _ = wait(Run(ready_s=0.1, locked=True))
    assert isinstance(outcome, Impostor)


def test_what_is_waited_for_is_told() -> None:
    events: list[Event] = []
    wait(Run(queue_s=2, ready_s=5), events=events)
    said = list(dict.fromkeys(one.what for one in events if isinstance(one, Waiting)))
    assert said == ["the running model is stopping", "loading"]


def test_progress_of_a_large_model_is_told_as_a_share() -> None:
    events: list[Event] = []
    world = World()
    world.profile("a", file=b"GGUF" + bytes(300 << 20))
    box = world.box
    world.apply()
    world.goes(A, Run(ready_s=60, reads_until_s=60))
    watch = Watch(box.systemd.status([A])[0])
    box.systemd.start(A)
    waiter = Waiter(box, box.target("a"), watch, timeout=5, clock=world.clock, report=events.append)
    waiter.wait()
    shares = [one.fraction for one in events if isinstance(one, Waiting)]
    assert all(share is not None and 0 <= share <= 1 for share in shares)
    assert shares == sorted(shares, key=lambda share: share or 0)


def test_progress_of_a_small_model_has_no_share() -> None:
    events: list[Event] = []
    wait(Run(ready_s=5), events=events)
    assert {one.fraction for one in events if isinstance(one, Waiting)} == {None}


def test_progress_is_told_twice_a_second() -> None:
    events: list[Event] = []
    wait(Run(ready_s=10), events=events)
    assert 18 <= len(events) <= 22


def rivals(world: World) -> str | None:
    return in_charge(world.box, [A, B])


def installed() -> World:
    world = World()
    world.profile("a")
    world.profile("b")
    world.apply()
    return world


def test_nobody_is_in_charge_of_an_idle_group() -> None:
    assert rivals(installed()) is None


def test_who_runs_is_in_charge() -> None:
    world = installed()
    world.start(B)
    assert rivals(world) == B


def test_who_is_about_to_start_is_in_charge_before_who_runs() -> None:
    world = installed()
    world.start(A)
    running = world.unit(A)
    world.goes(B, Run(queue_s=60))
    world.start(B)
    world.shows(A, running)  # its stop is under way
    assert rivals(world) == B
