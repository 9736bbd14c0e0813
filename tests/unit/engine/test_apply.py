"""engine/apply.py: installed units follow the profiles, and nobody else's."""

from __future__ import annotations

import pytest
from support.fakes import HOME
from support.world import CONFIG_DIR, UNIT_DIR, Run, World

from llmctl.core.plan import RemoveUnit, Stop, WriteUnit
from llmctl.core.progress import Began, Event, Waiting
from llmctl.engine.apply import Change, Kind, plan_apply, steps
from llmctl.errors import HostError, NoAnswerError

A, B, SLICE = "llm-a.service", "llm-b.service", "llm.slice"


def make_world() -> World:
    world = World()
    world.profile("a")
    world.profile("b")
    return world


def installed() -> World:
    world = make_world()
    world.apply()
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
    world.apply()
    assert world.host.text(f"{UNIT_DIR}/{A}") == text


def test_a_unit_edited_by_hand_is_rendered_anew_when_asked() -> None:
    world = installed()
    edit(world, A)
    world.apply(overwrite=True)
    assert "RestartSec=5" in world.host.text(f"{UNIT_DIR}/{A}")


def test_a_foreign_unit_is_never_overwritten() -> None:
    world = make_world()
    world.host.put(f"{UNIT_DIR}/{A}", "[Service]\nExecStart=/theirs\n")
    world.apply(overwrite=True)
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
    world.apply(prune=True)
    assert f"{UNIT_DIR}/{A}" not in world.host.paths()
    assert world.up() == []
    assert world.host.called("disable", A)


def test_pruning_waits_until_the_model_is_gone() -> None:
    world = installed()
    world.goes(A, Run(stop_s=8.0))
    world.start(A)
    world.host.remove(f"{CONFIG_DIR}/profiles/a.yaml")
    events: list[Event] = []
    there: list[bool] = []
    world.clock.after(7.0, lambda: there.append(f"{UNIT_DIR}/{A}" in world.host.paths()))
    world.apply(prune=True, events=events)
    assert there == [True]
    assert world.unit(A).active == "inactive"
    assert f"{UNIT_DIR}/{A}" not in world.host.paths()
    assert any(isinstance(one, Waiting) and one.what == f"{A} is stopping" for one in events)


def test_a_model_that_does_not_stop_keeps_its_unit() -> None:
    world = installed()
    world.goes(A, Run(stop_s=1e6))
    world.start(A)
    world.host.remove(f"{CONFIG_DIR}/profiles/a.yaml")
    with pytest.raises(NoAnswerError, match=f"{A} did not stop within 3660 s"):
        world.apply(prune=True)
    assert f"{UNIT_DIR}/{A}" in world.host.paths()


def emptied() -> World:
    """Everything is installed, and no profile is left."""
    world = installed()
    for name in ("a", "b"):
        world.host.remove(f"{CONFIG_DIR}/profiles/{name}.yaml")
    return world


def test_the_slice_goes_with_the_last_unit_and_is_never_stopped() -> None:
    world = emptied()
    world.apply(prune=True)
    assert world.host.paths(UNIT_DIR) == ()
    for verb in ("stop", "disable", "reset-failed"):
        assert not world.host.called(verb, SLICE)


def test_without_pruning_the_slice_stays() -> None:
    world = emptied()
    world.apply()
    assert f"{UNIT_DIR}/{SLICE}" in world.host.paths()


def test_the_slice_stays_while_a_profile_is_left() -> None:
    world = installed()
    world.host.remove(f"{CONFIG_DIR}/profiles/a.yaml")
    world.apply(prune=True)
    assert f"{UNIT_DIR}/{SLICE}" in world.host.paths()


def test_the_slice_stays_while_a_hand_made_unit_is_left() -> None:
    world = emptied()
    world.host.put(f"{UNIT_DIR}/llm-theirs.service", "[Service]\nSlice=llm.slice\n")
    world.apply(prune=True)
    assert world.host.paths(UNIT_DIR) == (
        f"{UNIT_DIR}/llm-theirs.service",
        f"{UNIT_DIR}/{SLICE}",
    )


def test_the_slice_stays_while_an_edited_unit_is_left() -> None:
    world = emptied()
    edit(world, A)
    world.apply(prune=True)
    assert world.host.paths(UNIT_DIR) == (f"{UNIT_DIR}/{A}", f"{UNIT_DIR}/{SLICE}")


def test_a_slice_that_was_edited_stays() -> None:
    world = emptied()
    path = f"{UNIT_DIR}/{SLICE}"
    world.host.put(path, f"{world.host.text(path)}[Slice]\nMemoryMax=1G\n")
    world.apply(prune=True)
    assert world.host.paths(UNIT_DIR) == (path,)


@pytest.mark.parametrize("prune", [False, True])
def test_an_edited_orphan_is_somebodys_work_and_stays(prune: bool) -> None:
    world = installed()
    world.host.remove(f"{CONFIG_DIR}/profiles/a.yaml")
    edit(world, A)
    world.apply(prune=prune)
    assert f"{UNIT_DIR}/{A}" in world.host.paths()


@pytest.mark.parametrize("prune", [False, True])
def test_an_edited_orphan_is_told_as_edited(prune: bool) -> None:
    world = installed()
    world.host.remove(f"{CONFIG_DIR}/profiles/a.yaml")
    edit(world, A)
    assert kinds(world, prune=prune, overwrite=True)[A] == "edited"


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
    world.apply()
    assert world.unit(A).pid == pid


def test_systemd_reads_what_was_written() -> None:
    assert installed().host.called("daemon-reload")


def test_nothing_to_do_is_nothing_run() -> None:
    world = installed()
    world.host.calls.clear()
    world.apply()
    assert world.host.calls == []


def test_a_disk_that_takes_no_unit_is_told() -> None:
    world = make_world()
    world.host.failing[UNIT_DIR] = "No space left on device"
    with pytest.raises(HostError):
        world.apply()


def test_an_error_in_the_middle_says_what_was_done_and_systemd_knows_of_it() -> None:
    world = make_world()
    world.host.full.add(f"{UNIT_DIR}/{B}")
    with pytest.raises(HostError) as caught:
        world.apply()
    assert caught.value.message == (
        f"{UNIT_DIR}/{B} cannot be written: No space left on device. Done before that: write {A}."
    )
    assert world.host.called("daemon-reload")
    assert f"{UNIT_DIR}/{A}" in world.host.paths()


def test_an_error_at_once_changes_nothing_and_says_so() -> None:
    world = make_world()
    world.host.full.add(UNIT_DIR)
    with pytest.raises(HostError, match=r"Done before that: nothing\.$"):
        world.apply()
    assert world.host.paths(UNIT_DIR) == ()
    assert not world.host.called("daemon-reload")


def test_the_first_fault_is_the_one_that_is_told() -> None:
    world = make_world()
    world.host.full.add(f"{UNIT_DIR}/{B}")
    world.refuses["daemon-reload"] = "Access denied"
    with pytest.raises(HostError, match="No space left on device"):
        world.apply()


def test_a_reload_that_fails_is_told() -> None:
    world = make_world()
    world.refuses["daemon-reload"] = "Access denied"
    with pytest.raises(HostError, match=r"systemctl daemon-reload failed: Access denied\.$"):
        world.apply()


def test_what_cannot_be_disabled_stays() -> None:
    world = installed()
    world.host.remove(f"{CONFIG_DIR}/profiles/a.yaml")
    world.refuses["disable"] = "Access denied"
    with pytest.raises(HostError, match=r"Access denied\. Done before that: nothing\.$"):
        world.apply(prune=True)
    assert f"{UNIT_DIR}/{A}" in world.host.paths()


def test_the_steps_are_reported() -> None:
    events: list[Event] = []
    make_world().apply(events=events)
    steps = [event.step for event in events if isinstance(event, Began)]
    assert [step.unit.name for step in steps if isinstance(step, WriteUnit)] == [A, B, SLICE]


def test_a_log_file_has_its_directory() -> None:
    world = make_world()
    world.config("logs: file")
    world.apply()
    logs = world.host.stat(f"{HOME}/.local/state/llmctl/logs")
    assert logs is not None
    assert logs.is_dir


def test_what_goes_is_stopped_before_anything_else() -> None:
    changes = (Change(A, Kind.CREATE, None, "x"), Change(B, Kind.REMOVE, "y"))
    stopped, written, removed = steps(changes)
    assert stopped == Stop((B,))
    assert isinstance(written, WriteUnit)
    assert removed == RemoveUnit(B, "y")


def test_the_slice_is_removed_and_not_stopped() -> None:
    changes = (Change(A, Kind.REMOVE, "x"), Change(SLICE, Kind.REMOVE, "y"))
    assert steps(changes) == (Stop((A,)), RemoveUnit(A, "x"), RemoveUnit(SLICE, "y"))


def test_a_slice_alone_stops_nothing() -> None:
    assert steps([Change(SLICE, Kind.REMOVE, "y")]) == (RemoveUnit(SLICE, "y"),)


@pytest.mark.parametrize(
    "kind", [Kind.CURRENT, Kind.ORPHAN, Kind.EDITED, Kind.FOREIGN, Kind.BROKEN]
)
def test_what_is_left_alone_takes_no_step(kind: Kind) -> None:
    assert steps([Change(A, kind, "x", "y")]) == ()


# Replicas

MORE = "llm-a@.service"


def replicated() -> World:
    world = make_world()
    world.profile("a", "replicas: {max: 2}")
    world.apply()
    return world


def test_replicas_have_a_unit_of_their_own() -> None:
    world = make_world()
    world.profile("a", "replicas: {max: 2}")
    assert kinds(world) == {A: "create", MORE: "create", B: "create", SLICE: "create"}
    world.apply()
    assert set(kinds(world).values()) == {"current"}


def test_it_becomes_stale_with_the_models_own() -> None:
    world = replicated()
    world.profile("a", "replicas: {max: 3}")
    assert kinds(world) == {A: "current", MORE: "update", B: "current", SLICE: "current"}
    world.profile("a", "replicas: {max: 3}\nctx: 8192")
    assert kinds(world)[A] == kinds(world)[MORE] == "update"


def test_it_goes_when_there_are_to_be_none() -> None:
    world = replicated()
    world.profile("a")
    assert kinds(world)[MORE] == "remove"
    world.apply()
    assert kinds(world) == {A: "current", B: "current", SLICE: "current"}


def test_it_is_left_over_with_the_models_own() -> None:
    world = replicated()
    world.host.remove(f"{CONFIG_DIR}/profiles/a.yaml")
    assert kinds(world)[A] == kinds(world)[MORE] == "orphan"
    assert kinds(world, prune=True)[A] == kinds(world, prune=True)[MORE] == "remove"


def test_an_edited_one_is_respected() -> None:
    world = replicated()
    path = f"{UNIT_DIR}/{MORE}"
    world.host.put(path, world.host.text(path).replace("OOMScoreAdjust=400", "Nice=5"))
    assert kinds(world)[MORE] == "edited"
    assert kinds(world, overwrite=True)[MORE] == "update"
