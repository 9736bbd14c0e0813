"""Which experts leave a device so that a run of units fits: of as few layers as can be.

Experts that the host holds still cost their device something: room for the largest of them, while
it works. So the largest are not always the best to move. But for a limit on the size of what is
lent (a `Cap`) they are: of those within it, the layers that free the most. There are few sizes in a
model, and each is tried.
"""

from bisect import bisect_right
from collections.abc import Sequence

from llmctl.core.memory.price import Cap, Prices

ENDLESS = 1 << 62
"""Bytes left on a device that is not used."""


class _Try:
    """One cap, for a run that grows: the layers within it, those that free the most in front."""

    def __init__(self, cap: Cap, sizes: Sequence[int], expert: Sequence[int]) -> None:
        self._cap, self._sizes, self._expert = cap, sizes, expert
        self._freed: list[int] = []  # negative: bisect wants them to rise
        self.moved = self._gain = 0

    def add(self, layer: int) -> None:
        """One more layer at the end of the run."""
        freed = self._expert[layer + 1] - self._expert[layer]
        if not freed or layer >= self._cap.before or self._sizes[layer] > self._cap.size:
            return
        at = bisect_right(self._freed, -freed)
        self._freed.insert(at, -freed)
        if at < self.moved:
            self._gain += freed + self._freed[self.moved]

    def left(self, spare: int) -> int:
        """Moves as few as can be; the bytes that are left then, negative if all are not enough.
        spare: bytes that are left for compute with nothing moved."""
        room = spare + self._gain - self._cap.compute
        while room < 0 and self.moved < len(self._freed):
            room -= self._freed[self.moved]
            self._gain -= self._freed[self.moved]
            self.moved += 1
        return room


class Moves:
    """What has to be moved off one device with so many bytes, for placements that begin at unit
    `start`."""

    def __init__(self, prices: Prices, device: int, budget: int, start: int) -> None:
        self._prices, self._device, self._budget = prices, device, budget
        self._start = start
        self._runs: dict[int, list[tuple[int, int]]] = {}

    def runs(self, first: int) -> list[tuple[int, int]]:
        """For the runs first..first, first..first+1 and so on, as far as the device has room: of
        how many layers the experts are moved, and the bytes that are left (of a device that is not
        used, none are asked for). A longer run never moves fewer."""
        if first not in self._runs:
            self._runs[first] = [(0, ENDLESS), *self._found(first)]
        return self._runs[first]

    def _found(self, first: int) -> list[tuple[int, int]]:
        prices, found = self._prices, []
        none = prices.compute(self._device, first, self._start, -1, -1, piped=False)
        spares = self._spares(first)
        for spare in spares:
            if spare < none:
                break
            found.append((0, spare - none))
        tries = self._tries(first, first + len(found))
        for layer in range(first + len(found), prices.units):
            spare, best = spares[layer - first], None
            for one in tries:
                one.add(layer)
                room = one.left(spare)
                if room >= 0 and (best is None or (one.moved, -room) < best):
                    best = one.moved, -room
            if best is None:
                break
            found.append((best[0], -best[1]))
        return found

    def _spares(self, first: int) -> list[int]:
        """Bytes left for compute, with all experts on the device, for ever longer runs."""
        prices, device, roped = self._prices, self._device, self._prices.roped
        whole = prices.whole[device]
        base = self._budget + whole[first]
        spares = [base - one for one in whole[first + 1 :]]
        if rope := prices.rope[device]:
            for n in range(len(spares)):
                spares[n] -= rope if roped[first + n + 1] > roped[first] else 0
        for last in range(max(first + 1, prices.units - 1), prices.units + 1):
            spares[last - first - 1] -= prices.tail(
                device, first, last, start=self._start, piped=False
            )  # fmt: skip
        return spares

    def _tries(self, first: int, last: int) -> list[_Try]:
        prices, device = self._prices, self._device
        sizes, expert = prices.lent_sizes(device), prices.expert[device]
        tries = [_Try(cap, sizes, expert) for cap in prices.caps(device, first, self._start)]
        for layer in range(first, last):
            for one in tries:
                one.add(layer)
        return tries

    def chosen(self, first: int, last: int, count: int, least: int) -> tuple[int, ...]:
        """Of which layers the experts go, where `count` are enough: the first ones if that leaves
        `least` bytes, else those that leave the most."""
        sizes, expert = self._prices.lent_sizes(self._device), self._prices.expert[self._device]
        layers = [n for n in self._prices.expert_layers if first <= n < last]
        plain = tuple(layers[:count])
        if not count or self._left(first, last, plain) >= least:
            return plain
        layers.sort(key=lambda n: expert[n] - expert[n + 1])
        sets = [plain]
        for cap in self._prices.caps(self._device, first, self._start):
            within = [n for n in layers if n < cap.before and sizes[n] <= cap.size]
            sets.append(tuple(sorted(within[:count])))
        enough = [one for one in sets if len(one) == count]
        return max(enough, key=lambda one: self._left(first, last, one))

    def _left(self, first: int, last: int, lent: Sequence[int]) -> int:
        needed = self._prices.holding(
            self._device, first, last, lent, start=self._start, piped=False
        )
        return self._budget - needed
