"""Which members of a pool go so that another one fits: the cheapest set that really gives the room.

A member's price is the waiting that its end is expected to cause: what loading it again takes,
times how likely it is to be wanted again soon. Nobody knows that likelihood; what has not been
asked for in ten minutes is taken to be ten times less likely to be wanted in the next one than what
was asked for a minute ago. Where all load alike, that is "least recently used".

A set counts only if it covers the need on every device: members are never stopped in vain.
"""

import math
from collections.abc import Mapping, Sequence

import msgspec

HOST = "host"
"""What the memory of the machine itself is called among the devices."""
READ_BYTES_PER_S = 1 << 30
"""Loading beside what was measured of it: as fast as a file comes from a good disk, so of two that
load alike the smaller one goes."""
_ROUNDING = 1 + 1e-12
"""Sums of the same prices in another order are the same sum."""
JUST_NOW_S = 1.0
"""What ended this moment is no infinitely bad choice."""


class Ledger(msgspec.Struct, frozen=True):
    """What a profile needs to start, what is free now, and what each member of its pool that runs
    holds, with its replicas: bytes by device, or "host". It changes only when something starts or
    stops, so whoever has it can decide at once who goes: `engine.pool.ledger(box, name)` gives it
    to the proxy, and `engine.pool.make_room` decides with it. beside: who else holds how much of
    what is needed, in sentences: residents, other groups, other programs."""

    need: Mapping[str, int]
    free: Mapping[str, int]
    holds: Mapping[str, Mapping[str, int]] = {}
    beside: str = ""


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """A member that runs, with all its instances. holds: bytes by device, or "host". idle_s: since
    its last request ended. reload_s: what its last start took; 0: nobody knows. pinned: its profile
    says so."""

    name: str
    holds: Mapping[str, int]
    idle_s: float = 0.0
    reload_s: float = 0.0
    busy: bool = False
    pinned: bool = False

    @property
    def may_go(self) -> bool:
        """May it be stopped for another one?"""
        return not (self.busy or self.pinned)

    @property
    def price(self) -> float:
        """What its end costs, see above: seconds, per second of idleness."""
        return self.loads_s / (max(self.idle_s, 0.0) + JUST_NOW_S)

    @property
    def loads_s(self) -> float:
        """Seconds that loading it again is taken to need."""
        return self.reload_s + sum(self.holds.values()) / READ_BYTES_PER_S


def cheapest(
    need: Mapping[str, int], free: Mapping[str, int], members: Sequence[Member]
) -> tuple[str, ...] | None:
    """The names of the members to stop, in order; none: it fits as it is. None: no set would do.

    need, free: bytes by device, or "host"; what `free` does not name has nothing free.
    """
    lacks = {name: size - free.get(name, 0) for name, size in need.items()}
    lacks = {name: size for name, size in lacks.items() if size > 0}
    mine = [one for one in members if one.may_go and any(one.holds.get(x, 0) > 0 for x in lacks)]
    mine.sort(key=lambda one: (one.price, one.name))
    search = _Search(mine)
    search.descend(0, lacks, ())
    return None if search.best is None else tuple(sorted(one.name for one in search.best))


class _Search:
    """Depth first, the cheap ones first, without the branches that cannot be cheaper than what was
    found: exact, and quick for as many models as a box can run."""

    def __init__(self, members: Sequence[Member]) -> None:
        self._members = members
        self.best: tuple[Member, ...] | None = None
        self._price = math.inf

    def descend(self, index: int, lacks: Mapping[str, int], chosen: tuple[Member, ...]) -> None:
        """All sets that begin with `chosen` and go on with members from `index` on. lacks: what the
        chosen ones leave uncovered, without devices that lack nothing."""
        price = math.fsum(one.price for one in chosen)
        if not lacks:
            if price < self._price:
                self.best, self._price = chosen, price
            return
        if index == len(self._members) or self._is_hopeless(index, lacks, price):
            return
        one = self._members[index]
        self.descend(index + 1, _left(lacks, one), (*chosen, one))
        self.descend(index + 1, lacks, chosen)

    def _is_hopeless(self, index: int, lacks: Mapping[str, int], price: float) -> bool:
        """Would even parts of members not cover it, or not for less?"""
        more = max(_least(self._members[index:], name, size) for name, size in lacks.items())
        return (price + more) * _ROUNDING >= self._price or more == math.inf


def _left(lacks: Mapping[str, int], one: Member) -> dict[str, int]:
    left = {name: size - one.holds.get(name, 0) for name, size in lacks.items()}
    return {name: size for name, size in left.items() if size > 0}


def _least(members: Sequence[Member], device: str, size: int) -> float:
    """A bound from below: the price for `size` bytes of one device, if parts could be stopped."""
    rates = sorted(
        (one.price / held, held) for one in members if (held := one.holds.get(device, 0)) > 0
    )
    price, left = 0.0, size
    for rate, held in rates:
        taken = min(held, left)
        price, left = price + rate * taken, left - taken
        if left <= 0:
            return price
    return math.inf
