"""Who holds how much of which device, and what that leaves: the arithmetic of running together.

Two bounds hold for each device. What is free now is what the machine says; a model that is loading
has not taken its part yet. And the plans of all that run must fit the device together, whatever
the machine says: weights that are mapped from a file count as free memory there, and a size that
config.yaml declares does not shrink when a model starts. The second bound has a name of its own
(`planned`), so that whoever sums up devices need not know of it.

A model that cannot be planned runs alone in its pool: all others make way for it, and it does for
each of them. That is a bound, too (ALONE).
"""

from collections.abc import Container, Iterable, Mapping, Sequence

import msgspec

from llmctl.core.eviction import HOST, Ledger

GIB = 1 << 30
ALONE = "the pool to itself"
NOTABLE = 256 << 20
"""Bytes. What nobody accounts for is told from here on."""


def planned(name: str) -> str:
    """The name of a device's second bound."""
    return f"{name} as planned"


def device_of(name: str) -> str:
    """The device that a bound is of."""
    return name.removesuffix(planned(""))


class Space(msgspec.Struct, frozen=True):
    """A device as one profile's server sees it. key: the same for all builds, whatever they call
    it. free_bytes: None where config.yaml says what models may fill, whatever is free now.
    whole_bytes: what all models together may fill. What is kept in reserve is taken off both.
    total_bytes: all of it. used_bytes: what the machine says is taken; 0 where it is not asked."""

    key: str
    name: str
    free_bytes: int | None
    whole_bytes: int
    total_bytes: int = 0
    used_bytes: int = 0


class Priced(msgspec.Struct, frozen=True):
    """What one instance takes: the devices it sees, the host last, and bytes of each. least: the
    same with compute buffers as small as they may be, and most. mapped_bytes: weights in host
    memory that are pages of the model's file, which instances of the same profile share. exact:
    these are no bounds, but what llama.cpp allocates."""

    spaces: tuple[Space, ...]
    total: tuple[int, ...]
    least: tuple[int, ...]
    most: tuple[int, ...]
    mapped_bytes: int = 0
    exact: bool = True

    def by_key(self, sizes: Sequence[int]) -> dict[str, int]:
        """One of the three, by the devices' keys."""
        return {space.key: size for space, size in zip(self.spaces, sizes, strict=True)}


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """A model that runs, with all its instances. takes: bytes by key, as its plan says; None: it
    cannot be planned. returns: what is free at least when it is gone. loading: it has not taken all
    of it yet."""

    name: str
    group: str
    takes: Mapping[str, int] | None = None
    returns: Mapping[str, int] = {}
    loading: bool = False

    def of(self, key: str) -> int:
        """What it takes of a device, as far as that is known."""
        return (self.takes or {}).get(key, 0)


def ledger_of(
    name: str, group: str, need: Priced | None, holders: Sequence[Holder], *, again: bool = False
) -> Ledger:
    """What a profile of a group needs, and what there is. again: one more instance of it, beside
    those that run; else these make way for the one that is started."""
    others = [one for one in holders if again or one.name != name]
    members = [one for one in others if one.group == group]
    if need is None:
        return Ledger({ALONE: len(members)}, {}, {one.name: {ALONE: 1} for one in members})
    unknown = [one for one in members if one.takes is None]
    wants: dict[str, int] = {ALONE: len(unknown)} if unknown and not again else {}
    left: dict[str, int] = {}
    holds: dict[str, dict[str, int]] = {
        one.name: {ALONE: 1} if one.takes is None else {} for one in members
    }
    own = next((one for one in holders if one.name == name and not again), None)
    for space, most in zip(need.spaces, need.most, strict=True):
        second, key = planned(space.name), space.key
        shared = need.mapped_bytes if again and key == HOST else 0
        wants[second] = most - shared
        left[second] = max(0, space.whole_bytes - sum(one.of(key) for one in others))
        if space.free_bytes is not None:
            coming = sum(one.of(key) for one in others if one.loading)
            back = own.returns.get(key, 0) if own else 0
            wants[space.name] = most
            left[space.name] = max(0, space.free_bytes + back - coming)
        for one in members:
            holds[one.name] |= {second: one.of(key), space.name: one.returns.get(key, 0)}
    return Ledger(wants, left, holds)


def impossible(need: Priced, stay: Sequence[Holder]) -> dict[str, str]:
    """Devices, by key, that cannot hold it beside those that stay, whatever else may go: a clause
    each. Only what is certain counts: not the host, which can read mapped weights again from the
    disk, and no bounds."""
    parts = {}
    for space, least in zip(need.spaces, need.least, strict=True):
        has = max(0, space.total_bytes - sum(one.of(space.key) for one in stay))
        if need.exact and space.key != HOST and least > has:
            parts[space.key] = f"{space.name} needs {gib(least)} and has {gib(has)}"
    return parts


def lacking(ledger: Ledger, spaces: Iterable[Space]) -> dict[str, str]:
    """Devices that have no room, by key: a clause of what is needed of it, and what there is."""
    parts = {}
    for space in spaces:
        pairs = [
            (ledger.free.get(name, 0), ledger.need[name])
            for name in (space.name, planned(space.name))
            if ledger.need.get(name, 0) > ledger.free.get(name, 0)
        ]
        if pairs:
            has, needs = min(pairs)
            parts[space.key] = f"{space.name} needs {gib(needs)} and has {gib(has)}"
    return parts


def holding(
    space: Space, holders: Sequence[Holder], words: Mapping[str, str], *, but: Container[str] = ()
) -> str:
    """Who holds how much of a device, in a clause; empty: nobody. words: what else is to be said of
    a holder, such as `busy`. but: names that are not told."""
    sizes = [(one, one.of(space.key)) for one in holders]
    shown = [(one, size) for one, size in sizes if size >> 20 and one.name not in but]
    told = [_told(f"holds {gib(size)}", one, words) for one, size in shown]
    other = space.used_bytes - sum(size for one, size in sizes if not one.loading)
    if other >= NOTABLE:
        told.append(f"other programs and what runtimes take hold {gib(other)}")
    return f"{space.name}: {', '.join(told)}" if told else ""


def unplanned(holders: Sequence[Holder], words: Mapping[str, str]) -> str:
    """Of whom nobody can say how much they hold, in a clause; empty: of nobody."""
    return ", ".join(
        _told("holds nobody knows how much", one, words) for one in holders if one.takes is None
    )


def _told(what: str, one: Holder, words: Mapping[str, str]) -> str:
    more = words.get(one.name)
    return f"{one.name} {what}" + (f" ({more})" if more else "")


def gib(size: int) -> str:
    """Bytes in a message: two digits, since a plan may fail by less than 0.1 GiB."""
    return f"{size / GIB:.2f} GiB" if size >= GIB else f"{size / 2**20:.0f} MiB"
