"""Devices to plan for: the binary's list, what else is known of it, what config.yaml overrides.

Names and order are llama.cpp's alone; core/card_match.py says which card each of them is.
"""

import itertools
from collections.abc import Mapping, Sequence

import msgspec
from msgspec.structs import replace

from llmctl.core.card_match import NOTABLE, is_shared, match_cards
from llmctl.core.cards import MIB, Card, Listed, backend_of
from llmctl.core.config import Device
from llmctl.core.size import parse_size

RAM = "RAM"
"""What config.yaml and the table call the host's memory."""

# What a server takes beside its buffers, in MiB: (free memory measured before it has a context,
# measured by a process that has one). A device's `reserve` in config.yaml replaces it.
_RUNTIME_MIB = {
    # Before: "unaccounted" 705-712 (RTX PRO 6000 x4, GLM), 749 (ggml-org/llama.cpp issue 27953).
    # After: scratch pools only, 294 at their peak (ggml-org/llama.cpp PR 23861).
    "CUDA": (768, 300),
    # Before: "unaccounted" 318 (Radeon 8060S), the one point there is. After: as below.
    "ROCm": (384, 256),
}
# Nobody has measured the others. Vulkan's one point (RX 9070 XT, 1221) has a desktop in it.
_UNMEASURED_MIB = (512, 256)

# An allowance, not a measurement: what a desktop holds already is not free, and so counted; this
# is for how much it may grow. inference-router caps such cards at 80 % of their memory instead of
# 98 % (its commit b0273a2 and later), which is more, and far more on a large card.
DISPLAY_BYTES = 512 * MIB


class Gpu(msgspec.Struct, frozen=True):
    """A device that llama.cpp can put tensors on, by its name there.

    free_bytes is told by `source` (list-devices, nvidia-smi, sysfs, config); reserve_bytes of them
    are not for the model. pci is None when no card could be matched. integrated: its memory is the
    host's. display: something is shown on it.
    """

    name: str
    description: str
    backend: str
    total_bytes: int
    free_bytes: int
    reserve_bytes: int
    display: bool = False
    source: str = "list-devices"
    pci: str | None = None
    integrated: bool = False
    temperature_c: int | None = None

    @property
    def usable_bytes(self) -> int:
        """What a plan may fill."""
        return max(self.free_bytes - self.reserve_bytes, 0)


class Ram(msgspec.Struct, frozen=True):
    """The host's memory; free is what the kernel could hand out, caches included."""

    total_bytes: int
    free_bytes: int
    reserve_bytes: int = 0
    source: str = "meminfo"

    @property
    def usable_bytes(self) -> int:
        """What a plan may fill."""
        return max(self.free_bytes - self.reserve_bytes, 0)


def reserve(backend: str, *, in_context: bool, display: bool) -> int:
    """Bytes of a device to leave alone. in_context: free was measured by a process with one."""
    runtime = _RUNTIME_MIB.get(backend, _UNMEASURED_MIB)[in_context] * MIB
    return runtime + DISPLAY_BYTES * display


# Devices


def enrich(listed: Sequence[Listed], cards: Sequence[Card]) -> tuple[Gpu, ...]:
    """The listed devices, with what is known of their cards."""
    pairs = zip(listed, match_cards(listed, cards), strict=True)
    return tuple(_gpu(one, card) if card else _plain(one) for one, card in pairs)


def _plain(one: Listed) -> Gpu:
    kept = reserve(one.backend, in_context=True, display=False)
    return Gpu(
        one.name, one.description, one.backend, one.total_bytes, one.free_bytes, kept,
        integrated=one.integrated,
    )  # fmt: skip


def _gpu(one: Listed, card: Card) -> Gpu:
    integrated = one.integrated or _is_integrated(one, card)
    outside = not integrated and _knows_better(one, card)
    free = (card.free_bytes if outside else None) or 0
    return replace(
        _plain(one),
        total_bytes=one.total_bytes or card.total_bytes or 0,
        free_bytes=free if outside else one.free_bytes,
        reserve_bytes=reserve(one.backend, in_context=not outside, display=card.display),
        display=card.display,
        source=card.source if outside else "list-devices",
        pci=card.pci,
        integrated=integrated,
        temperature_c=card.temperature_c,
    )


def _is_integrated(one: Listed, card: Card) -> bool:
    """nvidia-smi gives a GB10 or a Jetson no memory; an APU is listed with the host's."""
    if card.source == "nvidia-smi":
        return card.total_bytes is None and one.total_bytes > 0
    return card.total_bytes is not None and one.total_bytes > 0 and is_shared(one, card)


def _knows_better(one: Listed, card: Card) -> bool:
    """The card's free memory counts, not the listed one.

    A full card has no room for a context, and is listed as 0 of 0 MiB (ggml_backend_cuda_device_
    get_memory). Vulkan without VK_EXT_memory_budget, and some ROCm, do not see what others use.
    """
    if card.free_bytes is None:
        return False
    return one.total_bytes == 0 or card.free_bytes + NOTABLE < one.free_bytes


def guessed(cards: Sequence[Card]) -> tuple[Gpu, ...]:
    """Devices of a binary that did not tell them: NVIDIA's are CUDA's, AMD's are ROCm's, in order.

    The caller says that it is a guess.
    """
    names = {"nvidia": "CUDA", "amd": "ROCm"}
    counts = {backend: itertools.count() for backend in names.values()}
    return tuple(
        _guess(f"{names[card.vendor]}{next(counts[names[card.vendor]])}", card)
        for card in cards
        if card.vendor in names and card.total_bytes is not None
    )


def _guess(name: str, card: Card) -> Gpu:
    backend = backend_of(name)
    total = card.total_bytes or 0
    return Gpu(
        name, card.name or f"{card.vendor} {card.pci}", backend, total,
        total if card.free_bytes is None else card.free_bytes,
        reserve(backend, in_context=False, display=card.display),
        card.display, card.source, card.pci, temperature_c=card.temperature_c,
    )  # fmt: skip


def used_by_default(gpus: Sequence[Gpu]) -> tuple[Gpu, ...]:
    """The devices that llama.cpp takes without --device, in its order.

    RPC servers first, each card once, integrated ones of one backend and only if there is no other
    (src/llama.cpp, llama_prepare_model_devices).
    """
    remote = [gpu for gpu in gpus if gpu.backend == "RPC"]
    local = [gpu for gpu in gpus if gpu.backend != "RPC"]
    own = [gpu for gpu in local if not gpu.integrated]
    first = {gpu.pci: gpu.name for gpu in reversed(own)}
    once = [gpu for gpu in own if gpu.pci is None or first[gpu.pci] == gpu.name]
    shared = [gpu for gpu in local if gpu.integrated]
    alike = [gpu for gpu in shared if gpu.backend == shared[0].backend]
    return (*remote, *(once or alike))


# config.yaml


def declare(
    gpus: Sequence[Gpu], declared: Mapping[str, Device]
) -> tuple[tuple[Gpu, ...], tuple[str, ...]]:
    """Devices as config.yaml has them, and what to warn of.

    Declared names that were listed are overridden. As soon as one that was not listed has a total,
    the plan is for elsewhere, and the declared devices are all there are.
    """
    listed = {gpu.name: gpu for gpu in gpus}
    mine = {name: device for name, device in declared.items() if name != RAM}
    others = [name for name in mine if name not in listed]
    if not any(mine[name].total is not None for name in others):
        warnings = tuple(_not_listed(name, listed) for name in others if _is_odd(name, listed))
        return tuple(_override(gpu, mine.get(gpu.name)) for gpu in gpus), warnings
    made = [(listed.get(name) or _declared(name, device), device) for name, device in mine.items()]
    named = tuple(_override(gpu, device) for gpu, device in made if gpu.total_bytes)
    return named, (_elsewhere(named, listed),)


def has_totals(declared: Mapping[str, Device]) -> bool:
    """config.yaml declares a device so fully that nobody need be asked."""
    return any(one.total is not None for name, one in declared.items() if name != RAM)


_BACKENDS = {"CUDA", "ROCm", "Vulkan", "SYCL", "MTL", "Metal", "RPC", "MUSA", "CANN", "GPUOpenCL"}


def _is_odd(name: str, listed: Mapping[str, Gpu]) -> bool:
    """Not just another binary's device: of a backend that was listed, or of none there is."""
    backend = backend_of(name)
    return backend not in _BACKENDS or any(gpu.backend == backend for gpu in listed.values())


def _not_listed(name: str, listed: Mapping[str, Gpu]) -> str:
    return (
        f"config.yaml: devices.{name}: there is no such device; there is "
        f"{', '.join(listed) or 'none'}. With a total it would be planned for all the same."
    )


def _elsewhere(named: Sequence[Gpu], listed: Mapping[str, Gpu]) -> str:
    return (
        f"the devices are those of config.yaml ({', '.join(gpu.name for gpu in named)}), not those "
        f"of this box ({', '.join(listed) or 'none'})"
    )


def _declared(name: str, device: Device) -> Gpu:
    backend = backend_of(name)
    total = parse_size(device.total or 0)
    kept = reserve(backend, in_context=False, display=False)
    return Gpu(name, "declared in config.yaml", backend, total, total, kept, source="config")


def _override(gpu: Gpu, device: Device | None) -> Gpu:
    if device is None:
        return gpu
    total = gpu.total_bytes if device.total is None else parse_size(device.total)
    free = min(gpu.free_bytes, total) if device.free is None else parse_size(device.free)
    kept = gpu.reserve_bytes if device.reserve is None else parse_size(device.reserve)
    source = gpu.source if device.total is None and device.free is None else "config"
    return replace(gpu, total_bytes=total, free_bytes=free, reserve_bytes=kept, source=source)


def declare_ram(ram: Ram | None, declared: Mapping[str, Device]) -> Ram | None:
    """The host's memory as config.yaml has it; None: nobody says."""
    device = declared.get(RAM)
    if device is None or (ram is None and device.total is None):
        return ram
    base = ram or Ram(parse_size(device.total or 0), parse_size(device.total or 0))
    total = base.total_bytes if device.total is None else parse_size(device.total)
    rest = total if device.total is not None else base.free_bytes
    free = rest if device.free is None else parse_size(device.free)
    kept = base.reserve_bytes if device.reserve is None else parse_size(device.reserve)
    source = base.source if device.total is None and device.free is None else "config"
    return Ram(total, free, kept, source)
