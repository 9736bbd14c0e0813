"""Installed units follow the profiles: what would change, and the change."""

import contextlib
import enum
from collections.abc import Iterable, Sequence

import msgspec

from llmctl.core.plan import RemoveUnit, Step, Stop, WriteUnit, describe, is_stale
from llmctl.core.progress import Report
from llmctl.core.unit import Owner, UnitFile, read_header
from llmctl.core.words import SLICE, profile_of, unit_name
from llmctl.engine.box import Box
from llmctl.engine.clock import Clock
from llmctl.engine.execute import Executor
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
    changes = [_change(box, name, overwrite=overwrite, ask=ask) for name in wanted]
    if any(change.after is not None for change in changes):
        changes.append(file_change(box, box.slice(), overwrite=overwrite))
    if not names:
        changes.extend(_left_behind(box, prune=prune))
    return tuple(changes)


def _change(box: Box, name: str, *, overwrite: bool, ask: bool) -> Change:
    try:
        resolved = box.resolve(name, ask=ask)
    except ProfileError as error:
        return Change(unit_name(name), Kind.BROKEN, error=error)
    edited = read_header(box.store.unit_text(resolved.unit)).owner is Owner.EDITED
    render = box.render_anew if edited else box.render
    return file_change(box, render(resolved), overwrite=overwrite)


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
    known = {unit_name(name) for name in box.store.names}
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
