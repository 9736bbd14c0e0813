"""Which card is a listed device? llama-server's list has no PCI id, so it is found out.

CUDA's order is fastest first, nvidia-smi's is by PCI address, so the two are never joined by
number: cards are matched by what they are, and equal ones by their free memory, else in order.
"""

import itertools
import math
import re
from collections.abc import Mapping, Sequence

from llmctl.core.cards import MIB, Card, Listed

NOTABLE = 256 * MIB
"""Differences of free memory below this are noise: a context, a console, a moment later."""


def match_cards(listed: Sequence[Listed], cards: Sequence[Card]) -> tuple[Card | None, ...]:
    """The card of each listed device, or None. Backends are matched each for itself.

    The same card may so be CUDA0 and Vulkan0.
    """
    found: dict[str, Card | None] = {}
    groups: dict[tuple[str, str], list[Listed]] = {}
    for one in listed:
        groups.setdefault((one.backend, one.description), []).append(one)
    for (backend, _), group in groups.items():
        taken = {id(found.get(one.name)) for one in listed if one.backend == backend}
        fitting = [c for c in cards if id(c) not in taken and any(_suits(one, c) for one in group)]
        pairs = zip(group, _pair(group, fitting), strict=True)
        found |= {one.name: card if card and _suits(one, card) else None for one, card in pairs}
    return tuple(found[one.name] for one in listed)


_MOST_PAIRINGS = 720  # six equal cards, 6 ms; from seven on they are taken in order
_NEVER = 1 << 60


def _pair(group: Sequence[Listed], cards: Sequence[Card]) -> Sequence[Card | None]:
    """Devices that are called alike, and cards: by free memory; where that is alike, in order."""
    some = [*cards, *[None] * (len(group) - len(cards))]
    if math.perm(len(some), len(group)) > _MOST_PAIRINGS:
        return some[: len(group)]
    pairings = itertools.permutations(some, len(group))  # the first is in order, and min keeps it
    return min(pairings, key=lambda pairing: _distance(group, pairing) // NOTABLE)


def _distance(group: Sequence[Listed], pairing: Sequence[Card | None]) -> int:
    pairs = zip(group, pairing, strict=True)
    return sum(_difference(one, card) for one, card in pairs if card)


def _difference(one: Listed, card: Card) -> int:
    free = one.free_bytes if card.free_bytes is None else card.free_bytes
    return abs(one.free_bytes - free) if _suits(one, card) else _NEVER


_WORDS = {
    "nvidia": re.compile(r"NVIDIA|GeForce|Quadro|Tesla"),
    "amd": re.compile(r"AMD|Radeon|RADV|gfx\d"),
    "intel": re.compile(r"Intel"),
}


def _vendor(one: Listed) -> str | None:
    sure = {"CUDA": "nvidia", "ROCm": "amd"}.get(one.backend)
    words = (vendor for vendor, words in _WORDS.items() if words.search(one.description))
    return sure or next(words, None)


def _suits(one: Listed, card: Card) -> bool:
    """The card may be that device: its maker's, of its name where both say it, of its size."""
    if _vendor(one) != card.vendor:
        return False
    if card.name is not None:
        # ggml_cuda_device_description(): virtual devices are "NAME (dev p0/v1)"
        return re.sub(r" \(dev p\d+/v\d+\)$", "", one.description) == card.name
    return not (one.total_bytes and card.total_bytes) or is_shared(one, card) or _owns(one, card)


def _owns(one: Listed, card: Card) -> bool:
    return _alike(one.total_bytes, card.total_bytes or 0)


def is_shared(one: Listed, card: Card) -> bool:
    """An APU: its backend counts the host's memory as its own (ggml_backend_vk_get_device_memory).

    What the card has by itself, the carve-out, is not all that was listed. Every amdgpu card may
    use some of the host's memory, so that alone is no sign, except beside a small carve-out.
    """
    own, shared = card.total_bytes or 0, card.shared_bytes
    whole = (own + shared, shared) if own * 8 <= shared else (own + shared,)
    return shared > 0 and not _owns(one, card) and any(_alike(one.total_bytes, x) for x in whole)


def _alike(one: int, other: int) -> bool:
    """Drivers keep up to a few percent of a card to themselves."""
    return abs(one - other) <= max(one, other) * 0.05


def visible(cards: Sequence[Card], env: Mapping[str, str]) -> tuple[Card, ...]:
    """The cards as CUDA_VISIBLE_DEVICES filters and orders NVIDIA's, as far as that is certain.

    Its numbers count fastest first unless CUDA_DEVICE_ORDER says otherwise; which is the fastest is
    not known here, but among equal cards the order is by address either way.
    """
    mine = [card for card in cards if card.vendor == "nvidia"]
    words = [word.strip() for word in env.get("CUDA_VISIBLE_DEVICES", "").split(",")]
    certain = env.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID" or len({c.name for c in mine}) == 1
    if not certain or not all(word.isdigit() for word in words):
        return tuple(cards)
    chosen = [mine[int(word)] for word in words if int(word) < len(mine)]
    return (*chosen, *(card for card in cards if card.vendor != "nvidia"))
