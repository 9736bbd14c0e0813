"""engine/status.py: the state of a box, told as it is."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from support.world import CONFIG_DIR, UNIT_DIR, Run, World

from llmctl.core.state import State
from llmctl.engine.status import GroupView, Instance, overview, profile_states

A, B = "llm-a.service", "llm-b.service"


def make_world() -> World:
    world = World()
    world.profile("a")
    world.profile("b")
    world.apply()
    return world


def running(run: Run | None = None, *, after: float = 1.0) -> World:
    world = make_world()
    world.goes(A, run or Run())
    world.start(A)
    world.clock.sleep(after)
    return world


def only(world: World) -> Instance:
    (instance,) = overview(world.box).instances
    return instance


def test_an_idle_box_has_its_groups_and_no_instances() -> None:
    seen = overview(make_world().box)
    assert seen.groups == (GroupView("gpu", None, State.STOPPED),)
    assert seen.instances == ()


def test_a_box_without_profiles_has_its_group() -> None:
    assert overview(World().box).groups == (GroupView("gpu", None, State.STOPPED),)


@pytest.mark.parametrize(
    ("run", "after", "state"),
    [
        (Run(), 1.0, State.READY),
        (Run(ready_s=60), 1.0, State.LOADING),
        (Run(alias="other"), 1.0, State.LOADING),
        (Run(queue_s=60), 1.0, State.LOADING),
        (Run(crash_s=0.1), 1.0, State.FAILED),
        (Run(crash_s=0.1, again=True), 1.0, State.FAILED),
    ],
)
def test_a_model_is_in_one_state(run: Run, after: float, state: State) -> None:
    assert only(running(run, after=after)).state is state


def test_the_group_tells_its_active_profile() -> None:
    (group,) = overview(running().box).groups
    assert group == GroupView("gpu", "a", State.READY, running=("a",))


def test_a_failed_model_is_not_active() -> None:
    (group,) = overview(running(Run(crash_s=0.1)).box).groups
    assert group == GroupView("gpu", None, State.FAILED)


def test_more_than_one_active_is_named_as_a_fault() -> None:
    world = running()
    world.shows(B, replace(world.unit(A), unit=B))
    (group,) = overview(world.box).groups
    assert "more than one is active: a, b" in group.faults[0]


def test_residents_beside_a_group_are_no_fault() -> None:
    world = World()
    world.profile("a")
    world.profile("r", "group: none\nport: 12400")
    world.apply()
    world.start(A)
    world.start("llm-r.service")
    (group,) = overview(world.box).groups
    assert group.faults == ()


def test_memory_without_accounting_is_the_processs() -> None:
    assert only(running(Run(reads_until_s=60), after=10)).memory_bytes == 10 * 4096 * 1024


def test_memory_is_the_cgroups_where_it_is_counted() -> None:
    world = running()
    world.shows(A, replace(world.unit(A), memory_bytes=123))
    assert only(world).memory_bytes == 123


def test_uptime_is_told() -> None:
    world = running()
    fields = "S 1 77 77 0 -1 4194560 1 0 0 0 5 5 0 0 20 0 9 0 1000 1 1"
    world.host.put(f"/proc/{world.unit(A).pid}/stat", f"77 (x) {fields}")
    world.host.put("/proc/uptime", "70.0 1.0\n")
    assert only(world).uptime_s == pytest.approx(60.0)


def test_a_healthy_model_has_no_notes() -> None:
    assert only(running()).notes == ()


def notes(world: World) -> str:
    return " ".join(only(world).notes)


def test_another_name_on_the_port_is_noted() -> None:
    assert "its port answers as other" in notes(running(Run(alias="other")))


def test_a_failure_is_noted() -> None:
    assert "failed: exit-code" in notes(running(Run(crash_s=0.1)))


def test_older_settings_are_noted() -> None:
    world = running()
    world.profile("a", "ctx: 8192")
    assert "runs with older settings: llmctl switch a" in notes(world)


def test_a_new_neighbour_makes_the_unit_stale_and_not_the_process() -> None:
    world = running()
    world.profile("c")
    assert notes(world) == "its unit is stale: llmctl apply"


def test_an_edit_by_hand_is_noted() -> None:
    world = running()
    path = f"{UNIT_DIR}/{A}"
    world.host.put(path, world.host.text(path).replace("RestartSec=5", "RestartSec=9"))
    assert "its unit was edited by hand" in notes(world)


@pytest.mark.parametrize("text", [None, "ctx: nonsense"])
def test_a_profile_that_is_gone_or_broken_is_noted(text: str | None) -> None:
    world = running()
    if text is None:
        world.host.remove(f"{CONFIG_DIR}/profiles/a.yaml")
    else:
        world.profile("a", text)
    assert "its profile is gone or broken" in notes(world)


def test_a_model_whose_profile_is_gone_still_counts_in_its_group() -> None:
    world = running()
    world.host.remove(f"{CONFIG_DIR}/profiles/a.yaml")
    (group,) = overview(world.box).groups
    assert group.active == "a"


def test_broken_profiles_are_problems_of_the_box() -> None:
    world = make_world()
    world.profile("b", "ctx: nonsense")
    (problem,) = overview(world.box).problems
    assert problem.startswith(f"{CONFIG_DIR}/profiles/b.yaml: ctx: ")


def test_every_profile_has_a_state() -> None:
    assert profile_states(running().box) == {"a": State.READY, "b": State.STOPPED}


def test_a_model_is_looked_for_on_the_port_that_its_unit_says() -> None:
    world = running()
    world.config("groups: {gpu: {port: 12399}}")
    assert (only(world).port, only(world).state) == (12340, State.READY)


def test_a_running_model_is_looked_for_on_the_port_that_it_was_started_with() -> None:
    """A newer text, with another port, is installed; the process goes on from the older one."""
    world = running()
    world.config("groups: {gpu: {port: 12399}}")
    world.apply()
    assert (only(world).port, only(world).state) == (12340, State.READY)


def test_units_may_have_been_asked_for_ahead() -> None:
    world = running()
    status = world.unit(A)
    world.host.calls.clear()
    (instance,) = overview(world.box, asked=lambda: (status,)).instances
    assert (instance.profile, instance.state) == ("a", State.READY)
    assert not world.host.called("systemctl")


def test_a_digest_that_cannot_be_read_is_no_sign_of_older_settings() -> None:
    world = running()
    world.host.failing[f"/proc/{world.unit(A).pid}/environ"] = "Permission denied"
    assert only(world).notes == ()
