"""engine/apply.py: installed units follow the profiles, and nobody else's."""

from __future__ import annotations

import pytest
from support.fakes import HOME
from support.world import CONFIG_DIR, UNIT_DIR, Run, World

from llmctl.core.plan import Reload, RemoveUnit, WriteUnit
from llmctl.engine.apply import Change, Kind, carry_out, plan_apply, steps
from llmctl.errors import HostError

A, B, SLICE = "llm-a.service", "llm-b.service", "llm.slice"


def make_world() -> World:
    world = World()
    world.profile("a")
    world.profile("b")
    return world


def installed() -> World:
    world = make_world()
    carry_out(world.box, plan_apply(world.box))
    return world


def kinds(
    world: World, *names: str, prune: bool = False, overwrite: bool = False
) -> dict[str, str]:
    changes = plan_apply(world.box, names, prune=prune, overwrite=overwrite)
    return {one.unit: one.kind.value for one in changes}


def edit(world: World, unit: str) -> str:
    path = f"{UNIT_DIR}/{unit}"
    text = world.host.text(path).replace("RestartSec=5", "RestartSec=9")
    world.host.put(path, text)
    return text


def test_missing_units_and_their_slice_are_created() -> None:
    assert kinds(make_world()) == {A: "create", B: "create", SLICE: "create"}


def test_a_second_time_nothing_is_to_be_done() -> None:
    assert set(kinds(installed()).values()) == {"current"}


def test_a_changed_profile_makes_its_unit_stale_only() -> None:
    world = installed()
    world.profile("a", "ctx: 8192")
    assert kinds(world) == {A: "update", B: "current", SLICE: "current"}


def test_a_new_profile_makes_its_rivals_stale() -> None:
    world = installed()
    world.profile("c")
    assert kinds(world)[A] == "update"


def test_only_the_named_profiles_are_meant() -> None:
    assert set(kinds(make_world(), "a")) == {A, SLICE}


def test_a_unit_edited_by_hand_is_left_alone() -> None:
    world = installed()
    text = edit(world, A)
    carry_out(world.box, plan_apply(world.box))
    assert world.host.text(f"{UNIT_DIR}/{A}") == text


def test_a_unit_edited_by_hand_is_rendered_anew_when_asked() -> None:
    world = installed()
    edit(world, A)
    carry_out(world.box, plan_apply(world.box, overwrite=True))
    assert "RestartSec=5" in world.host.text(f"{UNIT_DIR}/{A}")


def test_a_foreign_unit_is_never_overwritten() -> None:
    world = make_world()
    world.host.put(f"{UNIT_DIR}/{A}", "[Service]\nExecStart=/theirs\n")
    carry_out(world.box, plan_apply(world.box, overwrite=True))
    assert world.host.text(f"{UNIT_DIR}/{A}") == "[Service]\nExecStart=/theirs\n"


def test_a_broken_profile_does_not_hide_the_others() -> None:
    world = make_world()
    world.profile("a", "ctx: nonsense")
    assert kinds(world) == {A: "broken", B: "create", SLICE: "create"}


def test_a_broken_profile_tells_what_is_wrong() -> None:
    world = make_world()
    world.profile("a", "ctx: nonsense")
    (change,) = [one for one in plan_apply(world.box) if one.unit == A]
    assert change.error is not None
    assert "ctx: expected" in change.error.message


def test_a_unit_without_a_profile_is_an_orphan() -> None:
    world = installed()
    world.host.remove(f"{CONFIG_DIR}/profiles/a.yaml")
    assert kinds(world)[A] == "orphan"


def test_pruning_stops_disables_and_removes_an_orphan() -> None:
    world = installed()
    world.start(A)
    world.host.remove(f"{CONFIG_DIR}/profiles/a.yaml")
    carry_out(world.box, plan_apply(world.box, prune=True))
    assert f"{UNIT_DIR}/{A}" not in world.host.paths()
    assert world.up() == []
    assert world.host.called("disable", A)


@pytest.mark.parametrize("prune", [False, True])
def test_an_edited_orphan_is_somebodys_work_and_stays(prune: bool) -> None:
    world = installed()
    world.host.remove(f"{CONFIG_DIR}/profiles/a.yaml")
    edit(world, A)
    carry_out(world.box, plan_apply(world.box, prune=prune))
    assert f"{UNIT_DIR}/{A}" in world.host.paths()


def test_foreign_units_are_no_orphans() -> None:
    world = installed()
    world.host.put(f"{UNIT_DIR}/llm-theirs.service", "[Service]\nExecStart=/x\n")
    assert "llm-theirs.service" not in kinds(world, prune=True)


def test_a_broken_profile_keeps_its_unit_when_pruning() -> None:
    world = installed()
    world.profile("a", "ctx: nonsense")
    assert kinds(world, prune=True)[A] == "broken"


def test_naming_profiles_prunes_nothing() -> None:
    world = installed()
    world.host.remove(f"{CONFIG_DIR}/profiles/a.yaml")
    assert A not in kinds(world, "b", prune=True)


def test_no_profiles_are_no_changes() -> None:
    assert plan_apply(World().box) == ()


def test_running_models_go_on() -> None:
    world = installed()
    world.goes(A, Run())
    world.start(A)
    pid = world.unit(A).pid
    world.profile("a", "ctx: 8192")
    carry_out(world.box, plan_apply(world.box))
    assert world.unit(A).pid == pid


def test_systemd_reads_what_was_written() -> None:
    assert installed().host.called("daemon-reload")


def test_nothing_to_do_is_nothing_run() -> None:
    world = installed()
    world.host.calls.clear()
    carry_out(world.box, plan_apply(world.box))
    assert world.host.calls == []


def test_a_disk_that_takes_no_unit_is_told() -> None:
    world = make_world()
    world.host.failing[UNIT_DIR] = "No space left on device"
    with pytest.raises(HostError):
        carry_out(world.box, plan_apply(world.box))


def test_a_log_file_has_its_directory() -> None:
    world = make_world()
    world.config("logs: file")
    carry_out(world.box, plan_apply(world.box))
    logs = world.host.stat(f"{HOME}/.local/state/llmctl/logs")
    assert logs is not None
    assert logs.is_dir


def test_the_steps_end_with_a_reload() -> None:
    changes = (Change(A, Kind.CREATE, None, "x"), Change(B, Kind.REMOVE, "y"))
    written, removed, reload = steps(changes)
    assert isinstance(written, WriteUnit)
    assert removed == RemoveUnit(B, "y")
    assert reload == Reload()


@pytest.mark.parametrize(
    "kind", [Kind.CURRENT, Kind.ORPHAN, Kind.EDITED, Kind.FOREIGN, Kind.BROKEN]
)
def test_what_is_left_alone_takes_no_step(kind: Kind) -> None:
    assert steps([Change(A, kind, "x", "y")]) == ()
