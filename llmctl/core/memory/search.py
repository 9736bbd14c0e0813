"""Finds where units go: the fewest experts on the CPU first, then the most room on the tightest
device.

Each device gets one run of units, in llama.cpp's order, and must have room for it by itself. A run
costs more the longer it is, so filling one device after the other finds a placement if there is
one; with experts to be moved it is a shortest path over the ends of the runs.
"""

from collections.abc import Iterator, Sequence

import msgspec

from llmctl.core.memory.price import Prices

_ENDLESS = 1 << 62
_STEP = 1 << 20
"""Room on the tightest device is told apart down to this many bytes."""


class Layout(msgspec.Struct, frozen=True):
    """Units start.. on devices. ends: where each device's run ends. kept: per device, the first
    unit of its run whose experts are on it. moved: the number of layers whose experts are not.
    no_pipeline: it needs the memory that copies of the inputs would take."""

    start: int
    ends: tuple[int, ...]
    kept: tuple[int, ...]
    moved: int = 0
    no_pipeline: bool = False

    @property
    def begins(self) -> tuple[int, ...]:
        """Where each device's run begins."""
        return (self.start, *self.ends[:-1])

    @property
    def counts(self) -> tuple[int, ...]:
        """Units per device: what `--tensor-split` says."""
        return tuple(end - begin for begin, end in zip(self.begins, self.ends, strict=True))


class _Path(msgspec.Struct, frozen=True):
    """The best way to place all units up to one: ordered by what is to be little."""

    moved: int
    tightness: int
    ends: tuple[int, ...]
    kept: tuple[int, ...]


class Search:
    """Placements of one context on devices with so many bytes to fill."""

    def __init__(self, prices: Prices, budgets: Sequence[int]) -> None:
        self.prices, self.budgets = (
            prices,
            tuple(one - taken for one, taken in zip(budgets, prices.taken, strict=True)),
        )
        self.units = prices.units

    # Without moving experts, or with those of the first `moe` layers

    def filled(self, start: int, moe: int, room: int = 0, *, piped: bool) -> Layout | None:
        """Each device as full as `room` allows, one after the other; None: it is too much."""
        ends, at = [], start
        for device, budget in enumerate(self.budgets):
            at = self._farthest(device, at, start, moe, budget - room, piped=piped)
            ends.append(at)
        return self.layout(start, tuple(ends), moe) if at == self.units else None

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

    def levelled(self, start: int, moe: int, *, piped: bool) -> Layout | None:
        """Of all splits that fit, one that leaves the tightest device as much as can be."""
        best = self.filled(start, moe, piped=piped)
        if best is None or len(self.budgets) == 1:
            return best
        low, high = 0, max(self.budgets) // _STEP
        while low < high:
            middle = (low + high + 1) // 2
            found = self.filled(start, moe, middle * _STEP, piped=piped)
            if found is None:
                high = middle - 1
            else:
                low, best = middle, found
        return best

    def layout(self, start: int, ends: tuple[int, ...], moe: int) -> Layout:
        """A layout where the experts of the first `moe` layers are on the CPU."""
        kept = tuple(
            max(begin, min(moe, end))
            for begin, end in zip((start, *ends[:-1]), ends, strict=True)
        )  # fmt: skip
        return Layout(start, ends, kept, sum(n < moe for n in self.prices.expert_layers))

    # With experts moved from wherever it helps

    def moving(self, start: int) -> Layout | None:
        """The fewest layers' experts on the CPU. None: even without any, it does not fit."""
        paths: list[_Path | None] = [None] * (self.units + 1)
        paths[start] = _Path(0, -_ENDLESS, (), ())
        for device in range(len(self.budgets)):
            paths = self._extended(paths, device, start)
        best = paths[self.units]
        if best is None:
            return None
        off = sum(n < start for n in self.prices.expert_layers)
        return Layout(start, best.ends, best.kept, best.moved + off)

    def _extended(
        self, paths: Sequence[_Path | None], device: int, start: int
    ) -> list[_Path | None]:
        found: list[_Path | None] = [None] * (self.units + 1)
        keys: list[tuple[int, int]] = [(self.units + 1, 0)] * (self.units + 1)
        came: list[tuple[int, int]] = [(0, 0)] * (self.units + 1)
        for first, path in enumerate(paths):
            if path is None:
                continue
            for last, kept, moved, room in self.fewest(device, first, start):
                key = path.moved + moved, max(path.tightness, -room)
                if key < keys[last]:
                    keys[last], came[last] = key, (first, kept)
        for last, (key, (first, kept)) in enumerate(zip(keys, came, strict=True)):
            path = paths[first] if key[0] <= self.units else None
            if path is not None:
                found[last] = _Path(*key, (*path.ends, last), (*path.kept, kept))
        return found

    def fewest(
        self, device: int, first: int, start: int, most: int | None = None
    ) -> Iterator[tuple[int, int, int, int]]:
        """For each end of a run from `first`: the end, the first unit whose experts stay, how many
        layers' experts are moved, and the bytes that are left. A longer run never moves fewer."""
        prices, kept, moved = self.prices, first, 0
        largest, lent = self.prices.lending(device, start)
        yield first, first, 0, _ENDLESS
        fixed, expert, rope = prices.fixed[device], prices.expert[device], prices.rope[device]
        roped, limit = prices.roped, prices.expert_layers[-1] + 1 if prices.expert_layers else 0
        compute = prices.compute(device, first, start, largest, lent, piped=False)
        base = self.budgets[device] + fixed[first]
        for last in range(first + 1, (most or self.units) + 1):
            room = base - fixed[last] - expert[last] - (rope if roped[last] > roped[first] else 0)
            if last == self.units:
                room -= prices.tail(device, last, piped=False)
            while room + expert[kept] < compute:
                if kept >= min(last, limit):
                    return
                if prices.has_experts[kept]:
                    moved += 1
                    if device == 0:
                        largest, lent = prices.larger(device, largest, kept), max(lent, kept)
                        compute = prices.compute(device, first, start, largest, lent, piped=False)
                kept += 1
            yield last, kept, moved, room + expert[kept] - compute

    def moving_within(self, start: int, ends: Sequence[int]) -> Layout | None:
        """As `moving`, for a split that is given."""
        kept, moved, begin = [], 0, start
        for device, end in enumerate(ends):
            runs = self.fewest(device, begin, start, end) if end > begin else ()
            fit = next((run for run in runs if run[0] == end), None)
            if end > begin and fit is None:
                return None
            kept.append(fit[1] if fit else begin)
            moved += fit[2] if fit else 0
            begin = end
        moved += sum(n < start for n in self.prices.expert_layers)
        return Layout(start, tuple(ends), tuple(kept), moved)

    def fits(self, layout: Layout, *, piped: bool) -> bool:
        """Has every device room for its run?"""
        runs = zip(self.budgets, layout.begins, layout.ends, layout.kept, strict=True)
        return all(
            self.prices.run(n, first, last, kept, start=layout.start, piped=piped) <= budget
            for n, (budget, first, last, kept) in enumerate(runs)
        )
