"""Units of a pool's members: they exclude nobody of it, and each has ports of its own."""

from __future__ import annotations

from support.systemd_syntax import values
from support.world import CONFIG_DIR, UNIT_DIR, World

from llmctl.core.state import State
from llmctl.engine.status import GroupView, overview

A, B, C = "llm-a.service", "llm-b.service", "llm-c.service"
POOL = "groups: {gpu: {port: 12340, mode: pool, conflicts: [ollama.service]}}\n"


def make_world(config: str = POOL, *names: str) -> World:
    world = World()
    world.config(config)
    for name in names or ("a", "b"):
        world.profile(name)
    world.apply()
    return world


def text(world: World, unit: str) -> str:
    return world.host.text(f"{UNIT_DIR}/{unit}")


def port(world: World, name: str) -> int:
    return world.box.resolve(name).place.port


def test_members_exclude_foreign_units_only() -> None:
    world = make_world()
    for unit in (A, B):
        assert values(text(world, unit), "Conflicts") == ["ollama.service"]
        assert values(text(world, unit), "After") == ["ollama.service"]
        assert values(text(world, unit), "Before") == []


def test_each_has_a_port_and_a_newcomer_makes_no_unit_stale() -> None:
    world = make_world(POOL, "b", "c")
    assert (port(world, "b"), port(world, "c")) == (12350, 12360)
    before = {unit: text(world, unit) for unit in (B, C)}
    world.profile("a")
    world.apply()
    assert port(world, "a") == 12370
    assert {unit: text(world, unit) for unit in (B, C)} == before


def test_ttl_and_pin_make_no_unit_stale() -> None:
    world = make_world()
    before = [text(world, unit) for unit in (A, B)]
    world.profile("a", "ttl: 10m\n")
    world.profile("b", "pin: true\n")
    world.apply()
    assert [text(world, unit) for unit in (A, B)] == before


def test_an_exclusive_group_that_becomes_a_pool_and_back() -> None:
    world = make_world("groups: {gpu: {port: 12340}}\n")
    before = [text(world, unit) for unit in (A, B)]
    world.config(POOL)
    world.apply()
    assert [port(world, name) for name in "ab"] == [12350, 12360]
    world.config("groups: {gpu: {port: 12340}}\n")
    world.apply()
    assert [text(world, unit) for unit in (A, B)] == before


def test_several_that_run_are_no_fault() -> None:
    world = make_world()
    for unit in (B, A):
        world.start(unit)
    world.clock.sleep(1)
    world.host.put(f"{CONFIG_DIR}/profiles/c.yaml", "model: /models/c.gguf\n")
    (group,) = overview(world.box).groups
    assert group.active in ("a", "b")
    assert sorted(group.running) == ["a", "b"]
    assert group == GroupView("gpu", group.active, State.READY, (), "pool", group.running)


def test_one_that_is_ready_stands_for_the_pool() -> None:
    world = make_world()
    world.start(B)
    world.clock.sleep(1)
    world.start(A)
    (group,) = overview(world.box).groups
    assert (group.active, group.state, group.running) == ("b", State.READY, ("b", "a"))
