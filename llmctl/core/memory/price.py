"""What runs of units cost on each device, from prefix sums: a candidate takes microseconds.

The numbers are the Estimator's own, to the byte (a test holds both against each other); only the
way to them is shorter, since a search asks for thousands of placements of one context.
"""

from itertools import accumulate

from llmctl.core.memory.compute import Graph, Load
from llmctl.core.memory.context import Sizer, shape_of
from llmctl.core.memory.estimate import Estimator
from llmctl.core.memory.settings import HOST, Padding, Settings, padding_of
from llmctl.core.memory.weights import Weights, padded


class Prices:
    """The price of any run of units on any device, for one context; placement is not in it.

    Bytes include what compute may be off: a plan that is meant to fit must fit then, too.
    """

    def __init__(self, estimator: Estimator, settings: Settings) -> None:
        self.model, self.settings, self._estimator = estimator.model, settings, estimator
        self.paddings = tuple(padding_of(device.name) for device in estimator.devices)
        self.units = len(self.model.layers) + 1
        shape = shape_of(self.model, settings)
        graph = Graph(self.model, estimator.widths, settings, shape, estimator.era)
        weights = estimator.loader(mtp=settings.mtp).weights
        self._graph, self._borrowed = graph, estimator.borrowed
        self.taken = [0] * len(self.paddings)
        sums = {one: self._sums(weights, one) for one in {*self.paddings}}
        self._take(weights, [device.name for device in estimator.devices])
        kept = {one: self._kept(Sizer(self.model, settings, shape, one)) for one in sums}
        self.fixed = [self._added(sums[one][0], kept[one]) for one in self.paddings]
        self.expert = [sums[one][1] for one in self.paddings]
        self.rope = [sum(padded(one, its) for one in weights.rope) for its in self.paddings]
        layers = set(weights.rope_layers)
        self.roped = [0, *accumulate(int(n in layers) for n in range(self.units))]
        self.has_experts = [*map(bool, estimator.borrowed[HOST].experts), False]
        loaded = self.model.trunk if not settings.mtp else len(self.model.layers)
        self.expert_layers = [n for n in range(loaded) if self.has_experts[n]]
        self._computed: dict[tuple[Padding, bool, bool, bool, int, int, int, bool], int] = {}
        self._has_swa = self.model.has_swa
        self._tails: dict[tuple[int, bool], int] = {}

    def _sums(self, weights: Weights, padding: Padding) -> tuple[list[int], list[int]]:
        """Running sums of what is no expert, and of experts, without what overrides name."""
        dense, expert = (list(one) for one in weights.prefix(padding))
        for piece, _ in weights.overridden(self.settings.overrides):
            sums, its = expert if piece.expert else dense, padded(piece.tensor, padding)
            for unit in range(piece.unit + 1, len(sums)) if piece.unit >= 0 else ():
                sums[unit] -= its
        return dense, expert

    def _take(self, weights: Weights, names: list[str]) -> None:
        """What overrides put on a device is there wherever the units go."""
        for piece, where in weights.overridden(self.settings.overrides):
            if where in names:
                home = names.index(where)
                self.taken[home] += padded(piece.tensor, self.paddings[home])

    def _kept(self, sizer: Sizer) -> list[int]:
        """Running sums of K/V and state, of the main context and of the one that predicts."""
        each = [0] * self.units
        if self.settings.kv_offload:
            for number, layer in enumerate(self.model.layers):
                size = sizer.layer(layer)
                if not layer.mtp or layer.trunk_cache:
                    each[number] += size.kv + size.state
                if layer.mtp and self.settings.mtp:
                    each[number] += size.kv
        return [0, *accumulate(each)]

    @staticmethod
    def _added(one: list[int], other: list[int]) -> list[int]:
        return [a + b for a, b in zip(one, other, strict=True)]

    def run(
        self, device: int, first: int, last: int, kept_from: int, *, start: int, piped: bool
    ) -> int:
        """Units first..last-1 on a device, experts only from `kept_from` on. start: the first unit
        on any device; a run that begins there is that of the first device in use."""
        kept = max(first, min(kept_from, last))
        others = range(start, max(start, kept_from)) if device == 0 else ()
        lent = [n for n in others if n < len(self.has_experts) and self.has_experts[n]]
        if last <= first and not lent and not (device == 0 and start > 0):
            return 0
        largest = -1
        for layer in lent:
            largest = self.larger(device, largest, layer)
        experts = [n for n in range(first, last) if self.has_experts[n]]
        dense = device > 0 and bool(experts) and experts[-1] < kept
        return (
            self.weights(device, first, last, kept)
            + self.compute(
                device, first, start, largest, lent[-1] if lent else -1, piped=piped, dense=dense
            )
            + self.tail(device, last, piped=piped)
        )

    def weights(self, device: int, first: int, last: int, kept: int) -> int:
        """Weights, K/V and state of a run."""
        fixed, expert = self.fixed[device], self.expert[device]
        rope = self.rope[device] if self.roped[last] > self.roped[first] else 0
        return fixed[last] - fixed[first] + expert[last] - expert[kept] + rope

    def larger(self, device: int, one: int, other: int) -> int:
        """Of two layers the one with the larger experts. one: -1 is no layer."""
        sizes = self._borrowed[self.paddings[device]].experts
        return one if one >= 0 and sizes[one] >= sizes[other] else other

    def lending(self, device: int, start: int) -> tuple[int, int]:
        """What the first of several devices must have room for whichever of them moves experts
        away: the layer with the largest, and the last; (-1, -1): nothing."""
        largest = -1
        for layer in self.expert_layers if device == 0 and len(self.paddings) > 1 else ():
            largest = self.larger(device, largest, layer) if layer >= start else largest
        return largest, self.expert_layers[-1] if largest >= 0 else -1

    def compute(
        self, device: int, first: int, start: int, largest: int, last_lent: int,
        *, piped: bool, dense: bool = False,
    ) -> int:  # fmt: skip
        """A device's compute buffer and its doubt. largest, last_lent: of the layers whose experts
        the host holds, that with the largest experts, and the last; -1: there are none. The first
        device works on all of them, wherever their layers are. dense: on none of its own."""
        is_first, only_output = first == start, first == self.units - 1 and first != start
        lent_layers = min(start, self.units - 1) if device == 0 else 0
        padding = self.paddings[device]
        size = self._borrowed[padding].experts[largest] if largest >= 0 else 0
        mask = last_lent if self._has_swa else min(last_lent, 0)
        key = (padding, is_first, only_output, piped, size, mask, lent_layers, dense)
        if key not in self._computed:
            lent = tuple(range(lent_layers))
            load = Load(
                is_first, only_output, (largest, last_lent) if largest >= 0 else (), lent,
                self._estimator.lent_cache(self._graph, lent), dense,
            )  # fmt: skip
            made = self._graph.device(load, self._borrowed[padding], padding, piped=piped)
            self._computed[key] = made.nbytes + made.doubt
        return self._computed[key]

    def tail(self, device: int, last: int, *, piped: bool) -> int:
        """What the MTP context adds where the output is: its compute buffer."""
        if last < self.units or not self.settings.mtp or not self.model.n_mtp:
            return 0
        key = device, piped
        if key not in self._tails:
            made, _ = self._graph.predicting(self.paddings[device], piped=piped)
            self._tails[key] = made.nbytes + made.doubt
        return self._tails[key]
