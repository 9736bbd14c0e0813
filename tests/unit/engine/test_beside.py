"""engine/beside.py, pool.check_beside: residents and several groups, which all run at once."""

from __future__ import annotations

import pytest
from support.poolworld import PoolWorld
from support.world import CONFIG_DIR, UNIT_DIR

from llmctl.core.unit import read_header
from llmctl.engine.holdings import Holdings
from llmctl.engine.planning import plan_profile
from llmctl.engine.switch import Options, Switch
from llmctl.errors import DoesNotFitError

MIB = 1 << 20
A, B, R, X = "llm-a.service", "llm-b.service", "llm-r.service", "llm-x.service"
TWO = "groups: {gpu: {port: 12340}, x: {port: 12600}}\n"
RESIDENT = "ctx: 2048\ngroup: none\nport: 12400\n"


def switch(world: PoolWorld, name: str) -> Switch:
    found = Switch(world.box, name, options=Options(), clock=world.clock, report=print)
    found.run()
    return found


def ctx_of(world: PoolWorld, name: str) -> int:
    """What is planned for it."""
    words = world.box.resolve(name, ask=True).plan.words
    return int(words[words.index("-c") + 1])


# Residents


def test_a_plan_leaves_room_for_residents_whether_they_run_or_not() -> None:
    world = PoolWorld(1400, config=TWO)
    world.model("a", 40, "")
    alone = ctx_of(world, "a")
    world.model("r", 10, RESIDENT)
    beside = ctx_of(world, "a")
    assert 1024 <= beside < alone
    world.installed()
    world.runs("r", "a")
    assert world.up() == [A, R]
    assert world.free_mib >= 0
    found = plan_profile(world.box, "a", None, lambda wanted: wanted)
    assert "CUDA0: 303 MiB are left for r, a resident" in found.warnings


def test_a_new_resident_makes_plans_stale_and_what_it_does_not_need_does_not() -> None:
    world = PoolWorld(1400, config=TWO)
    world.model("a", 40, "")
    world.installed()
    before = read_header(world.host.text(f"{UNIT_DIR}/{A}")).source
    assert world.box.resolve("a").source == before
    world.model("r", 10, RESIDENT)
    assert world.box.resolve("a").plan.why_not is not None
    world.apply()
    after = world.box.resolve("a").source
    assert after != before
    text = f"model: /models/r.gguf\n{RESIDENT}ttl: 1h\n"
    world.host.put(f"{CONFIG_DIR}/profiles/r.yaml", text)
    assert world.box.resolve("a").source == after


def test_a_plan_that_does_not_fit_beside_residents_names_them() -> None:
    world = PoolWorld(1400, config=TWO)
    world.model("a", 40, "ctx: 2048\ngpu_layers: all\n")
    world.model("r", 20, RESIDENT)
    why = str(world.box.resolve("a", ask=True).plan.why_not)
    assert why.startswith("a does not fit: CUDA0 needs ")
    assert why.endswith("; CUDA0: 588 MiB are left for r, a resident.")


def test_one_resident_leaves_room_for_those_before_it() -> None:
    world = PoolWorld(1200, config=TWO)
    world.model("r", 20, "group: none\nport: 12400\n")
    alone = world.box.resolve("r", ask=True).plan.words
    world.model("s", 20, "group: none\nport: 12410\n")
    assert world.box.resolve("r", ask=True).plan.words == alone
    world.model("q", 20, "ctx: 2048\ngroup: none\nport: 12420\n")
    beside = world.box.resolve("r", ask=True)
    assert beside.plan.words != alone
    taken = [Holdings(world.box).priced(world.box.resolve(name)) for name in "qr"]
    assert sum(one.total[0] for one in taken if one) <= 1200 * MIB


def test_a_resident_that_is_broken_takes_nothing_from_anybody() -> None:
    world = PoolWorld(1400, config=TWO)
    world.model("a", 40, "")
    alone = ctx_of(world, "a")
    world.model("r", 10, f"{RESIDENT}binary: none\n")
    world.profile("s", "group: none\nport: 12410\n")
    assert ctx_of(world, "a") == alone


# Groups


def grouped(total_mib: int) -> PoolWorld:
    """x of a group of its own runs, and a; b is larger than a."""
    world = PoolWorld(total_mib, config=TWO)
    for name, layers in (("a", 20), ("b", 60), ("x", 40)):
        world.model(name, layers, f"ctx: 2048\ngroup: {'x' if name == 'x' else 'gpu'}\n")
    world.installed()
    world.runs("x", "a")
    return world


def test_a_switch_touches_no_other_group() -> None:
    world = grouped(4000)
    switch(world, "b")
    assert world.up() == [B, X]


def test_what_cannot_fit_beside_another_group_stops_nothing() -> None:
    world = grouped(2000)
    with pytest.raises(DoesNotFitError) as caught:
        switch(world, "b")
    said = caught.value
    assert said.message.startswith("b does not fit beside what stays: CUDA0 needs 1.68 GiB and has")
    assert "CUDA0: x holds 1.13 GiB (group x)" in said.message
    assert said.hint == "Stop what is not needed: llmctl off x"
    assert world.up() == [A, X]


def test_what_rivals_hold_is_free_once_they_have_stopped() -> None:
    """a and x fill the card, but a goes."""
    world = grouped(2900)
    assert world.free_mib < world.uses["b"]
    switch(world, "b")
    assert world.up() == [B, X]


def test_without_company_nobody_is_asked_about_memory() -> None:
    """A switch of the usual kind is not to be slower."""
    world = grouped(4000)
    world.stop(X)
    world.host.calls.clear()
    switch(world, "b")
    assert not world.host.called("--list-devices")


def test_a_running_model_that_is_as_it_should_be_is_left_alone() -> None:
    world = grouped(1000)
    assert switch(world, "a").previous == "a"
    assert world.up() == [A, X]
