"""Room for one more member of a pool: what there is, and which of the others stop for it."""

from collections.abc import Callable, Container, Iterable, Mapping, Sequence

import msgspec

from llmctl.core.eviction import Ledger, Member, cheapest
from llmctl.core.holding import (
    Holder,
    Space,
    holding,
    impossible,
    lacking,
    ledger_of,
    unplanned,
)
from llmctl.core.progress import Report
from llmctl.core.state import State
from llmctl.core.words import RESIDENT, unit_name
from llmctl.engine.box import Box
from llmctl.engine.clock import Clock
from llmctl.engine.holdings import Holdings
from llmctl.engine.off import off
from llmctl.engine.status import Instance, overview
from llmctl.engine.wait import await_stopped
from llmctl.errors import DoesNotFitError, HostError

STOP_TIMEOUT_S = 600.0


class Seen(msgspec.Struct, frozen=True):
    """What a member does. idle_s: since its last request ended; 0 while it works. busy: it must
    not be stopped. reload_s: what its last start took; 0: nobody knows."""

    idle_s: float = 0.0
    busy: bool = False
    reload_s: float = 0.0


class Room(msgspec.Struct, frozen=True):
    """What a profile needs on a box, and who has it. spaces: the devices it sees; none where it
    cannot be planned. loading: models that are starting."""

    name: str
    group: str
    ledger: Ledger
    spaces: tuple[Space, ...]
    holders: tuple[Holder, ...]
    pinned: frozenset[str] = frozenset()

    @property
    def fits(self) -> bool:
        """Is there room as it is?"""
        ledger = self.ledger
        return all(size <= ledger.free.get(name, 0) for name, size in ledger.need.items())

    def told(self, seen: Mapping[str, Seen] | None = None) -> str:
        """What it lacks and who holds how much of that, in sentences. seen: with what members of
        its pool do, where that is known."""
        lacks = lacking(self.ledger, self.spaces)
        if lacks:
            return "; ".join(lacks.values()) + self.held(lacks, seen)
        words = {one.name: self._word(one, seen) for one in self.holders}
        held = ", ".join(f"{one.name} runs ({words[one.name]})" for one in self.holders)
        held = unplanned(self.holders, words) if self.spaces else held
        return f"a model that cannot be planned runs alone in its pool. {held}"

    def held(self, keys: Container[str], seen: Mapping[str, Seen] | None = None) -> str:
        """Who holds how much of these devices, as further sentences without the last full stop."""
        told = self.each(lambda space: space.key in keys, seen)
        return "".join(f". {text}" for text in told)

    def each(
        self, wanted: Callable[[Space], bool], seen: Mapping[str, Seen] | None = None, *,
        but: Container[str] = (),
    ) -> tuple[str, ...]:  # fmt: skip
        """A clause for each of these devices of which somebody holds something. but: names that
        are not told."""
        words = {one.name: self._word(one, seen) for one in self.holders}
        spaces = (space for space in self.spaces if wanted(space))
        told = (holding(space, self.holders, words, but=but) for space in spaces)
        return tuple(text for text in told if text)

    def _word(self, one: Holder, seen: Mapping[str, Seen] | None) -> str:
        if one.group != self.group:
            return "resident" if one.group == RESIDENT else f"group {one.group}"
        if one.name in self.pinned:
            return "pinned"
        if one.loading:
            return "loading"
        return "" if seen is None else "busy" if _is_busy(one, seen) else "idle"


def room_of(
    box: Box, name: str, instances: Iterable[Instance] | None = None, *, again: bool = False,
    found: Holdings | None = None,
) -> Room:  # fmt: skip
    """What a profile needs and what there is now; again: for one more instance of it, beside those
    that run. instances, found: what runs, and what devices there are, where that was looked at just
    now. ProfileError: there is no such profile, or it is wrong."""
    resolved, found = box.resolve(name, ask=True), found or Holdings(box)
    running = overview(box).instances if instances is None else instances
    holders = found.holders(running)
    need, group = found.priced(resolved), resolved.profile.group
    loaded = (one.profile for one in box.store.profiles.values())
    pinned = frozenset(one.name for one in loaded if one is not None and one.pin)
    ledger = ledger_of(name, group, need, holders, again=again)
    mine = tuple(one for one in holders if again or one.name != name)
    return Room(name, group, ledger, need.spaces if need else (), mine, pinned)


def check_beside(box: Box, name: str) -> None:
    """DoesNotFitError: a profile that is in no pool cannot fit beside what stays when it starts,
    that is residents and other groups: it is told before anything stops for it."""
    resolved, found = box.resolve(name), Holdings(box)
    need, group = found.priced(resolved), resolved.profile.group
    running = [one for one in overview(box).instances if one.profile != name]
    stay = found.holders(one for one in running if one.group != group or group == RESIDENT)
    lacks = impossible(need, stay) if need else {}
    if need and lacks:
        room = Room(name, group, Ledger({}, {}), need.spaces, stay)
        why = "; ".join(lacks.values()) + room.held(lacks)
        raise DoesNotFitError(
            f"{name} does not fit beside what stays: {why}.",
            hint=f"Stop what is not needed: llmctl off {' '.join(one.name for one in stay)}",
        )


def ledger(box: Box, name: str) -> Ledger:
    """What a member of a pool needs, what is free now, and what each member that runs holds."""
    room = room_of(box, name)
    told = room.each(lambda _: True, but=room.ledger.holds)
    return msgspec.structs.replace(room.ledger, beside=" ".join(f"{one}." for one in told))


def held_now(box: Box, name: str) -> tuple[str, ...]:
    """Who holds how much of a profile's devices, in a clause for each of which not all is free."""
    return room_of(box, name).each(lambda one: (one.free_bytes or 0) < one.whole_bytes)


def chosen(room: Room, seen: Mapping[str, Seen]) -> tuple[str, ...]:
    """The cheapest idle members that stop so that it fits; none: it does as it is.
    DoesNotFitError: no set would do; who holds what, and who is busy or pinned."""
    members = [_member(room, name, seen) for name in room.ledger.holds]
    need, free = room.ledger.need, room.ledger.free
    found = cheapest(need, free, members)
    if found is not None:
        return found
    freed = [msgspec.structs.replace(one, busy=False) for one in members]
    later = cheapest(need, free, freed)
    raise _refusal(room, seen, [one for one in later or () if _member(room, one, seen).busy])


def _member(room: Room, name: str, seen: Mapping[str, Seen]) -> Member:
    does = seen.get(name, Seen())
    holder = next(one for one in room.holders if one.name == name)
    return Member(
        name=name, holds=room.ledger.holds[name], idle_s=does.idle_s, reload_s=does.reload_s,
        busy=_is_busy(holder, seen), pinned=name in room.pinned,
    )  # fmt: skip


def _is_busy(holder: Holder, seen: Mapping[str, Seen]) -> bool:
    """Nobody stops what somebody waits for, nor what nobody can look into."""
    return holder.loading or holder.name not in seen or seen[holder.name].busy


def _refusal(room: Room, seen: Mapping[str, Seen], busy: Sequence[str]) -> DoesNotFitError:
    """busy: those that would have to go, and may not now."""
    names, is_are = " and ".join(busy), "are" if len(busy) > 1 else "is"
    hint = f"llmctl plan {room.name} shows what it needs; a smaller ctx makes it less."
    if busy:
        hint = f"Try again when {names} {is_are} idle, or type: llmctl off {' '.join(busy)}"
    return DoesNotFitError(f"{room.name} does not fit: {room.told(seen)}.", hint=hint)


def make_room(
    box: Box, name: str, seen: Mapping[str, Seen], *, clock: Clock, report: Report
) -> tuple[str, ...]:
    """Stop the cheapest idle members of a profile's pool so that it fits, and give their names.

    seen: of the members that run; one that is not in it is taken to be busy. None of them is
    stopped unless the whole set is enough. DoesNotFitError: no set is; it names who holds what, and
    who is busy or pinned. HostError: they did not stop.
    """
    going = chosen(settled_room(box, name, clock=clock, report=report), seen)
    unload(box, going, clock=clock, report=report)
    return going


def settled_room(box: Box, name: str, *, clock: Clock, report: Report) -> Room:
    """The room once what is stopping already is gone: what it holds is free then."""
    instances = overview(box).instances
    ending = tuple(one.unit for one in instances if one.state is State.STOPPED)
    if not ending:
        return room_of(box, name, instances)
    left = await_stopped(box, ending, clock=clock, report=report, timeout=STOP_TIMEOUT_S)
    if any(not one.is_running for one in box.systemd.status(left)):
        raise HostError(f"{', '.join(left)} did not stop within {STOP_TIMEOUT_S:.0f} s.")
    return room_of(box, name)


def unload(box: Box, names: Sequence[str], *, clock: Clock, report: Report) -> None:
    """Stop profiles, with their replicas, and wait until they are gone. HostError: they are not."""
    units = [unit_name(name) for name in names]
    if units:
        off(box, units, clock=clock, report=report, timeout=STOP_TIMEOUT_S)
