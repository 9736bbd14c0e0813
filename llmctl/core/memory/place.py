"""Which unit goes to which device, and what each device's buffers of weights then take."""

import struct
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import msgspec

from llmctl.core.memory.model import Model
from llmctl.core.memory.settings import HOST, Device, Settings, padding_of
from llmctl.core.memory.weights import INPUT, Piece, Weights, padded
from llmctl.errors import ProfileError

CPU: Final = -1
"""The place of what is not on a device."""


class Placement(msgspec.Struct, frozen=True):
    """Units first..last-1 on each device, in their order; all before the first are on the CPU."""

    start: int
    runs: tuple[tuple[int, int], ...]

    def of(self, unit: int) -> int:
        """The device of a unit, or CPU."""
        for number, (first, last) in enumerate(self.runs):
            if first <= unit < last:
                return number
        return CPU


def place(model: Model, settings: Settings, devices: Sequence[Device]) -> Placement:
    """llama-model.cpp, load_tensors: get_layer_buft_list."""
    units = len(model.layers) + 1
    wanted = units if settings.gpu_layers is None else settings.gpu_layers
    active = min(wanted, units) if devices else 0
    start = units - active
    shares = _shares(settings, devices)
    ends = [start]
    for share in shares:
        ends.append(max(ends[-1], start + _below(share, active)))
    return Placement(start, tuple(pairwise(ends)))


def _below(share: float, active: int) -> int:
    """How many of `active` units have a float32 share below `share` (std::upper_bound)."""
    low, high = 0, active
    while low < high:
        middle = (low + high) // 2
        if _f32(middle / active) < share:
            low = middle + 1
        else:
            high = middle
    return low


def _shares(settings: Settings, devices: Sequence[Device]) -> list[float]:
    """Running shares in float32, as llama.cpp adds them up."""
    if settings.split_mode == "none":
        return [float(number >= settings.main_gpu) for number in range(len(devices))]
    split = [_f32(one) for one in settings.tensor_split[: len(devices)]]
    split += [0.0] * (len(devices) - len(split))
    if not any(split):
        split = [_f32(float(device.free_bytes or 1)) for device in devices]
    running, total = [], 0.0
    for one in split:
        total = _f32(total + one)
        running.append(total)
    return [_f32(one / total) for one in running]


def _f32(value: float) -> float:
    return float(struct.unpack("f", struct.pack("f", value))[0])


class Loaded(msgspec.Struct, frozen=True):
    """Bytes of weights: on each device, and on the host."""

    devices: tuple[int, ...]
    host: int


class Loader:
    """Sums up weights for one model on fixed devices."""

    def __init__(self, weights: Weights, devices: Sequence[Device]) -> None:
        self.weights = weights
        self.paddings = tuple(padding_of(device.name) for device in devices)
        self._names = tuple(device.name for device in devices)
        self._inputs = weights.inputs()

    def load(self, settings: Settings, placement: Placement) -> Loaded:
        """What is where, the input, the experts on the CPU and the overrides included."""
        moe, start = settings.n_cpu_moe, placement.start
        places = [
            self.weights.run(padding, first, last, moe)
            for padding, (first, last) in zip(self.paddings, placement.runs, strict=True)
        ]
        host = self._inputs + self.weights.run(HOST, 0, start, 0)
        host += self.weights.experts(HOST, start, max(start, min(moe, self.weights.units)))
        for padding, (first, last) in zip(self.paddings, placement.runs, strict=True):
            host += self.weights.left(padding, first, last)
        if settings.overrides:
            host = self._override(settings, placement, places, host)
        elif start == self.weights.units:
            host -= self._tied_twice()
        for tensor in self.weights.rope:
            homes = {placement.of(layer) for layer in self.weights.rope_layers}
            for home in homes - {CPU}:
                places[home] += padded(tensor, self.paddings[home])
            host += padded(tensor, HOST) if CPU in homes else 0
        return Loaded(tuple(places), host)

    def _tied_twice(self) -> int:
        """Both uses of a tied embedding on the CPU: it is there once."""
        if self.weights.twice:
            return 0
        last = self.weights.pieces[-1] if self.weights.pieces else None
        tied = last is not None and last.name == "token_embd.weight" and last.unit != INPUT
        return padded(last.tensor, HOST) if tied and last else 0

    def _override(
        self, settings: Settings, placement: Placement, places: list[int], host: int
    ) -> int:
        """Moves the tensors that overrides name; returns what the host then has."""
        moved: set[tuple[str, int]] = set()
        for piece, where in self.weights.overridden(settings.overrides):
            origin = self._home(piece, settings, placement)
            target = self._place(where)
            if origin == CPU or not piece.on(self.paddings[origin]):
                host -= padded(piece.tensor, HOST)
            else:
                places[origin] -= piece.on(self.paddings[origin])
            if (piece.name, target) in moved:
                continue
            moved.add((piece.name, target))
            if target == CPU:
                host += padded(piece.tensor, HOST)
            else:
                places[target] += padded(piece.tensor, self.paddings[target])
        overridden = any(name == "token_embd.weight" for name, _ in moved)
        return host - (
            self._tied_twice() if placement.start == self.weights.units and not overridden else 0
        )

    def _home(self, piece: Piece, settings: Settings, placement: Placement) -> int:
        """Where a tensor would be without overrides."""
        if piece.unit == INPUT or (piece.expert and piece.unit < settings.n_cpu_moe):
            return CPU
        return placement.of(piece.unit)

    def _place(self, where: str) -> int:
        if where == "CPU" or where.endswith("_Host"):
            return CPU
        try:
            return self._names.index(where)
        except ValueError:
            known = ", ".join(("CPU", *self._names))
            raise ProfileError(
                f"An override puts tensors on {where}, which is not there.",
                hint=f"There are {known}.",
            ) from None
