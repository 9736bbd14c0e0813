"""engine/boot.py: at most one of a group starts at boot."""

from __future__ import annotations

import pytest
from support.world import CONFIG_DIR, UNIT_DIR, World

from llmctl.core.plan import WriteUnit
from llmctl.core.progress import Began, Event
from llmctl.engine.boot import Enabled, disable, enable
from llmctl.errors import ProfileError

A, B, R = "llm-a.service", "llm-b.service", "llm-r.service"


def make_world() -> World:
    world = World()
    world.profile("a")
    world.profile("b")
    world.profile("r", "group: none\nport: 12400")
    return world


def turn_on(world: World, name: str) -> Enabled:
    return enable(world.box, name, clock=world.clock, report=lambda _: None)


def test_a_model_is_enabled() -> None:
    world = make_world()
    turn_on(world, "a")
    assert world.unit(A).enabled


def test_its_unit_is_installed_first() -> None:
    world = make_world()
    turn_on(world, "a")
    assert f"{UNIT_DIR}/{A}" in world.host.paths()


def test_of_a_group_only_one_starts_at_boot() -> None:
    world = make_world()
    turn_on(world, "a")
    assert turn_on(world, "b").disabled == ("a",)
    assert not world.unit(A).enabled


def test_a_resident_is_enabled_beside_the_others() -> None:
    world = make_world()
    turn_on(world, "a")
    assert turn_on(world, "r").disabled == ()
    assert world.unit(A).enabled


@pytest.mark.parametrize("linger", [False, True])
def test_it_is_told_whether_the_manager_runs_without_a_login(linger: bool) -> None:
    world = make_world()
    if linger:
        world.host.put("/var/lib/systemd/linger/ana", "")
    assert turn_on(world, "a").linger is linger


def test_a_foreign_unit_is_not_enabled() -> None:
    world = make_world()
    world.host.put(f"{UNIT_DIR}/{A}", "[Service]\nExecStart=/theirs\n")
    with pytest.raises(ProfileError, match="was not written by llmctl"):
        turn_on(world, "a")


def test_a_model_is_disabled() -> None:
    world = make_world()
    turn_on(world, "a")
    disable(world.box, "a")
    assert not world.unit(A).enabled


def test_an_unknown_profile_is_not_enabled() -> None:
    with pytest.raises(ProfileError, match="there is no profile x"):
        turn_on(make_world(), "x")


def test_an_unknown_profile_is_not_disabled() -> None:
    with pytest.raises(ProfileError, match="there is no profile x"):
        disable(make_world().box, "x")


def test_a_profile_that_is_gone_can_be_disabled() -> None:
    world = make_world()
    turn_on(world, "a")
    world.host.remove(f"{CONFIG_DIR}/profiles/a.yaml")
    disable(world.box, "a")
    assert not world.unit(A).enabled


def test_what_is_installed_first_is_reported() -> None:
    world = make_world()
    events: list[Event] = []
    enable(world.box, "a", clock=world.clock, report=events.append)
    steps = [event.step for event in events if isinstance(event, Began)]
    assert [type(step) for step in steps] == [WriteUnit, WriteUnit]
