"""core/card_match.py: which card is a listed device?"""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import cards as real

from llmctl.core.card_match import is_shared, match_cards, visible
from llmctl.core.cards import MIB, Card, Listed, parse_list_devices, parse_nvidia_smi

GIB = 1 << 30


def listed(text: str) -> tuple[Listed, ...]:
    found = parse_list_devices(text)
    assert found
    return found


def cuda(number: int, free_gib: float, *, name: str = "NVIDIA GeForce RTX 3090") -> Listed:
    return Listed(f"CUDA{number}", name, 24 * GIB, int(free_gib * GIB))


def card(pci: int, free_gib: float | None, *, name: str = "NVIDIA GeForce RTX 3090") -> Card:
    free = None if free_gib is None else int(free_gib * GIB)
    return Card(f"0000:{pci:02x}:00.0", "nvidia", "nvidia-smi", name, 24 * GIB, free)


def amd(pci: int, total: int, *, shared: int = 0, free: int = 0) -> Card:
    return Card(f"0000:{pci:02x}:00.0", "amd", "sysfs", None, total, free, shared)


def addresses(devices: list[Listed], cards: list[Card]) -> list[str | None]:
    return [found.pci[5:7] if found else None for found in match_cards(devices, cards)]


def test_cudas_order_is_not_nvidia_smis() -> None:
    """The older card sits in the lower slot, and CUDA counts the faster one first."""
    found = match_cards(listed(real.CUDA), parse_nvidia_smi(real.SMI))
    assert [one and one.name for one in found] == [
        "NVIDIA GeForce RTX 5060 Ti", "NVIDIA GeForce RTX 3060",
    ]  # fmt: skip


def test_equal_cards_are_told_apart_by_what_is_free() -> None:
    cards = list(parse_nvidia_smi(real.TWO_3090))
    assert addresses([cuda(0, 23.2), cuda(1, 21.7)], cards) == ["02", "01"]
    assert addresses([cuda(0, 21.7), cuda(1, 23.2)], cards) == ["01", "02"]


def test_equal_cards_with_as_much_free_are_in_order() -> None:
    """Four MiB of a console are no reason to cross them."""
    cards = [card(1, 23.50), card(2, 23.51)]
    assert addresses([cuda(0, 23.16), cuda(1, 23.15)], cards) == ["01", "02"]


def test_a_card_that_the_binary_does_not_see_is_nobodys() -> None:
    assert addresses([cuda(0, 23)], [card(1, 5), card(2, 23.5)]) == ["02"]


def test_a_device_without_a_card_has_none() -> None:
    assert addresses([cuda(0, 23), cuda(1, 5)], [card(2, 5.5)]) == [None, "02"]
    assert addresses([cuda(0, 23)], []) == [None]


def test_the_same_card_is_each_backends() -> None:
    vulkan = Listed("Vulkan0", "NVIDIA GeForce RTX 3090", 24 * GIB, 23 * GIB)
    assert addresses([cuda(0, 23), vulkan], [card(1, 23)]) == ["01", "01"]


def test_virtual_devices_are_called_after_their_card() -> None:
    one = cuda(0, 23, name="NVIDIA GeForce RTX 3090 (dev p0/v0)")
    assert addresses([one], [card(1, 23)]) == ["01"]


def test_cards_of_other_makers_are_not_taken() -> None:
    radeon = Listed("Vulkan0", "AMD Radeon RX 7900 XTX (RADV NAVI31)", 24 * GIB, 23 * GIB)
    assert addresses([radeon], [card(1, 23)]) == [None]
    assert addresses([cuda(0, 23)], [amd(3, 24 * GIB)]) == [None]


def test_amd_cards_are_told_by_their_size() -> None:
    radeon = Listed("ROCm0", "AMD Radeon Graphics", 24560 * MIB, 24000 * MIB)
    small, large = amd(3, 16 * GIB), amd(4, 24 * GIB)
    assert addresses([radeon], [small, large]) == ["04"]


def test_two_of_one_description_but_not_of_one_size_are_not_mixed_up() -> None:
    one = Listed("ROCm0", "AMD Radeon Graphics", 24 * GIB, 5 * GIB)
    two = Listed("ROCm1", "AMD Radeon Graphics", 16 * GIB, 5 * GIB)
    cards = [amd(3, 16 * GIB, free=5 * GIB), amd(4, 24 * GIB, free=5 * GIB)]
    assert addresses([one, two], cards) == ["04", "03"]
    assert addresses([one, two], cards[:1]) == [None, "03"]


def test_an_apu_is_listed_with_the_hosts_memory() -> None:
    apu = Listed("Vulkan1", "AMD Ryzen 9 7950X (RADV RAPHAEL_MENDOCINO)", 32 * GIB, 31 * GIB)
    cards = [amd(3, 24 * GIB, shared=31 * GIB), amd(16, GIB // 2, shared=31 * GIB)]
    assert addresses([apu], cards) == ["10"]
    assert is_shared(apu, cards[1])
    assert not is_shared(Listed("Vulkan0", "", 24 * GIB, 0), cards[0])


def test_a_software_device_is_no_card() -> None:
    assert match_cards(listed(real.TWO_LLVMPIPE), parse_nvidia_smi(real.SMI)) == (None, None)


def test_many_equal_cards_are_taken_in_order() -> None:
    devices = [cuda(n, 80 - n) for n in range(8)]
    cards = [card(n, 80) for n in range(8)]
    assert addresses(devices, cards) == [f"{n:02x}" for n in range(8)]


@given(
    st.lists(st.integers(0, 24), max_size=5), st.lists(st.integers(0, 24) | st.none(), max_size=5)
)
def test_no_card_is_two_devices(free: list[int], there: list[int | None]) -> None:
    devices = [cuda(number, gib) for number, gib in enumerate(free)]
    cards = [card(number, gib) for number, gib in enumerate(there)]
    found = [one for one in addresses(devices, cards) if one]
    assert len(found) == len(set(found)) == min(len(devices), len(cards))


# CUDA_VISIBLE_DEVICES

CARDS = [card(1, 1), card(2, 2), card(3, 3), amd(9, 16 * GIB)]


@pytest.mark.parametrize(
    ("value", "seen"),
    [("2,0", [3, 1]), ("1", [2]), ("0,7", [1]), ("", [1, 2, 3]), ("GPU-3f2a", [1, 2, 3])],
)
def test_hidden_cards_are_left_out(value: str, seen: list[int]) -> None:
    found = visible(CARDS, {"CUDA_VISIBLE_DEVICES": value})
    assert [int(one.pci[5:7], 16) for one in found] == [*seen, 9]


def test_numbers_count_fastest_first_so_unequal_cards_are_left_as_they_are() -> None:
    mixed = [card(1, 1, name="NVIDIA GeForce RTX 3060"), card(2, 2)]
    env = {"CUDA_VISIBLE_DEVICES": "1"}
    assert visible(mixed, env) == tuple(mixed)
    assert visible(mixed, {**env, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}) == (mixed[1],)


def test_matching_does_not_depend_on_the_order_of_the_cards() -> None:
    devices = [cuda(0, 23), cuda(1, 15), cuda(2, 7)]
    cards = [card(1, 7.3), card(2, 23.3), card(3, 15.3)]
    for some in itertools.permutations(cards):
        assert addresses(devices, list(some)) == ["02", "03", "01"]
