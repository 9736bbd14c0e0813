"""wanted + observed -> steps; steps done -> steps back. Plain data: the dry run prints the same.

systemd owns the state. Nothing here stops a rival by hand: `Conflicts=` does, and the ordering in
the units makes it do so first. No observation gates a start; it only decides whether a running
process must be restarted because it was started from another text.
"""

from collections.abc import Mapping, Sequence

import msgspec

from llmctl.core.unit import Owner, UnitFile, process_of, read_header
from llmctl.core.words import profile_of


class WriteUnit(msgspec.Struct, frozen=True):
    """Install a unit file; `before` is the text that was there."""

    unit: UnitFile
    before: str | None = None


class RemoveUnit(msgspec.Struct, frozen=True):
    """Remove a unit file of ours; `before` is its text."""

    name: str
    before: str


class Reload(msgspec.Struct, frozen=True):
    """systemctl daemon-reload."""


class Start(msgspec.Struct, frozen=True):
    """Make a unit active. A no-op on one that is."""

    unit: str


class Restart(msgspec.Struct, frozen=True):
    """Start a unit anew, so that it runs from its present text."""

    unit: str


class Stop(msgspec.Struct, frozen=True):
    """Stop units, and forget their failures."""

    units: tuple[str, ...]


class AwaitReady(msgspec.Struct, frozen=True):
    """Until the model answers under its own name."""

    profile: str


Step = WriteUnit | RemoveUnit | Reload | Start | Restart | Stop | AwaitReady


class Wanted(msgspec.Struct, frozen=True):
    """The profile to run, its unit as rendered now, the digest of the process that this starts,
    and the slice it runs in.
    """

    profile: str
    unit: UnitFile
    process: str
    support: tuple[UnitFile, ...] = ()


class Observed(msgspec.Struct, frozen=True):
    """A group before a switch.

    texts: installed unit files of the wanted unit, of the previous one and of the slice, None
    where there is none. active: members that are up, the wanted one first; foreign: foreign units
    that are. running: digest of the process that the wanted unit runs. previous_text: the text
    that the first active member's process was started from, None when it is not known (any more).
    kept: the text that the wanted unit was last ready with. needs_reload: its file changed since
    systemd read it. In a pool: beside: other members that are up and stay; leaving: those that are
    stopped to make room.
    """

    texts: Mapping[str, str | None]
    active: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()
    running: str | None = None
    kept: str | None = None
    previous_text: str | None = None
    needs_reload: bool = False
    beside: tuple[str, ...] = ()
    leaving: tuple[str, ...] = ()

    @property
    def previous(self) -> str | None:
        """The unit that a failed switch goes back to."""
        return self.active[0] if self.active else None


def plan_switch(wanted: Wanted, observed: Observed) -> tuple[Step, ...]:
    """Steps that make `wanted` the running model of its group."""
    writes = plan_writes((*wanted.support, wanted.unit), observed.texts)
    reload = (Reload(),) if writes or observed.needs_reload else ()
    name = wanted.unit.name
    outdated = name in observed.active and _is_outdated(wanted, observed)
    return (
        *writes,
        *reload,
        *((Stop(observed.leaving),) if observed.leaving else ()),
        Restart(name) if outdated else Start(name),
        AwaitReady(wanted.profile),
    )


def _is_outdated(wanted: Wanted, observed: Observed) -> bool:
    """The running process is not the one that the unit starts now.

    A unit edited by hand says nothing of that but by having changed since systemd read it.
    """
    text = observed.texts.get(wanted.unit.name)
    if read_header(text).owner is Owner.EDITED:
        return observed.needs_reload or observed.kept not in (None, text)
    return runs_otherwise(observed.running, wanted.process, kept=observed.kept)


def runs_otherwise(running: str | None, process: str, *, kept: str | None) -> bool:
    """A process with the digest `running` is not the one that a rendered unit starts.

    An edit by hand leaves the digest as it was; the text kept from then tells. A digest that
    cannot be read (the environment of a binary with file capabilities) proves nothing.
    """
    edited = read_header(kept).owner is Owner.EDITED and process_of(kept) == running
    return edited or running not in (None, process)


def plan_writes(
    units: Sequence[UnitFile], texts: Mapping[str, str | None]
) -> tuple[WriteUnit, ...]:
    """Writes of units that are absent or stale; edited and foreign ones are left as they are."""
    return tuple(
        WriteUnit(unit, texts.get(unit.name))
        for unit in units
        if read_header(texts.get(unit.name)).owner in (Owner.ABSENT, Owner.OURS)
        and is_stale(unit, texts.get(unit.name))
    )


def is_stale(unit: UnitFile, installed: str | None) -> bool:
    """The installed text was made from something else than `unit` is."""
    return read_header(installed).source != read_header(unit.text).source


def plan_rollback(
    wanted: Wanted, observed: Observed, done: Sequence[Step], *, present: str | None
) -> tuple[Step, ...]:
    """Steps back to what `observed` saw: the earlier model runs, from the text it ran from.

    present: the installed text of the earlier model's unit, as it is by now.
    """
    name, previous = wanted.unit.name, observed.previous
    back = [step for unit in observed.leaving for step in (Start(unit), AwaitReady(_name(unit)))]
    if previous is None:
        return (Stop((name,)), *(Start(unit) for unit in observed.foreign), *back)
    if previous != name:
        start: Step = Start(previous)
    elif Restart(name) not in done:
        return ()  # it was running and was left alone
    elif observed.previous_text is None:
        return (Stop((name,)), *back)  # nobody knows what it ran from: better stopped than crashing
    else:
        start = Restart(previous)
    restored = _restore(previous, observed.previous_text, present)
    return (*restored, start, AwaitReady(_name(previous)), *back)


def _name(unit: str) -> str:
    return profile_of(unit) or unit


def _restore(unit: str, text: str | None, present: str | None) -> tuple[Step, ...]:
    """The text that a unit ran from, if another of ours is installed; a person's own stays."""
    if text in (None, present) or read_header(present).owner in (Owner.EDITED, Owner.FOREIGN):
        return ()
    return (WriteUnit(UnitFile(unit, text or ""), present), Reload())


def describe(step: Step) -> str:
    """A step in words, for the dry run and for progress alike."""
    match step:
        case WriteUnit(unit, before):
            return f"write {unit.name}" if before is None else f"update {unit.name}"
        case RemoveUnit(name):
            return f"remove {name}"
        case Reload():
            return "reload systemd's units"
        case Start(unit):
            return f"start {unit}"
        case Restart(unit):
            return f"restart {unit}"
        case Stop(units):
            return f"stop {', '.join(units)}"
        case AwaitReady(profile):
            return f"wait until {profile} answers"
