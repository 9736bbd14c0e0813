"""Who of a pool may start, and who has to go for it.

One machine per pool. Each member has its own Turns: requests for a member that runs go ahead at
once, whatever the others do. What the members have in common is memory, and so:

- One start at a time. Whoever has waited longest comes first, or for whom others just went; one
  that cannot start yet lets others go before it, until it has waited `max_wait` seconds.
- What does not fit beside what runs makes idle members go: the cheapest set that gives the room on
  every device (core/eviction.py), and none if no set does. Busy and pinned ones stay. Before that,
  replicas with nothing to do are stopped, whosever they are.
- No thrash: within `max_wait` only one eviction takes a member that has not been idle for as long
  as loading it again takes. A member that has may go at any time: keeping it any longer would cost
  more than it can save.
- Nobody starves: for one that has waited `max_wait` seconds the set is chosen as if nobody were
  busy. Its members take no further requests, have `drain_timeout` to end what is under way, and are
  then cut.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import msgspec

from llmctl.core.eviction import Ledger, Member, cheapest
from llmctl.core.holding import ALONE, device_of, gib

if TYPE_CHECKING:
    from llmctl.proxy.turns import Turns

KNOWN_FOR_S = 5.0
"""How long a ledger is believed: others than llmctl use memory, too."""
SETTLES_S = 5.0
"""How long the memory of members that have gone may take to be free again. Until then nobody else
goes for the same one."""


class Weigh(msgspec.Struct, frozen=True):
    """Find out what this member needs and what there is; `weighed` or `refused` tells."""

    model: str


class Open(msgspec.Struct, frozen=True):
    """There is room: start it."""

    model: str


class Evict(msgspec.Struct, frozen=True):
    """Stop these for it; `evicted` says that they are gone."""

    model: str
    names: tuple[str, ...]


class Trim(msgspec.Struct, frozen=True):
    """Stop the replicas of this member that have nothing to do: it goes on answering."""

    model: str


class Deny(msgspec.Struct, frozen=True):
    """It would not fit even if everybody who may go went: who waits for it is told so."""

    model: str
    why: str


class Cut(msgspec.Struct, frozen=True):
    """The time to end is over: cut what is under way on this member."""

    model: str


Action = Weigh | Open | Evict | Trim | Deny | Cut


class Shared:
    """The members of one pool. turns: of each of them, by name. pinned: those that never go.
    loads_s: how long the last start of each took, as far as we made it."""

    def __init__(self) -> None:
        self.max_wait = self.drain_timeout = 0.0
        self.turns: dict[str, Turns] = {}
        self.pinned: frozenset[str] = frozenset()
        self.loads_s: dict[str, float] = {}
        self.weighing: str | None = None
        self.starting: str | None = None
        self.evicting: tuple[str, ...] = ()
        self.closed: frozenset[str] = frozenset()
        """Members that take no further requests: another one has waited too long for them."""
        self.holds: Mapping[str, Mapping[str, int]] = {}
        """Bytes that members hold, as they were last weighed."""
        self.evictions = 0
        self.spare: frozenset[str] = frozenset()
        """Members with replicas that have nothing to do."""
        self.is_held_up = False
        """Does a replica start or end? What is free is not known then."""
        self.room_for: str | None = None
        """The member for which others went, or go."""
        self._closed_for: str | None = None
        self._opened_at = self._closed_since = 0.0
        self._has_cut = False
        self._ledgers: dict[str, tuple[float, Ledger]] = {}
        self._evicted: tuple[str, float] | None = None
        """For whom members went last, and when they were gone."""

    # What happens

    def weighed(self, model: str, ledger: Ledger, now: float) -> None:
        """What it needs, and what there is."""
        self.weighing, self.holds = None, ledger.holds
        self._ledgers[model] = now, ledger

    def refused(self) -> None:
        """Nobody can say, and who waited has been told why."""
        self.weighing = None

    def evicted(self, model: str, now: float) -> None:
        """Those that had to go for it have gone, or would not."""
        self.evicting = ()
        self._evicted = model, now
        self.changed()

    def changed(self) -> None:
        """Something has started or ended, so what is free is another thing now."""
        self._ledgers.clear()

    # Deciding

    @property
    def is_at_work(self) -> bool:
        """Is one weighed or started, or do others go for it?"""
        return self.weighing is not None or bool(self.evicting) or self.starting is not None

    @property
    def is_quiet(self) -> bool:
        """Is there nothing to decide? For most requests there is not."""
        return not (self.is_at_work or self.closed or any(x.waiting for x in self.turns.values()))

    @property
    def is_wanted(self) -> bool:
        """Does anybody wait for memory?"""
        return self.is_at_work or bool(self._wanting())

    def settle(self, now: float) -> list[Action]:
        """What is to be done now. It is asked whenever anything of the above, or anything in the
        Turns, may have changed, and once a second."""
        self._see_start(now)
        if self.is_at_work:
            return []
        wanting = self._wanting()
        if self.is_held_up and not (wanting and self._is_too_long(now - wanting[0][0])):
            return []
        names = [name for _, name in wanting]
        if self._closed_for not in names:
            self._closed_for, self.closed = None, frozenset()
        if self.room_for not in names:
            self.room_for = None
        if not wanting or self._is_loading(now - wanting[0][0]):
            return []
        for since, name in wanting:
            actions = self._towards(name, now - since, now)
            if actions or now - since >= self.max_wait:
                return actions
        return []

    def _wanting(self) -> list[tuple[float, str]]:
        """Members that are to start: since when the first request waits for each, and its name. The
        one for whom others went is the first."""
        found = [
            (min(waiter.since for waiter in one.waiting.values()), name)
            for name, one in self.turns.items()
            if one.waiting and one.autoswitch and not one.busy and not one.leaving
            and one.ready is None and one.coming is None and one.switching is None
        ]  # fmt: skip
        return sorted(found, key=lambda one: (one[1] != self.room_for, one))

    def _see_start(self, now: float) -> None:
        """Has the start under way ended?"""
        name = self.starting
        if name is None or (name in self.turns and self.turns[name].switching == name):
            return
        if name in self.turns and self.turns[name].ready == name:
            self.loads_s[name] = now - self._opened_at
        self.starting = None
        self.changed()

    def _is_loading(self, waited: float) -> bool:
        """Does somebody else's start go on? It ends as it ends, within bounds."""
        is_one = any(one.coming is not None or one.leaving for one in self.turns.values())
        return is_one and not self._is_too_long(waited)

    def _is_too_long(self, waited: float) -> bool:
        """What does not end by itself is no longer waited for."""
        return waited >= self.max_wait + self.drain_timeout

    def _towards(self, name: str, waited: float, now: float) -> list[Action]:
        """The next step to its start; none: it has to wait."""
        known = self._ledgers.get(name)
        if known is None or now - known[0] >= KNOWN_FOR_S:
            self.weighing = name
            return [Weigh(name)]
        ledger, is_late = known[1], waited >= self.max_wait
        members = [one for one in self._members(ledger, now) if one.name != name]
        going = [one if is_late or self._may_go(one, now) else _busy(one) for one in members]
        found = cheapest(ledger.need, ledger.free, going)
        if found == ():
            self.starting, self._opened_at, self.room_for = name, now, None
            self._closed_for, self.closed = None, frozenset()
            return [Open(name)]
        free = cheapest(ledger.need, ledger.free, [_idle(one) for one in members])
        if free is None:
            return [] if self._settles(name, now) else [Deny(name, _why(ledger, members))]
        if spare := sorted(self.spare & ledger.holds.keys()):
            return [Trim(one) for one in spare]
        if found is not None:
            return self._evict(name, found, now)
        if not is_late:
            return []
        closed = [_idle(one) for one in members if one.name in self.closed]
        does = self._closed_for == name and cheapest(ledger.need, ledger.free, closed) is not None
        return self._drain(name, tuple(self.closed) if does else free, now)

    def _evict(self, name: str, names: tuple[str, ...], now: float) -> list[Action]:
        if self._settles(name, now):
            return []
        self.evicting, self.room_for = names, name
        self.closed &= frozenset(names)  # those that stay after all need not be empty
        self.evictions += len(names)
        return [Evict(name, names)]

    def _settles(self, name: str, now: float) -> bool:
        """May the memory of those that went for it still become free? It is looked at again until
        it is as free as it should be."""
        gone = self._evicted
        still = gone is not None and gone[0] == name and now - gone[1] < SETTLES_S
        if still:
            self._ledgers.pop(name, None)
        return still

    def _drain(self, name: str, names: tuple[str, ...], now: float) -> list[Action]:
        """Nobody new comes in to those that have to go; in the end nobody is left there. Who they
        are is settled once: prices change with each request that ends."""
        if self._closed_for != name or self.closed != set(names):
            self._closed_for, self.closed = name, frozenset(names)
            self._closed_since, self._has_cut = now, False
        if self._has_cut or now - self._closed_since < self.drain_timeout:
            return []
        self._has_cut = True
        return [Cut(one) for one in sorted(self.closed) if self.turns[one].busy]

    # Who is there

    def _members(self, ledger: Ledger, now: float) -> Iterable[Member]:
        """Those that hold memory and are known to us; what others hold is not free, no more."""
        for name, holds in ledger.holds.items():
            if (turns := self.turns.get(name)) is not None:
                yield Member(
                    name=name, holds=holds, idle_s=now - turns.idle_since,
                    reload_s=self.loads_s.get(name, 0.0), pinned=name in self.pinned,
                    busy=bool(turns.busy) or turns.ready != name,
                )  # fmt: skip

    def _may_go(self, one: Member, now: float) -> bool:
        """For one that has not waited too long yet."""
        is_first = self._evicted is None or now - self._evicted[1] >= self.max_wait
        return is_first or one.idle_s >= min(one.loads_s, self.max_wait)


def _busy(one: Member) -> Member:
    return msgspec.structs.replace(one, busy=True)


def _idle(one: Member) -> Member:
    return msgspec.structs.replace(one, busy=False)


def _why(ledger: Ledger, members: Iterable[Member]) -> str:
    """What is missing even then, and who stays."""
    stay = " ".join(f"{one.name} is pinned." for one in members if one.pinned)
    if ledger.need.get(ALONE, 0) > ledger.free.get(ALONE, 0):
        return f"A model that cannot be planned runs alone in its pool. {stay}".rstrip()
    goes = [one for one in members if not one.pinned]
    lacks: dict[str, tuple[int, int]] = {}
    for device, need in ledger.need.items():
        could = ledger.free.get(device, 0) + sum(one.holds.get(device, 0) for one in goes)
        if need > could:
            lacks[device_of(device)] = need, could
    told = " and ".join(
        f"it needs {gib(need)} of {device}, and {gib(could)} could be free"
        for device, (need, could) in lacks.items()
    )
    return " ".join(filter(None, (f"It does not fit: {told}.", stay, ledger.beside)))
