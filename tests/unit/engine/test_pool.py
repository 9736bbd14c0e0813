"""engine/pool.py, pool_switch.py: members that run together, and who makes room for whom."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.poolworld import DEVICES, POOL, PoolWorld
from support.world import UNIT_DIR, Run

from llmctl.core.progress import Note
from llmctl.engine.off import units_named
from llmctl.engine.pool import Seen, held_now, ledger, make_room, settled_room
from llmctl.engine.switch import Options, Switch, Switched, dry_run
from llmctl.errors import DoesNotFitError, NothingRunsError, ProfileError, SwitchError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmctl.core.progress import Event

MIB = 1 << 20
A, B, C = "llm-a.service", "llm-b.service", "llm-c.service"
IDLE = {"a": Seen(idle_s=100.0), "b": Seen(idle_s=10.0)}


def world_of(total_mib: int = 3000, devices: str = DEVICES) -> PoolWorld:
    """a and b take 1154 MiB each, c 1724, all as planned; a and b run."""
    world = PoolWorld(total_mib, devices=devices)
    for name, layers in (("a", 40), ("b", 40), ("c", 60)):
        world.model(name, layers)
    world.installed()
    world.runs("a", "b")
    return world


def room(world: PoolWorld, name: str, seen: Mapping[str, Seen]) -> tuple[str, ...]:
    return make_room(world.box, name, seen, clock=world.clock, report=print)


def refused(world: PoolWorld, name: str, seen: Mapping[str, Seen] = IDLE) -> DoesNotFitError:
    before = world.up()
    with pytest.raises(DoesNotFitError) as caught:
        room(world, name, seen)
    assert world.up() == before
    return caught.value


def switch(
    world: PoolWorld, name: str, options: Options | None = None, events: list[Event] | None = None
) -> Switched:
    report = (events if events is not None else []).append
    found = Switch(
        world.box, name, options=options or Options(), clock=world.clock, report=report
    )  # fmt: skip
    return found.run()


# What there is


def test_the_ledger_is_what_the_plans_and_the_card_say() -> None:
    world = world_of()
    found = ledger(world.box, "c")
    assert found.need["CUDA0"] == found.need["CUDA0 as planned"] > 1700 * MIB
    assert found.free["CUDA0"] == (3000 - 2 * 1154) * MIB
    assert found.holds.keys() == {"a", "b"}
    assert found.holds["a"]["CUDA0 as planned"] == found.holds["b"]["CUDA0 as planned"]
    assert 1153 * MIB < found.holds["a"]["CUDA0 as planned"] <= 1154 * MIB
    assert found.holds["a"]["CUDA0"] <= found.holds["a"]["CUDA0 as planned"]


def test_a_member_that_is_started_again_while_it_stops_is_one_that_runs() -> None:
    world = world_of()
    world.goes(B, Run(stop_s=1e6))
    world.stop(B)
    began = world.clock.now()
    world.clock.after(1.0, lambda: world.start(B))
    found = settled_room(world.box, "c", clock=world.clock, report=print)
    assert [one.name for one in found.holders] == ["a", "b"]
    assert world.clock.now() - began < 5


def test_what_other_programs_hold_is_not_free() -> None:
    world = world_of()
    world.others_mib = 500
    assert ledger(world.box, "c").free["CUDA0"] == (3000 - 2 * 1154 - 500) * MIB


def test_what_loads_will_have_taken_its_part() -> None:
    world = world_of()
    world.stop(B)
    world.goes(B, Run(ready_s=60))
    world.uses["b"] = 0
    world.start(B)
    found = ledger(world.box, "c")
    assert found.free["CUDA0"] <= (3000 - 2 * 1153) * MIB


def test_a_declared_size_does_not_shrink_and_yet_is_shared() -> None:
    """What config.yaml declares is all there is, whatever the machine says."""
    text = "devices: {CUDA0: {free: 3000MiB, reserve: 0}, RAM: {reserve: 0}}\n"
    world = world_of(9000, devices=text)
    found = ledger(world.box, "c")
    assert "CUDA0" not in found.need
    assert found.free["CUDA0 as planned"] <= (3000 - 2 * 1153) * MIB
    assert room(world, "c", IDLE) == ("a",)


def test_mapped_weights_count_though_the_machine_calls_them_free() -> None:
    """Of a model on the CPU the machine says that its pages are free memory."""
    world = PoolWorld(ram_mib=3000)
    for name in "abc":
        world.model(name, 40, "ctx: 2048\ngpu_layers: 0\n")
    world.installed()
    world.runs("a", "b")
    found = ledger(world.box, "c")
    assert found.need["host"] < found.free["host"]
    assert found.need["host as planned"] > found.free["host as planned"]
    assert room(world, "c", IDLE) == ("a",)


# Who goes


def test_nobody_goes_for_what_fits() -> None:
    world = world_of(5000)
    assert room(world, "c", {}) == ()
    assert world.up() == [A, B]


def test_the_one_that_has_been_idle_longest_goes_and_no_other() -> None:
    world = world_of()
    assert room(world, "c", IDLE) == ("a",)
    assert world.up() == [B]


def test_as_many_go_as_are_needed() -> None:
    world = world_of(2400)
    assert room(world, "c", IDLE) == ("a", "b")
    assert world.up() == []


def test_a_busy_one_stays_and_so_the_other_goes() -> None:
    world = world_of()
    assert room(world, "c", IDLE | {"a": Seen(busy=True)}) == ("b",)


def test_none_goes_if_all_that_may_go_are_not_enough() -> None:
    error = refused(world_of(2400), "c", IDLE | {"b": Seen(busy=True)})
    assert "CUDA0 needs 1.69 GiB and has 92 MiB" in error.message
    assert "a holds 1.13 GiB (idle), b holds 1.13 GiB (busy)" in error.message
    assert error.hint == "Try again when b is idle, or type: llmctl off b"


def test_one_of_whom_nothing_is_known_is_busy() -> None:
    assert "a holds 1.13 GiB (busy)" in refused(world_of(), "c", {}).message


def test_a_pinned_one_stays() -> None:
    world = world_of()
    world.model("a", 40, "ctx: 2048\npin: true\n")
    assert room(world, "c", IDLE) == ("b",)


def test_pinned_ones_are_named_and_nobody_is_asked_to_wait_for_them() -> None:
    world = world_of()
    for name in "ab":
        world.model(name, 40, "ctx: 2048\npin: true\n")
    error = refused(world, "c")
    assert "a holds 1.13 GiB (pinned), b holds 1.13 GiB (pinned)" in error.message
    assert str(error.hint).startswith("llmctl plan c shows what it needs")


def test_one_that_loads_stays() -> None:
    world = world_of(2400)
    world.stop(B)
    world.goes(B, Run(ready_s=600))
    world.start(B)
    assert "b holds 1.13 GiB (loading)" in refused(world, "c").message


def test_residents_and_other_groups_hold_too_and_never_go() -> None:
    world = PoolWorld(3000, config="groups: {gpu: {port: 12340, mode: pool}, x: {port: 12600}}\n")
    world.model("c", 60)
    world.model("r", 40, "ctx: 2048\ngroup: none\nport: 12400\n")
    world.model("x", 10, "ctx: 2048\ngroup: x\n")
    world.installed()
    world.runs("r", "x")
    world.others_mib = 400
    assert ledger(world.box, "c").holds == {}
    error = refused(world, "c", {"r": Seen(1e9), "x": Seen(1e9)})
    assert "r holds 1.13 GiB (resident), x holds 299 MiB (group x)" in error.message
    assert "other programs and what runtimes take hold 40" in error.message
    told = ledger(world.box, "c").beside
    assert told.startswith("CUDA0: r holds 1.13 GiB (resident), x holds 299 MiB (group x), other")
    assert held_now(world.box, "c")[0] == told.partition(". host")[0].rstrip(".")


def test_the_ledger_tells_of_others_but_not_of_members() -> None:
    """Of members it says it in numbers."""
    world = world_of()
    assert ledger(world.box, "c").beside == ""
    world.others_mib = 500
    told = "CUDA0: other programs and what runtimes take hold 500 MiB."
    assert ledger(world.box, "c").beside == told
    assert held_now(world.box, "c")[0].startswith("CUDA0: a holds 1.13 GiB, b holds 1.13 GiB, ")


def test_what_stops_already_is_waited_for() -> None:
    world = world_of()
    world.goes(A, Run(stop_s=5))
    world.stop(A)
    began = world.clock.now()
    assert room(world, "c", {}) == ()
    assert world.clock.now() - began >= 5
    assert world.up() == [B]


def test_a_model_that_cannot_be_planned_runs_alone() -> None:
    world = world_of(9000)
    world.profile("odd")
    world.apply()
    assert room(world, "odd", IDLE) == ("a", "b")
    world.runs("odd")
    error = refused(world, "a")
    assert error.message == (
        "a does not fit: a model that cannot be planned runs alone in its pool. "
        "odd holds nobody knows how much (busy)."
    )
    assert room(world, "a", {"odd": Seen()}) == ("odd",)


def test_it_is_told_who_runs_where_nothing_can_be_planned() -> None:
    world = world_of(9000)
    world.profile("odd")
    error = refused(world, "odd", IDLE | {"a": Seen(busy=True)})
    assert error.message == (
        "odd does not fit: a model that cannot be planned runs alone in its pool. "
        "a runs (busy), b runs (idle)."
    )


# Switching


def test_a_switch_starts_a_member_beside_the_others() -> None:
    world = world_of(5000)
    done = switch(world, "c")
    assert (done.previous, done.stopped) == (None, ())
    assert world.up() == [A, B, C]


def test_a_switch_makes_room_and_says_so() -> None:
    world = world_of()
    world.busy = {"b"}
    events: list[Event] = []
    done = switch(world, "c", events=events)
    assert done.stopped == ("a",)
    assert world.up() == [B, C]
    assert Note("a makes room for c") in events


def test_the_dry_run_shows_who_would_stop() -> None:
    world = world_of()
    world.busy = {"a"}
    work = Switch(world.box, "c", options=Options(), clock=world.clock, report=print)
    assert dry_run(work) == (f"stop {B}", f"start {C}", "wait until c answers")
    assert world.up() == [A, B]


def test_a_switch_never_ends_a_busy_member() -> None:
    world = world_of()
    world.busy = {"a", "b"}
    with pytest.raises(DoesNotFitError, match=r"a holds 1.13 GiB \(busy\)"):
        switch(world, "c")
    assert world.up() == [A, B]


def test_nothing_makes_room_for_what_runs_as_it_should() -> None:
    world = world_of(1000)
    assert switch(world, "a").stopped == ()
    assert world.up() == [A, B]


def test_a_restart_needs_what_it_gives_back() -> None:
    """Its own memory is free once it has stopped."""
    world = world_of(2400)
    world.model("a", 40, "ctx: 2048\nthreads: 3\n")
    done = switch(world, "a")
    assert (done.previous, done.stopped) == ("a", ())
    assert world.up() == [A, B]


def test_who_sees_to_it_that_there_is_room_is_not_asked_again() -> None:
    """As the proxy does, which knows more of what members do."""
    world = world_of()
    switch(world, "c", Options(room=False))
    assert world.up() == [A, B, C]


def test_members_that_made_room_come_back_if_it_fails() -> None:
    world = world_of()
    world.goes(C, Run(crash_s=0.1))
    with pytest.raises(SwitchError) as caught:
        switch(world, "c")
    assert not isinstance(caught.value, NothingRunsError)
    assert caught.value.message.endswith("a made room, and runs again; b still runs.")
    assert world.up() == [A, B]


def test_the_others_of_a_pool_are_no_nothing() -> None:
    world = world_of(5000)
    world.goes(C, Run(crash_s=0.1))
    with pytest.raises(SwitchError) as caught:
        switch(world, "c")
    assert caught.value.message.endswith("a and b still run.")
    assert caught.value.exit_status == 6


def test_where_nothing_else_runs_nothing_runs() -> None:
    world = world_of(5000)
    world.stop(A)
    world.stop(B)
    world.goes(C, Run(crash_s=0.1))
    with pytest.raises(NothingRunsError, match="Nothing ran before"):
        switch(world, "c")


def test_a_member_from_when_the_group_was_exclusive_is_renewed() -> None:
    """Its installed unit would stop the wanted one, and the wanted one it."""
    world = PoolWorld(5000, config="groups: {gpu: {port: 12340}}\n")
    for name in "ab":
        world.model(name, 40)
    world.installed()
    world.config(POOL)
    switch(world, "a")
    switch(world, "b")
    assert world.up() == [A, B]
    texts = [world.host.text(f"{UNIT_DIR}/{unit}") for unit in (A, B)]
    assert not any("Conflicts=" in text for text in texts)


def test_a_switch_of_one_group_touches_no_other() -> None:
    world = PoolWorld(9000, config="groups: {gpu: {port: 12340}, x: {port: 12600}}\n")
    for name in "abc":
        world.model(name, 40, f"ctx: 2048\ngroup: {'x' if name == 'c' else 'gpu'}\n")
    world.installed()
    world.runs("c", "a")
    switch(world, "b")
    assert world.up() == [B, C]


# Off


def test_one_member_can_be_stopped_by_name() -> None:
    world = world_of()
    assert units_named(world.box, ["a"]) == (A,)
    with pytest.raises(ProfileError, match="there is no profile nobody"):
        units_named(world.box, ["nobody"])
