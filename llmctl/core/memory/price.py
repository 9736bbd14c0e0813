"""What runs of units cost on each device, from prefix sums: a candidate takes microseconds.

The numbers are the Estimator's own, to the byte (a test holds both against each other); only the
way to them is shorter, since a search asks for thousands of placements of one context.
"""

from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise

import msgspec

from llmctl.core.memory.compute import Buffer, Load
from llmctl.core.memory.context import Shape, Sizer, shape_of
from llmctl.core.memory.estimate import Estimator
from llmctl.core.memory.settings import HOST, Padding, Settings, padding_of
from llmctl.core.memory.weights import Weights, padded


class Cap(msgspec.Struct, frozen=True):
    """A device's compute buffer while the host holds experts of layers before `before` whose
    largest tensors take up to `size` bytes: `compute` bytes."""

    compute: int
    size: int
    before: int

    def covers(self, other: "Cap") -> bool:
        """Does it allow all that the other one does, and take no more?"""
        allows = self.size >= other.size and self.before >= other.before
        return allows and self.compute <= other.compute


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
        self._computed: dict[tuple[Padding, bool, bool, bool, int, bool, int], int] = {}
        self._caps: dict[tuple[Padding, bool, bool, bool, int], tuple[Cap, ...]] = {}
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
        lent = [n for n in range(first, min(kept_from, last)) if self.has_experts[n]]
        return self.holding(device, first, last, lent, start=start, piped=piped)

    def holding(
        self, device: int, first: int, last: int, lent: Sequence[int], *, start: int, piped: bool
    ) -> int:
        """Units first..last-1 on a device, but the experts of the layers `lent` (in their order) on
        the host."""
        if last <= first:
            return 0
        sizes, expert = self.lent_sizes(device), self.expert[device]
        weights = self.weights(device, first, last) - sum(expert[n + 1] - expert[n] for n in lent)
        if self._said:
            layers = [n for n in range(first, last) if self.has_experts[n]]
            lent = [n for n in layers if self._said.get(n, n in lent)]
        largest = max(lent, key=sizes.__getitem__, default=-1)
        return (
            weights
            + self.compute(device, first, start, largest, lent[-1] if lent else -1, piped=piped)
            + self.tail(device, first, last, start=start, piped=piped)
        )  # fmt: skip

    def idle(self) -> int:
        """The first device's compute buffers where all layers are on the host: it works for it."""
        alone = self.compute(0, self.units, self.units, -1, -1, piped=False)
        if not self.predicts:
            return alone
        own, _ = self._drafting.predicting(HOST, piped=False)
        return alone + self._most(Buffer(own.nbytes, 1.0))

    def weights(self, device: int, first: int, last: int) -> int:
        """Weights, K/V and state of a run."""
        fixed, expert = self.fixed[device], self.expert[device]
        rope = self.rope[device] if self.roped[last] > self.roped[first] else 0
        return fixed[last] - fixed[first] + expert[last] - expert[first] + rope

    def lent_sizes(self, device: int) -> tuple[int, ...]:
        """Per layer, the bytes of experts that a device has to have room for while the host holds
        them."""
        return self._borrowed[self.paddings[device]].experts

    def caps(self, device: int, first: int, start: int) -> tuple[Cap, ...]:
        """What compute takes for a run from `first`, by what the host may hold. There is one for
        each size of experts and, with a window on some layers, for lending only before the first
        layer of the other kind; those that another one covers are left out."""
        only_output, early = first >= self.model.trunk, first < self._mixed_from < self.units
        padding, is_first = self.paddings[device], first == start
        key = (padding, is_first, only_output, early, start if is_first else 0)
        if key not in self._caps:
            made: list[Cap] = []
            for before in (self.units, self._mixed_from) if early else (self.units,):
                made += self._caps_before(before, device, first, start)
            made.sort(key=lambda one: (one.compute, -one.size, -one.before))
            self._caps[key] = tuple(
                one for n, one in enumerate(made) if not any(two.covers(one) for two in made[:n])
            )
        return self._caps[key]

    def _caps_before(self, before: int, device: int, first: int, start: int) -> Iterator[Cap]:
        sizes = self.lent_sizes(device)
        layers = [n for n in self.expert_layers if n < before]
        for size, largest in sorted({sizes[n]: n for n in layers}.items()):
            last = max(n for n in layers if sizes[n] <= size)
            yield Cap(self.compute(device, first, start, largest, last, piped=False), size, before)

    def compute(
        self, device: int, first: int, start: int, largest: int, last_lent: int, *, piped: bool
    ) -> int:
        """A device's compute buffer and its doubt. largest, last_lent: of the layers whose experts
        the host holds, that with the largest experts, and the last; -1: there are none."""
        is_first, only_output = first == start, first >= self.model.trunk and first != start
        lent_layers = min(start, self.units - 1) if is_first else 0
        padding = self.paddings[device]
        size = self._borrowed[padding].experts[largest] if largest >= 0 else 0
        mixed = last_lent >= self._mixed_from
        lends = size if largest >= 0 else -1
        key = (padding, is_first, only_output, piped, lends, mixed, lent_layers)
        if key not in self._computed:
            load = Load(
                is_first, only_output, (largest, last_lent) if largest >= 0 else (),
                tuple(range(lent_layers)),
            )  # fmt: skip
            made = self._graph.device(load, self._borrowed[padding], padding, piped=piped)
            self._computed[key] = self._most(made)
        return self._computed[key]

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
