"""engine/boot.py: at most one of a group starts at boot."""

from __future__ import annotations

import pytest
from support.world import UNIT_DIR, World

from llmctl.engine.boot import disable, enable
from llmctl.errors import ProfileError

A, B, R = "llm-a.service", "llm-b.service", "llm-r.service"


def make_world() -> World:
    world = World()
    world.profile("a")
    world.profile("b")
    world.profile("r", "group: none\nport: 12400")
    return world


def test_a_model_is_enabled() -> None:
    world = make_world()
    enable(world.box, "a")
    assert world.unit(A).enabled


def test_its_unit_is_installed_first() -> None:
    world = make_world()
    enable(world.box, "a")
    assert f"{UNIT_DIR}/{A}" in world.host.paths()


def test_of_a_group_only_one_starts_at_boot() -> None:
    world = make_world()
    enable(world.box, "a")
    assert enable(world.box, "b").disabled == ("a",)
    assert not world.unit(A).enabled


def test_a_resident_is_enabled_beside_the_others() -> None:
    world = make_world()
    enable(world.box, "a")
    assert enable(world.box, "r").disabled == ()
    assert world.unit(A).enabled


@pytest.mark.parametrize("linger", [False, True])
def test_it_is_told_whether_the_manager_runs_without_a_login(linger: bool) -> None:
    world = make_world()
    if linger:
        world.host.put("/var/lib/systemd/linger/ana", "")
    assert enable(world.box, "a").linger is linger


def test_a_foreign_unit_is_not_enabled() -> None:
    world = make_world()
    world.host.put(f"{UNIT_DIR}/{A}", "[Service]\nExecStart=/theirs\n")
    with pytest.raises(ProfileError, match="was not written by llmctl"):
        enable(world.box, "a")


def test_a_model_is_disabled() -> None:
    world = make_world()
    enable(world.box, "a")
    disable(world.box, "a")
    assert not world.unit(A).enabled


@pytest.mark.parametrize("verb", [enable, disable])
def test_an_unknown_profile_is_refused(verb: object) -> None:
    assert callable(verb)
    with pytest.raises(ProfileError, match="there is no profile x"):
        verb(make_world().box, "x")
