"""Finds where units go: the fewest experts on the CPU first, then the most room on the tightest
device.

Each device gets one run of units, in llama.cpp's order, and must have room for it by itself. A run
costs more the longer it is, so filling one device after the other finds a placement if there is
one; with experts to be moved it is a shortest path over the ends of the runs.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import msgspec

from llmctl.core.memory.moves import ENDLESS, Moves
from llmctl.core.memory.price import Cap, Prices

if TYPE_CHECKING:
    from llmctl.core.memory.settings import Padding

_STEP = 1 << 20
"""Room on the tightest device is told apart down to this many bytes, where nothing is moved."""


class Way(msgspec.Struct, frozen=True):
    """One kind of placement. start: the first unit that is on a device. moe: the experts of the
    first so many layers are on the CPU; None: those that have to be. piped: devices work on
    batches of their own, with copies of the inputs; no_pipeline: they could, but shall not.
    ends: where each device's run ends, if that is given."""

    start: int
    moe: int | None = 0
    piped: bool = False
    no_pipeline: bool = False
    ends: tuple[int, ...] | None = None


class Layout(msgspec.Struct, frozen=True):
    """Units start.. on devices. ends: where each device's run ends. lent: per device, the layers
    of its run whose experts the host holds. moved: of how many layers it does, in all."""

    start: int
    ends: tuple[int, ...]
    lent: tuple[tuple[int, ...], ...]
    moved: int = 0

    @property
    def runs(self) -> tuple[tuple[int, int], ...]:
        """Each device's first unit, and the one after its last."""
        return tuple(pairwise((self.start, *self.ends)))

    @property
    def counts(self) -> tuple[int, ...]:
        """Units per device: what `--tensor-split` says."""
        return tuple(last - first for first, last in self.runs)


class _Path(msgspec.Struct, frozen=True):
    """The best runs up to some unit: of how many layers the experts are moved, bytes left on the
    tightest device; where each run ends, and how many layers' experts leave it."""

    moved: int
    room: int
    ends: tuple[int, ...]
    counts: tuple[int, ...]


class Search:
    """Placements of one context on devices with so many bytes to fill."""

    def __init__(self, prices: Prices, budgets: Sequence[int]) -> None:
        self.prices, self.units = prices, prices.units
        self.budgets = tuple(
            one - taken for one, taken in zip(budgets, prices.taken, strict=True)
        )  # fmt: skip

    def along(self, way: Way, *, most: int | None = None, level: bool = True) -> Layout | None:
        """The best placement of that kind, if there is one that fits. most: of how many layers the
        experts may be moved. level: else any that fits will do, and takes less time."""
        if min(self.budgets) < 0:  # what is on a device whatever the plan is too much already
            return None
        if way.start == self.units:
            return self._idle()
        if way.moe is None:
            return self._moving(way, most)
        if way.ends is not None:
            layout = self.layout(way.start, way.ends, way.moe)
            return layout if self.tightest(layout, piped=way.piped) >= 0 else None
        return (self._levelled if level else self._filled)(way.start, way.moe, piped=way.piped)

    def _idle(self) -> Layout | None:
        """All layers on the host."""
        none = self.layout(self.units, (self.units,) * len(self.budgets), 0)
        return none if self.prices.idle() <= self.budgets[0] else None

    # Without moving experts, or with those of the first `moe` layers

    def _filled(self, start: int, moe: int, room: int = 0, *, piped: bool) -> Layout | None:
        """Each device as full as `room` allows, one after the other; None: it is too much.

        The first device in use works with less than the others do, so if that fails the first ones
        are left out; the very first works on what the host holds even then."""
        if self.prices.run(0, start, start, moe, start=start, piped=piped) > self.budgets[0] - room:
            return None
        for skipped in range(len(self.budgets)):
            ends, at = [start] * skipped, start
            for device, budget in list(enumerate(self.budgets))[skipped:]:
                at = self._farthest(device, at, start, moe, budget - room, piped=piped)
                ends.append(at)
            if at == self.units:
                return self.layout(start, tuple(ends), moe)
        return None

    def _farthest(
        self, device: int, first: int, start: int, moe: int, budget: int, *, piped: bool
    ) -> int:
        low, high = first, self.units
        while low < high:
            middle = (low + high + 1) // 2
            if self.prices.run(device, first, middle, moe, start=start, piped=piped) <= budget:
                low = middle
            else:
                high = middle - 1
        return low

    def _levelled(self, start: int, moe: int, *, piped: bool) -> Layout | None:
        """Of all splits that fit, one that leaves the tightest device as much as can be."""
        best = self._filled(start, moe, piped=piped)
        if best is None or len(self.budgets) == 1:
            return best
        low, high = 0, max(self.budgets) // _STEP
        while low < high:
            middle = (low + high + 1) // 2
            found = self._filled(start, moe, middle * _STEP, piped=piped)
            if found is None:
                high = middle - 1
            else:
                low, best = middle, found
        return best

    def layout(self, start: int, ends: tuple[int, ...], moe: int) -> Layout:
        """A layout where the experts of the first `moe` layers are on the CPU."""
        layers = self.prices.expert_layers
        lent = tuple(
            tuple(n for n in layers if first <= n < min(moe, last))
            for first, last in pairwise((start, *ends))
        )
        return Layout(start, ends, lent, sum(n < max(moe, start) for n in layers))

    def tightest(self, layout: Layout, *, piped: bool = False) -> int:
        """Bytes that are left on the tightest device in use; negative: it has no room."""
        lent = [n for layers in layout.lent for n in layers]
        runs = zip(self.budgets, layout.runs, strict=True)
        needs = [
            (budget, self.prices.holding(n, *run, lent, start=layout.start, piped=piped))
            for n, (budget, run) in enumerate(runs)
        ]  # fmt: skip
        return min((budget - need for budget, need in needs if need), default=ENDLESS)

    # With experts moved from wherever it helps

    def _moving(self, way: Way, most: int | None) -> Layout | None:
        """The fewest layers' experts on the CPU. None: even that is too much.

        What the first device works with depends on all that is lent, so that is limited first: to
        nothing, then to each of the caps. The path is the shortest one within the best cap."""
        start, best = way.start, None
        off = sum(n < start for n in self.prices.expert_layers)
        limit = self.units if most is None else most - off
        if limit >= 0 and (unmoved := self._unmoved(way)):
            return unmoved
        for cap in self.prices.caps(start):
            moves = self._moves(start, cap)
            path = self._path(moves, way, limit)
            if path and (best is None or (path.moved, -path.room) < (limit, -best[1].room)):
                best, limit = (moves, path), path.moved
        if best is None:
            return None
        return self._plain(best[1], start, way.ends) or self._named(*best, start, off)

    def _unmoved(self, way: Way) -> Layout | None:
        if way.ends is None:
            return self._levelled(way.start, 0, piped=False)
        layout = self.layout(way.start, way.ends, 0)
        return layout if self.tightest(layout) >= 0 else None

    def _moves(self, start: int, cap: Cap) -> list[Moves]:
        """Per device; those after the first that are alike share what is found out about one."""
        known: dict[tuple[bool, Padding, int], Moves] = {}
        keys = list(zip(self.prices.paddings, self.budgets, strict=True))
        for device, key in enumerate(keys):
            if (device > 0, *key) not in known:
                known[device > 0, *key] = Moves(self.prices, device, key[1], start, cap)
        return [known[device > 0, *key] for device, key in enumerate(keys)]

    def _path(self, moves: Sequence[Moves], way: Way, most: int) -> _Path | None:
        """The shortest one, along ends that may be given."""
        if way.ends is None:
            return self._shortest(moves, way.start, most)
        path = _given(moves, way.start, way.ends)
        return path if path and path.moved <= most else None

    def _shortest(self, moves: Sequence[Moves], start: int, most: int) -> _Path | None:
        if not any(self._reach(moves[n:], start) for n in range(len(moves))):
            return None
        paths = {start: _Path(0, ENDLESS, (), ())}
        for device, one in enumerate(moves):
            least = self._least_moves(device)
            paths = {n: path for n, path in paths.items() if path.moved + least[n] <= most}
            paths = _extended(paths, one, most)
        return paths.get(self.units)

    def _least_moves(self, device: int) -> list[int]:
        """For the units from each one on, on this device and the later ones: of how many layers
        the experts have to be moved at least, if the devices were one. It saves futile tries."""
        sums = self.prices.whole[device:]
        room, largest = sum(self.budgets[device:]), self.prices.largest_layer
        needs = [min(one[-1] - one[n] for one in sums) for n in range(self.units + 1)]
        return [max(0, -(-(need - room) // largest)) for need in needs]

    def _reach(self, moves: Sequence[Moves], start: int) -> bool:
        """Is there room on these devices at all, whatever is moved?"""
        for one in moves:
            start += max(0, len(one.runs(start)) - 1)
        return start == self.units

    def _plain(self, path: _Path, start: int, ends: tuple[int, ...] | None) -> Layout | None:
        """One that moves the first layers' experts, if it is as good: people can read that."""
        layers = [n for n in self.prices.expert_layers if n >= start][: path.moved]
        moe = layers[-1] + 1 if layers else 0
        if ends is None:
            return self._filled(start, moe, path.room, piped=False) if layers else None
        layout = self.layout(start, ends, moe)
        return layout if self.tightest(layout) >= path.room else None

    def _named(self, moves: Sequence[Moves], path: _Path, start: int, off: int) -> Layout:
        runs = zip(moves, pairwise((start, *path.ends)), path.counts, strict=True)
        lent = tuple(one.chosen(*run, count, path.room) for one, run, count in runs)
        return Layout(start, path.ends, lent, path.moved + off)


def _extended(paths: dict[int, _Path], device: Moves, most: int) -> dict[int, _Path]:
    """Each path with one more run, on this device; the best to each end."""
    best: dict[int, tuple[int, int, int, int]] = {}
    for first, path in paths.items():
        begun, least = path.moved, path.room
        for last, (count, room) in enumerate(device.runs(first), first):
            moved = begun + count
            if moved > most:
                break
            left = min(room, least)
            known = best.get(last)
            if known is None or moved < known[0] or (moved == known[0] and left > known[1]):
                best[last] = moved, left, first, count
    return {
        last: _Path(moved, left, (*paths[first].ends, last), (*paths[first].counts, count))
        for last, (moved, left, first, count) in best.items()
    }


def _given(moves: Sequence[Moves], start: int, ends: tuple[int, ...]) -> _Path | None:
    """The path along ends that are given."""
    rows = [(one.runs(first), last - first) for one, (first, last) in zip(
        moves, pairwise((start, *ends)), strict=True
    )]  # fmt: skip
    if not all(length < len(runs) for runs, length in rows):
        return None
    found = [runs[length] for runs, length in rows]
    return _Path(
        sum(count for count, _ in found), min(room for _, room in found), ends,
        tuple(count for count, _ in found),
    )  # fmt: skip
