"""What runs of units cost on each device, from prefix sums: a candidate takes microseconds.

The numbers are the Estimator's own, to the byte (a test holds both against each other); only the
way to them is shorter, since a search asks for thousands of placements of one context.
"""

import itertools
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise

import msgspec

from llmctl.core.memory.buffers import Buffer, Load
from llmctl.core.memory.context import Shape, Sizer, shape_of
from llmctl.core.memory.estimate import Estimator
from llmctl.core.memory.settings import HOST, Padding, Settings, padding_of
from llmctl.core.memory.weights import Weights, padded

_Lent = tuple[int, int, bool] | None
"""What counts of the layers whose experts the host holds: the largest, what may still be there of
the step before, and whether layers of both kinds are among those up to the last."""


class Cap(msgspec.Struct, frozen=True):
    """What the first device's compute buffer takes, in bytes, while the host holds experts of these
    layers or of some of them. idle: if it has no layers of its own."""

    compute: int
    idle: int
    layers: frozenset[int]

    def covers(self, other: "Cap") -> bool:
        """Does it allow all that the other one does, and take no more?"""
        return self.layers >= other.layers and self.compute <= other.compute


class Prices:
    """The price of any run of units on any device, for one context; placement is not in it.

    Bytes include what compute may be off: a plan that is meant to fit must fit then, too.
    """

    def __init__(self, estimator: Estimator, settings: Settings) -> None:
        self.model, self.settings = estimator.model, settings
        self.paddings = tuple(padding_of(device.name) for device in estimator.devices)
        self.units = len(self.model.layers) + 1
        shape = shape_of(self.model, settings)
        graph = estimator.graph(settings, shape)
        self._drafting = estimator.graph(settings.drafting, shape)
        self.predicts = bool(settings.mtp and self.model.n_mtp)
        self._hosted = self._predicted(shape)
        weights = estimator.loader(mtp=settings.mtp).weights
        self._graph, self._borrowed = graph, estimator.borrowed
        self.taken = [0] * len(self.paddings)
        self._said: dict[int, bool] = {}
        sums = {one: self._sums(weights, one) for one in {*self.paddings}}
        self._take(weights, [device.name for device in estimator.devices])
        kept = {one: self._kept(shape, one) for one in sums}
        self.fixed = [self._added(sums[one][0], kept[one]) for one in self.paddings]
        self.expert = [sums[one][1] for one in self.paddings]
        self.whole = [self._added(*pair) for pair in zip(self.fixed, self.expert, strict=True)]
        freed = (b - a for sums in self.expert for a, b in pairwise(sums))
        self.largest_layer = max(1, *freed)
        self.rope = [sum(padded(one, its) for one in weights.rope) for its in self.paddings]
        layers = set(weights.rope_layers)
        self.roped = [0, *accumulate(int(n in layers) for n in range(self.units))]
        self.has_experts = [*map(bool, estimator.borrowed[HOST].experts), False]
        loaded = self.model.trunk if not settings.mtp else len(self.model.layers)
        self.expert_layers = [n for n in range(loaded) if self.has_experts[n]]
        self._computed: dict[tuple[Padding, bool, bool, bool, bool, int, _Lent], int] = {}
        self._caps: dict[int, tuple[Cap, ...]] = {}
        kinds = [layer.is_swa for layer in self.model.layers]
        self._mixed_from = next((n for n, one in enumerate(kinds) if one != kinds[0]), self.units)
        self._tails: dict[tuple[int, bool, int], int] = {}

    def _sums(self, weights: Weights, padding: Padding) -> tuple[list[int], list[int]]:
        """Running sums of what is no expert, and of experts, without what overrides name."""
        dense, expert = (list(one) for one in weights.prefix(padding))
        for piece, _ in weights.overridden(self.settings.overrides):
            sums, its = expert if piece.expert else dense, piece.on(padding)
            for unit in range(piece.unit + 1, len(sums)) if piece.unit >= 0 else ():
                sums[unit] -= its
        return dense, expert

    def _take(self, weights: Weights, names: list[str]) -> None:
        """What overrides put on a device is there wherever the units go, a tied embedding once;
        experts that they put on the host are lent."""
        taken: set[tuple[str, str]] = set()
        for piece, where in weights.overridden(self.settings.overrides):
            if piece.expert:
                self._said[piece.unit] = where == "CPU"
            if where in names and (piece.name, where) not in taken:
                taken.add((piece.name, where))
                home = names.index(where)
                self.taken[home] += padded(piece.tensor, self.paddings[home])

    def _kept(self, shape: Shape, padding: Padding) -> list[int]:
        """Running sums of K/V and state, of the main context and of the one that predicts."""
        each = [0] * self.units
        sizer = Sizer(self.model, self.settings, shape, padding)
        drafting = Sizer(self.model, self.settings.drafting, shape, padding)
        if self.settings.kv_offload:
            for number, layer in enumerate(self.model.layers):
                size = sizer.layer(layer)
                if not layer.mtp or layer.trunk_cache:
                    each[number] += size.kv + size.state
                if layer.mtp and self.settings.mtp:
                    each[number] += drafting.layer(layer).kv
        return [0, *accumulate(each)]

    def _predicted(self, shape: Shape) -> list[int]:
        """Running sums of what the MTP context keeps, in host memory."""
        sizer = Sizer(self.model, self.settings.drafting, shape, HOST)
        layers = self.model.layers if self.predicts else ()
        return [0, *accumulate(sizer.layer(one).kv if one.mtp else 0 for one in layers)]

    @staticmethod
    def _added(one: list[int], other: list[int]) -> list[int]:
        return [a + b for a, b in zip(one, other, strict=True)]

    def run(
        self, device: int, first: int, last: int, kept_from: int, *, start: int, piped: bool
    ) -> int:
        """Units first..last-1 on a device, experts only from `kept_from` on. start: the first unit
        on any device; a run that begins there is that of the first device in use."""
        layers = range(start, min(kept_from, self.units))
        lent = [n for n in layers if self.has_experts[n]]
        return self.holding(device, first, last, lent, start=start, piped=piped)

    def holding(
        self, device: int, first: int, last: int, lent: Sequence[int], *, start: int, piped: bool
    ) -> int:
        """Units first..last-1 on a device, but the experts of the layers `lent` (in their order) on
        the host. These are the layers of all devices, since the first one works on what is lent
        wherever the layers are, and if it has none of its own."""
        expert = self.expert[device]
        freed = sum(expert[n + 1] - expert[n] for n in lent if first <= n < last)
        if self._said:
            layers = [n for n in range(start, self.units) if self.has_experts[n]]
            lent = [n for n in layers if self._said.get(n, n in lent)]
        helps = device == 0 and self._graph.lends and (start > 0 or len(lent) > 0)
        helps = helps and start < self.units
        if last <= first and not helps:
            return 0
        moved = sum(first <= n < last for n in lent)
        dense = device > 0 and moved == sum(self.has_experts[first:last])
        compute = self.compute(device, first, start, lent, piped=piped, dense=dense)
        tail = self.tail(device, first, last, start=start, piped=piped)
        return self.weights(device, first, last) - freed + compute + tail

    def idle(self) -> int:
        """The first device's compute buffers where all layers are on the host: it works for it."""
        lends = self._graph.lends
        alone = self.compute(0, self.units, self.units, (), piped=False) if lends else 0
        if not self.predicts:
            return alone
        own, _ = self._drafting.predicting(HOST, piped=False)
        return alone + self._most(Buffer(own.nbytes, 1.0))

    def weights(self, device: int, first: int, last: int) -> int:
        """Weights, K/V and state of a run."""
        fixed, expert = self.fixed[device], self.expert[device]
        rope = self.rope[device] if self.roped[last] > self.roped[first] else 0
        return fixed[last] - fixed[first] + expert[last] - expert[first] + rope

    def caps(self, start: int) -> tuple[Cap, ...]:
        """What the first device's compute takes by what the host may hold of the layers from
        `start` on. There is one cap for each size of experts and, with a window on some layers, for
        lending only before the first layer of the other kind; those that another one covers are
        left out."""
        if start not in self._caps:
            layers = [n for n in self.expert_layers if n >= start]
            made = sorted(set(self._limits(layers)), key=lambda one: (len(one), *sorted(one)))
            caps = [self._cap(start, one) for one in made]
            caps.sort(key=lambda one: (one.compute, -len(one.layers)))
            self._caps[start] = tuple(
                one for n, one in enumerate(caps) if not any(two.covers(one) for two in caps[:n])
            )
        return self._caps[start]

    def _cap(self, start: int, layers: frozenset[int]) -> Cap:
        compute = self.compute(0, start, start, sorted(layers), piped=False)
        return Cap(compute, compute if self._graph.lends else 0, layers)

    def _limits(self, layers: Sequence[int]) -> Iterator[frozenset[int]]:
        """Sets of layers that are all there are up to some size, or before some layer."""
        sizes, seconds = self._lent_sizes(0)
        for end in {self._mixed_from, self.units}:
            before = [n for n in layers if n < end]
            pairs = itertools.product({sizes[n] for n in before}, {seconds[n] for n in before})
            for size, second in pairs:
                yield frozenset(n for n in before if sizes[n] <= size and seconds[n] <= second)

    def _lent_sizes(self, device: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Per layer, what a device needs room for while the host holds its experts: the bytes of
        the largest; and of what may still be there of the step before, if that counts."""
        borrowed = self._borrowed[self.paddings[device]]
        late = self._graph.late_masks
        return borrowed.experts, borrowed.second if late else (0,) * len(borrowed.second)

    def compute(
        self, device: int, first: int, start: int, lent: Sequence[int], *,
        piped: bool, dense: bool = False,
    ) -> int:  # fmt: skip
        """A device's compute buffer and its doubt. lent: the layers whose experts the host holds,
        in their order, wherever they are. dense: the device works on no experts."""
        is_first, only_output = first == start, first >= self.model.trunk and first != start
        lent_layers = min(start, self.units - 1) if device == 0 else 0
        padding, held = self.paddings[device], self._standing(device, lent)
        key = (padding, is_first, only_output, piped, dense, lent_layers, held[0])
        if key not in self._computed:
            load = Load(is_first, only_output, held[1], tuple(range(lent_layers)), dense)
            made = self._graph.device(load, self._borrowed[padding], padding, piped=piped)
            self._computed[key] = self._most(made)
        return self._computed[key]

    def _standing(self, device: int, lent: Sequence[int]) -> tuple[_Lent, tuple[int, ...]]:
        """What counts of lent layers, and a few of them with which it is the same."""
        if device > 0 or not lent:
            return None, ()
        sizes, seconds = self._lent_sizes(device)
        largest = max(lent, key=sizes.__getitem__)
        second = max(lent, key=seconds.__getitem__)
        held = sizes[largest], seconds[second], lent[-1] >= self._mixed_from
        return held, (largest, second, lent[-1])

    def tail(self, device: int, first: int, last: int, *, start: int, piped: bool) -> int:
        """What the MTP context adds to a run (see Estimator.predicting): its compute buffer to that
        with the last MTP layer, or to that with the output if the host has the layer; to one with
        the output alone, its logits."""
        if last < self.units - 1 or first >= last or not self.predicts:
            return 0
        if first == self.units - 1 > start:
            return self._most(self._drafting.logits())
        key = device, piped, self._fetched(start)
        if key not in self._tails:
            made, _ = self._drafting.predicting(
                self.paddings[device], piped=piped, fetched=key[2]
            )  # fmt: skip
            self._tails[key] = self._most(made)
        return self._tails[key]

    def _fetched(self, start: int) -> int:
        """Bytes of the MTP context's K and V that the host holds."""
        return self._hosted[min(start, self.units - 1) if self.settings.kv_offload else -1]

    @staticmethod
    def _most(buffer: Buffer) -> int:
        return buffer.nbytes + buffer.error_bytes
