"""engine/off.py: stopped means gone."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from support.world import CONFIG_DIR, UNIT_DIR, Run, World

from llmctl.core.progress import Event, Waiting
from llmctl.engine.off import Stopped, off, units_of
from llmctl.errors import HostError, ProfileError, UsageError

A, B, R, V = "llm-a.service", "llm-b.service", "llm-r.service", "llm-v.service"


def make_world() -> World:
    """Two profiles of the group gpu, one of vision, and a resident."""
    world = World()
    world.config("groups: {gpu: {port: 12340}, vision: {port: 12360}}")
    world.profile("a")
    world.profile("b")
    world.profile("v", "group: vision")
    world.profile("r", "group: none\nport: 12400")
    world.apply()
    return world


def stop(world: World, *units: str, events: list[Event] | None = None) -> Stopped:
    report = (events if events is not None else []).append
    return off(world.box, units, clock=world.clock, report=report, timeout=60.0)


def busy() -> World:
    """All that can run beside each other does, and b has failed."""
    world = make_world()
    world.goes(B, Run(crash_s=0.1))
    world.start(B)
    world.clock.sleep(1)
    failure = world.unit(B)
    for unit in (A, V, R):
        world.start(unit)
    world.shows(B, failure)
    return world


@pytest.mark.parametrize(
    ("group", "everything", "units"),
    [
        (None, False, {A, B, V}),
        ("gpu", False, {A, B}),
        ("vision", False, {V}),
        (None, True, {A, B, V, R}),
    ],
)
def test_off_means_the_units_of(group: str | None, everything: bool, units: set[str]) -> None:
    assert set(units_of(busy().box, group, everything=everything)) == units


def test_off_means_no_unit_that_is_stopped() -> None:
    assert units_of(make_world().box, None, everything=True) == ()


def test_an_unknown_group_is_refused_with_those_there_are() -> None:
    with pytest.raises(UsageError, match="no group npu; there is gpu, vision"):
        units_of(make_world().box, "npu", everything=False)


@pytest.mark.parametrize(("group", "there"), [("gpu", True), (None, True), ("vision", False)])
def test_a_unit_whose_profile_is_gone_still_belongs_to_its_group(
    group: str | None, there: bool
) -> None:
    world = busy()
    world.host.remove(f"{CONFIG_DIR}/profiles/a.yaml")
    assert (A in units_of(world.box, group, everything=False)) is there


@pytest.mark.parametrize("everything", [False, True])
def test_a_resident_whose_profile_is_gone_stays_unless_all_are_meant(everything: bool) -> None:
    world = busy()
    world.host.remove(f"{CONFIG_DIR}/profiles/r.yaml")
    assert (R in units_of(world.box, None, everything=everything)) is everything


def test_a_foreign_unit_of_our_name_is_not_ours_to_stop() -> None:
    world = busy()
    world.host.put(f"{UNIT_DIR}/llm-x.service", "[Service]\nExecStart=/x\n")
    world.start("llm-x.service")
    for everything in (False, True):
        assert "llm-x.service" not in units_of(world.box, None, everything=everything)


def test_a_hand_made_unit_that_lies_elsewhere_is_not_ours_to_stop() -> None:
    world = busy()
    path = "/etc/systemd/user/llm-x.service"
    world.host.put(path, "[Service]\nExecStart=/x\n")
    world.shows("llm-x.service", replace(world.unit(A), unit="llm-x.service", path=path))
    assert "llm-x.service" not in units_of(world.box, None, everything=True)


def test_a_unit_of_ours_that_lies_elsewhere_by_now_is_stopped_all_the_same() -> None:
    """`unit_dir` was changed while it ran: systemd still knows where it is from."""
    world = busy()
    world.config("unit_dir: /elsewhere\ngroups: {gpu: {port: 12340}}")
    assert set(units_of(world.box, "gpu", everything=False)) == {A, B}


def test_a_unit_whose_file_is_gone_is_stopped_all_the_same() -> None:
    world = busy()
    world.host.remove(f"{UNIT_DIR}/{A}")
    assert A in units_of(world.box, None, everything=False)


def test_a_broken_profile_is_stopped_too() -> None:
    world = busy()
    world.profile("a", "ctx: nonsense")
    assert A in units_of(world.box, "gpu", everything=False)


def test_everything_can_be_stopped_though_the_configuration_is_broken() -> None:
    world = busy()
    world.config("groups: [")
    assert A in units_of(world.box, None, everything=True)


@pytest.mark.parametrize(("group", "units"), [(None, {A, B, V}), ("gpu", {A, B}), ("vision", {V})])
def test_groups_are_told_apart_though_the_configuration_is_broken(
    group: str | None, units: set[str]
) -> None:
    world = busy()
    world.config("groups: [")
    assert set(units_of(world.box, group, everything=False)) == units


def test_a_group_that_nothing_tells_of_needs_the_configuration() -> None:
    world = busy()
    world.config("groups: [")
    with pytest.raises(ProfileError):
        units_of(world.box, "npu", everything=False)


def test_what_runs_is_stopped_and_named() -> None:
    world = make_world()
    world.start(A)
    assert stop(world, A, B) == Stopped(("a",))
    assert world.up() == []


def test_nothing_is_stopped_when_nothing_runs() -> None:
    world = make_world()
    assert stop(world, A, B) == Stopped(())
    assert not world.host.called("stop")


def test_it_is_told_only_when_the_model_is_gone() -> None:
    world = make_world()
    world.goes(A, Run(stop_s=8.0))
    world.start(A)
    began = world.clock.now()
    stop(world, A)
    assert world.clock.now() - began == pytest.approx(8.0, abs=0.5)


def test_a_slow_stop_is_reported() -> None:
    world = make_world()
    world.goes(A, Run(stop_s=8.0))
    world.start(A)
    events: list[Event] = []
    stop(world, A, events=events)
    assert isinstance(events[0], Waiting)
    assert events[0].what == f"{A} is stopping"


def test_a_model_that_does_not_stop_in_time_is_an_error() -> None:
    world = make_world()
    world.goes(A, Run(stop_s=1e6))
    world.start(A)
    with pytest.raises(HostError, match=f"{A} did not stop within 60 s") as caught:
        stop(world, A)
    assert caught.value.hint == f"See `systemctl --user status {A}`."


def test_nobody_waits_for_one_that_somebody_starts_again_meanwhile() -> None:
    """It answers, and its end would be waited for in vain: by the proxy, with all its clients."""
    world = make_world()
    world.goes(A, Run(stop_s=1e6))
    world.start(A)
    began = world.clock.now()
    world.clock.after(1.0, lambda: world.start(A))
    with pytest.raises(HostError, match=f"{A} was started again by somebody"):
        stop(world, A)
    assert world.clock.now() - began < 2
    assert world.up() == [A]


def test_the_others_are_waited_for_all_the_same() -> None:
    world = make_world()
    world.goes(A, Run(stop_s=1e6))
    world.goes(V, Run(stop_s=8.0))
    world.start(A)
    world.start(V)
    world.clock.after(1.0, lambda: world.start(A))
    with pytest.raises(HostError, match=f"^{A} was started again by somebody"):
        stop(world, A, V)
    assert world.up() == [A]


def test_a_crash_loop_is_ended_and_forgotten() -> None:
    world = make_world()
    world.goes(A, Run(crash_s=0.1, again=True))
    world.start(A)
    world.clock.sleep(1)
    assert stop(world, A) == Stopped(("a",))
    assert world.up() == []
    assert world.host.called("reset-failed", A)


def test_a_crash_counts_as_stopped_and_is_forgotten() -> None:
    world = busy()
    assert world.unit(B).active == "failed"
    assert stop(world, B) == Stopped(("b",))
    assert world.unit(B).active == "inactive"


def test_a_model_that_has_to_be_killed_is_stopped_too() -> None:
    world = make_world()
    world.goes(A, Run(stop_s=30.0, killed=True))
    world.start(A)
    assert stop(world, A) == Stopped(("a",))
    assert world.unit(A).active == "inactive"


def test_a_start_that_still_waits_is_cancelled() -> None:
    world = make_world()
    world.goes(A, Run(queue_s=60))
    world.start(A)
    assert stop(world, A) == Stopped(("a",))
    world.clock.sleep(100)
    assert world.up() == []
