"""Installed units follow the profiles: what would change, and the change."""

import contextlib
import enum
from collections.abc import Iterable, Sequence

import msgspec

from llmctl.core.plan import RemoveUnit, Step, Stop, WriteUnit, describe, is_stale
from llmctl.core.progress import Report
from llmctl.core.unit import Owner, UnitFile, read_header
from llmctl.core.words import SLICE, profile_of, replica_template, replicated, unit_name
from llmctl.engine.box import Box
from llmctl.engine.clock import Clock
from llmctl.engine.execute import Executor
from llmctl.engine.replica_units import replica_file, running_replicas
from llmctl.errors import HostError, ProfileError, sentence


class Kind(enum.Enum):
    """What apply would do with one unit, and why not."""

    CURRENT = "current"
    CREATE = "create"
    UPDATE = "update"
    REMOVE = "remove"
    ORPHAN = "orphan"  # its profile is gone; --prune removes it
    EDITED = "edited"  # changed by hand; --overwrite renders it anew
    FOREIGN = "foreign"  # never ours
    BROKEN = "broken"  # its profile cannot be rendered


class Change(msgspec.Struct, frozen=True):
    """One unit: what apply does, the text before and after, and what is wrong."""

    unit: str
    kind: Kind
    before: str | None = None
    after: str | None = None
    error: ProfileError | None = None

    @property
    def is_pending(self) -> bool:
        """Something is not as the profiles say."""
        return self.kind is not Kind.CURRENT

    @property
    def is_change(self) -> bool:
        """Apply would write or remove the file."""
        return self.kind in (Kind.CREATE, Kind.UPDATE, Kind.REMOVE)


def plan_apply(
    box: Box, names: Sequence[str] = (), *,
    prune: bool = False, overwrite: bool = False, ask: bool = True,
) -> tuple[Change, ...]:  # fmt: skip
    """What `llmctl apply` would do for the named profiles, or for all and what they left behind.

    ask: plan what is open where no plan is remembered.
    """
    wanted = tuple(names) or box.store.names
    if prune and not names:
        box.leaving = frozenset(name for name in box.store.orphans if _is_removable(box, name))
    changes = [
        change for name in wanted for change in _changes(box, name, overwrite=overwrite, ask=ask)
    ]
    if any(change.after is not None for change in changes):
        changes.append(file_change(box, box.slice(), overwrite=overwrite))
    if not names:
        changes.extend(_left_behind(box, prune=prune))
    return tuple(changes)


def _changes(box: Box, name: str, *, overwrite: bool, ask: bool) -> Iterable[Change]:
    try:
        resolved = box.resolve(name, ask=ask)
    except ProfileError as error:
        yield Change(unit_name(name), Kind.BROKEN, error=error)
        return
    render = box.render_anew if _is_edited(box, resolved.unit) else box.render
    yield file_change(box, render(resolved), overwrite=overwrite)
    template = replica_template(name)
    replicas = replica_file(box, resolved, anew=_is_edited(box, template))
    if replicas is not None:
        yield file_change(box, replicas, overwrite=overwrite)
    elif read_header(before := box.store.unit_text(template)).owner is Owner.OURS:
        yield Change(template, Kind.REMOVE, before=before)


def _is_edited(box: Box, unit: str) -> bool:
    return read_header(box.store.unit_text(unit)).owner is Owner.EDITED


def file_change(box: Box, unit: UnitFile, *, overwrite: bool) -> Change:
    """What would be done to make an installed unit this one."""
    before = box.store.unit_text(unit.name)
    kinds = {
        Owner.ABSENT: Kind.CREATE,
        Owner.FOREIGN: Kind.FOREIGN,
        Owner.EDITED: Kind.UPDATE if overwrite else Kind.EDITED,
        Owner.OURS: Kind.UPDATE if is_stale(unit, before) else Kind.CURRENT,
    }
    return Change(unit.name, kinds[read_header(before).owner], before, unit.text)


def _is_removable(box: Box, name: str) -> bool:
    return read_header(box.store.unit_text(unit_name(name))).owner is Owner.OURS


def _left_behind(box: Box, *, prune: bool) -> Iterable[Change]:
    """Units of ours whose profile is gone. Edited ones are somebody's work, and stay."""
    names = box.store.names
    known = {*map(unit_name, names), *map(replica_template, names)}
    left = {name: text for name, text in box.store.unit_texts().items() if name not in known}
    removable = 0
    for name, text in left.items():
        owner = read_header(text).owner
        if owner is Owner.EDITED:
            yield Change(name, Kind.EDITED, before=text)
        elif owner is Owner.OURS:
            removable += prune
            yield Change(name, Kind.REMOVE if prune else Kind.ORPHAN, before=text)
    if prune and removable == len(left) and not known:
        yield from _slice_too(box)


def _slice_too(box: Box) -> Iterable[Change]:
    """The slice's file goes with the last unit; the slice itself is never stopped."""
    text = box.store.unit_text(SLICE)
    if read_header(text).owner is Owner.OURS:
        yield Change(SLICE, Kind.REMOVE, before=text)


def steps(changes: Sequence[Change]) -> tuple[Step, ...]:
    """The steps that make the changes. What runs without a profile stops before its unit goes."""
    gone = tuple(one.unit for one in changes if one.kind is Kind.REMOVE and profile_of(one.unit))
    found: list[Step] = [Stop(gone)] if gone else []
    for change in changes:
        if change.kind is Kind.REMOVE:
            found.append(RemoveUnit(change.unit, change.before or ""))
        elif change.is_change and change.after is not None:
            found.append(WriteUnit(UnitFile(change.unit, change.after), change.before))
    return tuple(found)


def carry_out(box: Box, changes: Sequence[Change], *, clock: Clock, report: Report) -> None:
    """Stop, remove, write, reload. Running models go on from the text they were started from.

    HostError: part of it was done, and says which; systemd knows of that part.
    """
    executor = Executor(box, clock=clock, report=report)
    todo = steps(changes)
    gone = [step.name for step in todo if isinstance(step, RemoveUnit) and profile_of(step.name)]
    done: list[Step] = []
    try:
        if gone:  # while systemd still knows their [Install] section
            box.systemd.disable(gone)
        if running := _losing_their_file(box, todo):
            executor.do(Stop(running))
        for step in todo:
            executor.do(step)
            done.append(step)
    except HostError as error:
        made = ", ".join(describe(step) for step in done) or "nothing"
        if done:
            with contextlib.suppress(HostError):  # the first fault is the one to tell
                box.systemd.reload()
        message = f"{sentence(error.message)} Done before that: {made}."
        raise type(error)(message, hint=error.hint) from None
    if done:
        box.systemd.reload()


def _losing_their_file(box: Box, todo: Sequence[Step]) -> tuple[str, ...]:
    """Replicas that run, and whose template is about to go: what binds them to their first instance
    would go with it."""
    removed = (step.name for step in todo if isinstance(step, RemoveUnit))
    profiles = [name for unit in removed if (name := replicated(unit))]
    return tuple(unit for name in profiles for unit in running_replicas(box, name))
