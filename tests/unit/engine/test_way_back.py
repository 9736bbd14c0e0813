"""The way back, and who else may be on it; off among broken files; the slice that stays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace
from support.world import CONFIG_DIR, UNIT_DIR, Run, World

from llmctl.engine.off import units_of
from llmctl.engine.switch import Options, Switch, Switched
from llmctl.errors import (
    HostError,
    LostError,
    NoAnswerError,
    NothingRunsError,
    SwitchError,
    UnreachableError,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from support.fakes import Output

A, B, SLICE = "llm-a.service", "llm-b.service", "llm.slice"


def made(*names: str) -> World:
    world = World()
    for name in names:
        world.profile(name)
    world.apply()
    return world


def switch(world: World, name: str) -> Switched:
    options = Options()
    return Switch(world.box, name, options=options, clock=world.clock, report=print).run()


def test_without_pruning_a_slice_that_is_alone_stays() -> None:
    world = made("a")
    world.host.remove(f"{CONFIG_DIR}/profiles/a.yaml")
    world.host.remove(f"{UNIT_DIR}/{A}")
    world.apply()
    assert world.host.paths(UNIT_DIR) == (f"{UNIT_DIR}/{SLICE}",)


def test_before_a_start_was_asked_for_the_outcome_is_known() -> None:
    world = made("a")
    switch(world, "a")
    world.profile("b")
    world.hangs.add("daemon-reload")
    with pytest.raises(NoAnswerError) as caught:
        switch(world, "b")
    assert caught.value.message == "systemctl did not end within 15 s."
    assert world.up() == [A]


def test_a_unit_whose_file_is_gone_is_in_the_default_group() -> None:
    world = made("a")
    world.start(A)
    world.host.remove(f"{UNIT_DIR}/{A}")
    assert units_of(world.box, "gpu", everything=False) == (A,)


def test_a_unit_file_that_cannot_be_read_hides_no_other() -> None:
    world = made("a")
    world.start(A)
    path = "/etc/systemd/user/llm-x.service"
    world.host.put(path, "x")
    world.host.failing[path] = "Permission denied"
    world.shows("llm-x.service", replace(world.unit(A), unit="llm-x.service", path=path))
    assert A in units_of(world.box, None, everything=True)


def test_a_residents_unit_that_does_not_say_its_port_listens_at_its_own() -> None:
    world = World()
    world.profile("r", "group: none\nport: 12400")
    world.apply()
    path = f"{UNIT_DIR}/llm-r.service"
    world.host.put(path, world.host.text(path).replace("Port=12400\n", ""))
    assert world.box.target("r").port == 12400


def meanwhile(world: World, do: object) -> None:
    """While it is read why a model failed."""
    journal = world.host.programs["/usr/bin/journalctl"]

    def program(argv: object) -> Output:
        do()  # type: ignore[operator]
        return journal(argv)  # type: ignore[arg-type]

    world.host.programs["/usr/bin/journalctl"] = program


def test_a_rollback_does_not_take_the_box_from_a_foreign_unit() -> None:
    world = World()
    world.config("groups: {gpu: {port: 12340, conflicts: [ollama.service]}}")
    world.profile("a")
    world.profile("b")
    world.apply()
    switch(world, "a")
    world.goes(B, Run(ready_s=60, crash_s=1.0))
    meanwhile(world, lambda: world.start("ollama.service"))
    with pytest.raises(SwitchError, match=r"b was displaced by ollama\.service"):
        switch(world, "b")
    assert world.up() == ["ollama.service"]


def test_a_manager_that_refuses_while_going_back_hides_no_reason() -> None:
    world = made("a", "b")
    switch(world, "a")
    world.goes(B, Run(ready_s=60, crash_s=1.0, says=("cudaMalloc failed: out of memory",)))
    meanwhile(world, lambda: world.refuses.update({"list-jobs": "Access denied"}))
    with pytest.raises(NothingRunsError) as caught:
        switch(world, "b")
    assert caught.value.message == (
        "b failed: the GPU ran out of memory; and going back failed too: "
        "systemctl list-jobs failed: Access denied."
    )


def loses(world: World, word: str, error: HostError) -> None:
    """The way to the box is gone when systemctl is to be run with that word."""
    systemctl = world.host.programs["/usr/bin/systemctl"]

    def program(argv: Sequence[str]) -> Output:
        if word in argv:
            raise error
        return systemctl(argv)

    world.host.programs["/usr/bin/systemctl"] = program


def test_a_link_that_is_lost_before_the_start_was_sent_is_no_failed_switch() -> None:
    world = made("a", "b")
    switch(world, "a")
    loses(world, "start", UnreachableError("the connection to box is lost: it was not run."))
    with pytest.raises(UnreachableError, match="was not run"):
        switch(world, "b")
    assert world.up() == [A]


@pytest.mark.parametrize("kind", [LostError, UnreachableError])
@pytest.mark.parametrize(
    ("first", "whether"),
    [(A, "a runs again"), (None, "anything runs now")],
)
def test_a_link_that_is_lost_on_the_way_back_leaves_it_open_what_runs(
    kind: type[HostError], first: str | None, whether: str
) -> None:
    """Status 5, and not "nothing runs"."""
    world = made("a", "b")
    if first:
        switch(world, "a")
    world.goes(B, Run(ready_s=60, crash_s=1.0, says=("cudaMalloc failed: out of memory",)))
    meanwhile(world, lambda: loses(world, "systemctl", kind("the connection to box was lost.")))
    with pytest.raises(NoAnswerError) as caught:
        switch(world, "b")
    assert caught.value.message == (
        "b failed: the GPU ran out of memory. the connection to box was lost. "
        f"Whether {whether} is not known."
    )
    assert caught.value.exit_status == 5
