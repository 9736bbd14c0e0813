"""Installed units follow the profiles: what would change, and the change."""

import enum
from collections.abc import Iterable, Sequence

import msgspec

from llmctl.core.plan import Reload, RemoveUnit, Step, WriteUnit, is_stale
from llmctl.core.unit import Owner, UnitFile, read_header
from llmctl.core.words import SLICE, profile_of, unit_name
from llmctl.engine.box import Box
from llmctl.errors import ProfileError


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
    box: Box, names: Sequence[str] = (), *, prune: bool = False, overwrite: bool = False
) -> tuple[Change, ...]:
    """What `llmctl apply` would do for the named profiles, or for all and what they left behind."""
    wanted = tuple(names) or box.store.names
    changes = [_change(box, name, overwrite=overwrite) for name in wanted]
    if any(change.after is not None for change in changes):
        changes.append(_file_change(box, box.slice(), overwrite=overwrite))
    if not names:
        changes.extend(_left_behind(box, prune=prune))
        if prune and not box.store.names:
            changes.extend(_lonely_slice(box))
    return tuple(changes)


def _change(box: Box, name: str, *, overwrite: bool) -> Change:
    try:
        resolved = box.resolve(name)
    except ProfileError as error:
        return Change(unit_name(name), Kind.BROKEN, error=error)
    edited = read_header(box.store.unit_text(resolved.unit)).owner is Owner.EDITED
    render = box.render_anew if edited else box.render
    return _file_change(box, render(resolved), overwrite=overwrite)


def _file_change(box: Box, unit: UnitFile, *, overwrite: bool) -> Change:
    before = box.store.unit_text(unit.name)
    kinds = {
        Owner.ABSENT: Kind.CREATE,
        Owner.FOREIGN: Kind.FOREIGN,
        Owner.EDITED: Kind.UPDATE if overwrite else Kind.EDITED,
        Owner.OURS: Kind.UPDATE if is_stale(unit, before) else Kind.CURRENT,
    }
    return Change(unit.name, kinds[read_header(before).owner], before, unit.text)


def _left_behind(box: Box, *, prune: bool) -> Iterable[Change]:
    """Units of ours whose profile is gone. Edited ones are somebody's work, and stay."""
    known = {unit_name(name) for name in box.store.names}
    for name, text in box.store.unit_texts().items():
        header = read_header(text)
        if name in known or header.owner in (Owner.FOREIGN, Owner.ABSENT):
            continue
        removable = prune and header.owner is Owner.OURS
        yield Change(name, Kind.REMOVE if removable else Kind.ORPHAN, before=text)


def _lonely_slice(box: Box) -> Iterable[Change]:
    """The slice goes with the last profile."""
    text = box.store.unit_text(SLICE)
    if read_header(text).owner is Owner.OURS:
        yield Change(SLICE, Kind.REMOVE, before=text)


def steps(changes: Sequence[Change]) -> tuple[Step, ...]:
    """The steps that make the changes."""
    found: list[Step] = []
    for change in changes:
        if change.kind is Kind.REMOVE:
            found.append(RemoveUnit(change.unit, change.before or ""))
        elif change.is_change and change.after is not None:
            found.append(WriteUnit(UnitFile(change.unit, change.after), change.before))
    return (*found, Reload()) if found else ()


def carry_out(box: Box, changes: Sequence[Change]) -> None:
    """Write, remove, reload. Running models go on from the text they were started from."""
    todo = steps(changes)
    gone = [step.name for step in todo if isinstance(step, RemoveUnit)]
    if gone:  # while systemd still knows their [Install] section, and so that none runs unseen
        box.systemd.disable(gone)
        box.systemd.stop(gone)
    for step in todo:
        if isinstance(step, WriteUnit):
            box.store.write_unit(step.unit.name, step.unit.text, log_of=profile_of(step.unit.name))
        elif isinstance(step, RemoveUnit):
            box.host.remove(box.store.unit_path(step.name))
    if todo:
        box.systemd.reload()
