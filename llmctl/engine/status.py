"""What is active, ready, loading or failed on a box, told as it is."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from llmctl.core.plan import runs_otherwise
from llmctl.core.profile import Profile
from llmctl.core.state import Answer, Health, State, UnitStatus, model_state
from llmctl.core.unit import Owner, process_of, read_header
from llmctl.core.words import RESIDENT, instance_of, replica_template, unit_name
from llmctl.engine.box import Box
from llmctl.engine.process import memory, uptime
from llmctl.engine.replica_units import port_of_replica
from llmctl.engine.slept import sleep_notes, slept_here
from llmctl.errors import LlmctlError
from llmctl.health import DRAFTED, counters, probe, tokens_per_second

if TYPE_CHECKING:
    from llmctl.engine.draft_view import DraftView

SILENT = Answer(Health.SILENT)
UNITS = "llm-*.service"
Asked = Callable[[], tuple[UnitStatus, ...]]


class Instance(msgspec.Struct, frozen=True):
    """One unit that is not plainly stopped. ctx: tokens that one request may use, as its server
    says. number: 1, or more for a replica."""

    profile: str
    unit: str
    group: str
    state: State
    port: int
    pid: int
    uptime_s: float | None
    memory_bytes: int | None
    tokens_per_s: float | None = None
    notes: tuple[str, ...] = ()
    ctx: int | None = None
    draft: "DraftView | None" = None
    number: int = 1

    @property
    def name(self) -> str:
        """What people call it: the profile's name, with `@2` and so on for a replica."""
        return self.profile if self.number == 1 else f"{self.profile}@{self.number}"


class GroupView(msgspec.Struct, frozen=True):
    """One group: its active profile, in what state, and what is wrong with it. running: all that
    are ready or loading; in a pool these may be many, and `active` is the first of them that is
    ready, or else loading."""

    name: str
    active: str | None
    state: State
    faults: tuple[str, ...] = ()
    mode: str = "exclusive"
    running: tuple[str, ...] = ()


class Overview(msgspec.Struct, frozen=True):
    """A box at one moment."""

    host: str
    groups: tuple[GroupView, ...]
    instances: tuple[Instance, ...]
    problems: tuple[str, ...] = ()


def overview(box: Box, *, asked: Asked | None = None, explain: bool = False) -> Overview:
    """The state of a box: two short commands and a look at each server that is up.

    asked: gives the units of UNITS that are not plainly stopped, where they were asked for ahead.
    explain: look for what the kernel says of failures, too.
    """
    statuses = asked() if asked else box.systemd.lively_status(UNITS)
    seen = [(one, whose) for one in statuses if (whose := instance_of(one.unit))]
    known = {name: _group_of(box, name) for _, (name, _) in seen}
    instances = tuple(_instance(box, one, *whose, known[whose[0]]) for one, whose in seen)
    if explain:
        pairs = zip(seen, instances, strict=True)
        instances = tuple(_explained(box, status, one) for (status, _), one in pairs)
    names = dict.fromkeys((*box.store.config.groups, *known.values()))
    of = box.store.config.groups
    modes = {name: of[name].mode if name in of else "exclusive" for name in names}
    groups = tuple(_group(name, modes[name], instances) for name in names if name != RESIDENT)
    return Overview(box.host.name, groups, instances, _problems(box))


def _group_of(box: Box, name: str) -> str:
    """The group of a profile; where it is gone, its installed unit says so."""
    loaded = box.store.profiles.get(name)
    return loaded.group if loaded else box.store.unit_group(unit_name(name))


def _problems(box: Box) -> tuple[str, ...]:
    errors = (one.error for one in box.store.profiles.values() if one.error)
    return (*(problem for error in errors for problem in error.problems), *box.store.strays)


def _instance(box: Box, status: UnitStatus, name: str, number: int, group: str) -> Instance:
    loaded = box.store.profiles.get(name)
    profile = loaded.profile if loaded else None
    if number == 1:
        port = box.port_of(status.unit, group, pid=status.pid)
    else:
        port = port_of_replica(box, name, number, pid=status.pid)
    key = box.api_key(profile) if profile else None
    answer = probe(box.host, port, key=key) if status.active == "active" else SILENT
    state = model_state(status, answer, name)
    samples = counters(box.host, port, key=key) if state is State.READY else {}
    return Instance(
        name, status.unit, group, state, port, status.pid,
        uptime(box, status.pid), memory(box, status), tokens_per_second(samples),
        tuple(_notes(box, status, profile, answer, number)),
        answer.ctx if state is State.READY else None, _draft(box, profile, status, samples), number,
    )  # fmt: skip


def _explained(box: Box, status: UnitStatus, one: Instance) -> Instance:
    """With what the kernel says of the GPU of one that failed; only these ask and import that."""
    if not status.has_failed:
        return one
    from llmctl.engine.gpu_reports import gpu_cause

    cause = gpu_cause(box, status)
    if cause is None:
        return one
    return msgspec.structs.replace(one, notes=(*one.notes, f"{cause.what}. {cause.hint}"))


def _draft(
    box: Box, profile: Profile | None, status: UnitStatus, samples: Mapping[str, float]
) -> "DraftView | None":
    """What drafts did since the server's start; nearly always nothing, and nothing is imported."""
    if profile is None or not samples.get(DRAFTED):
        return None
    from llmctl.engine.draft_view import draft_view

    return draft_view(box, profile, status.pid, samples)


def _notes(
    box: Box, status: UnitStatus, profile: Profile | None, answer: Answer, number: int
) -> Iterable[str]:
    """What a person should know of a unit that is up or failed."""
    if answer.health is Health.READY and profile and not answer.is_from(profile.name):
        yield f"its port answers as {answer.alias}"
    if status.active == "deactivating":
        yield "it is stopping, and holds its port and memory until then"
    if status.has_failed:
        yield f"failed: {status.result}" + (
            f", restarts: {status.restarts}" * bool(status.restarts)
        )
    yield from sleep_notes(box, status, slept=slept_here(box))
    if profile is None:
        yield "its profile is gone or broken"
        return
    if number > 1:
        yield from _replica_notes(box, status, profile.name)
        return
    try:
        resolved = box.resolve(profile.name)
    except LlmctlError as error:
        yield error.message
        return
    header = read_header(box.store.unit_text(resolved.unit))
    if header.owner is Owner.EDITED:
        yield "its unit was edited by hand"
    elif status.pid and runs_otherwise(
        box.running_process(status.pid),
        resolved.process,
        kept=box.store.kept_text(resolved.unit),
    ):
        yield f"runs with older settings: llmctl switch {profile.name}"
    elif header.source != resolved.source:
        yield "its unit is stale: llmctl apply"


def _replica_notes(box: Box, status: UnitStatus, name: str) -> Iterable[str]:
    """It goes with the first instance, so a switch renews it, too."""
    wanted = process_of(box.store.unit_text(replica_template(name)))
    if status.pid and box.running_process(status.pid) not in (None, wanted):
        yield f"runs with older settings: llmctl switch {name}"


def _group(name: str, mode: str, instances: Sequence[Instance]) -> GroupView:
    mine = [one for one in instances if one.group == name and one.number == 1]
    up = [one for one in mine if one.state in (State.READY, State.LOADING)]
    up.sort(key=lambda one: one.state is not State.READY)
    running = tuple(one.profile for one in up)
    faults = []
    if len(up) > 1 and mode == "exclusive":
        names = ", ".join(running)
        faults.append(f"more than one is active: {names}; run llmctl off --group {name}")
    if up:
        return GroupView(name, up[0].profile, up[0].state, tuple(faults), mode, running)
    failed = any(one.state is State.FAILED for one in mine)
    return GroupView(name, None, State.FAILED if failed else State.STOPPED, tuple(faults), mode)


def profile_states(box: Box) -> dict[str, State]:
    """One word for every profile."""
    states = {one.profile: one.state for one in overview(box).instances if one.number == 1}
    return {name: states.get(name, State.STOPPED) for name in box.store.names}
