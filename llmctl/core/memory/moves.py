"""Which experts leave a device so that a run of units fits: of as few layers as can be.

Experts that the host holds still cost the first device something: room for the largest of them,
while it works. So the largest are not always the best to move. But for a limit on what is lent (a
`Cap`) they are: of the layers within it, those that free the most. There are few limits in a model,
and each is tried.
"""

from bisect import bisect_right

from llmctl.core.memory.price import Cap, Prices

ENDLESS = 1 << 62
"""Bytes left on a device that is not used."""


class _Run:
    """A run that grows: of the layers that may be lent, those that free the most in front.
    compute: with experts to work on, and without any."""

    def __init__(self, compute: tuple[int, int]) -> None:
        self._compute = compute
        self._freed: list[int] = []  # negative: bisect wants them to rise
        self.moved = self._gain = self._experts = 0

    def add(self, freed: int, *, lendable: bool) -> None:
        """One more layer with experts at the end of the run, and what moving them frees."""
        self._experts += 1
        if not lendable or not freed:
            return
        at = bisect_right(self._freed, -freed)
        self._freed.insert(at, -freed)
        if at < self.moved:
            self._gain += freed + self._freed[self.moved]

    def left(self, spare: int) -> int:
        """Moves as few as can be; the bytes that are left then, negative if all are not enough.
        spare: bytes that are left for compute with nothing moved."""
        room = self._room(spare)
        while room < 0 and self.moved < len(self._freed):
            self._gain -= self._freed[self.moved]
            self.moved += 1
            room = self._room(spare)
        return room

    def _room(self, spare: int) -> int:
        return spare + self._gain - self._compute[self.moved == self._experts]


class Moves:
    """What has to be moved off one device with so many bytes, for placements that begin at unit
    `start`, and lend only what a cap allows."""

    def __init__(self, prices: Prices, device: int, budget: int, start: int, cap: Cap) -> None:
        self._prices, self._device, self._budget = prices, device, budget
        self._start, self._cap = start, cap
        self._runs: dict[int, list[tuple[int, int]]] = {}

    def runs(self, first: int) -> list[tuple[int, int]]:
        """For the runs first..first, first..first+1 and so on, as far as the device has room: of
        how many layers the experts are moved, and the bytes that are left (of a device that is not
        used, none are asked for). A longer run never moves fewer."""
        if first not in self._runs:
            idle = 0 if self._device else self._cap.idle
            unused = self._budget - idle if idle else ENDLESS
            self._runs[first] = [(0, unused), *self._found(first)] if unused >= 0 else []
        return self._runs[first]

    def _found(self, first: int) -> list[tuple[int, int]]:
        expert, has_experts = self._prices.expert[self._device], self._prices.has_experts
        run, found, lendable = _Run(self._computes(first)), [], self._cap.layers
        for layer, spare in enumerate(self._spares(first), first):
            if has_experts[layer]:
                run.add(expert[layer + 1] - expert[layer], lendable=layer in lendable)
            room = run.left(spare)
            if room < 0:
                break
            found.append((run.moved, room))
        return found

    def _computes(self, first: int) -> tuple[int, int]:
        """What compute takes with experts to work on, and without any; the first device works on
        what is lent in any case."""
        if self._device == 0:
            return self._cap.compute, self._cap.compute
        usual, dense = (
            self._prices.compute(self._device, first, self._start, (), piped=False, dense=dense)
            for dense in (False, True)
        )
        return usual, dense

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

    def chosen(self, first: int, last: int, count: int, least: int) -> tuple[int, ...]:
        """Of which layers the experts go, where `count` are enough: the first ones if that leaves
        `least` bytes, else those that free the most."""
        expert = self._prices.expert[self._device]
        layers = sorted(n for n in self._cap.layers if first <= n < last)
        best = sorted(layers, key=lambda n: expert[n] - expert[n + 1])[:count]
        plain = layers[:count]
        lacking = sum(expert[n + 1] - expert[n] for n in best)
        lacking -= sum(expert[n + 1] - expert[n] for n in plain)
        runs = self.runs(first)
        enough = count and runs[last - first][1] - lacking >= least
        return tuple(plain) if enough else tuple(sorted(best))
