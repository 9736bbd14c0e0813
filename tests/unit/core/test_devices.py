"""core/devices.py: devices to plan for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support import cards as real

from llmctl.core.cards import MIB, Card, Listed, parse_list_devices, parse_nvidia_smi, sysfs_card
from llmctl.core.config import parse_config
from llmctl.core.devices import (
    DISPLAY_BYTES,
    Gpu,
    Ram,
    declare,
    declare_ram,
    enrich,
    guessed,
    has_totals,
    reserve,
    used_by_default,
)
from llmctl.core.document import parse_yaml

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmctl.core.config import Device

GIB = 1 << 30


def listed(text: str) -> tuple[Listed, ...]:
    found = parse_list_devices(text)
    assert found is not None
    return found


def declared(text: str) -> Mapping[str, Device]:
    return parse_config(parse_yaml(f"devices: {text}", file="x"), file="x").devices


def gpu(name: str, *, pci: str | None = None, integrated: bool = False) -> Gpu:
    backend = name.rstrip("0123456789")
    return Gpu(name, "a card", backend, 24 * GIB, 20 * GIB, GIB, pci=pci, integrated=integrated)


def names(gpus: tuple[Gpu, ...]) -> list[str]:
    return [one.name for one in gpus]


# Reserve


@pytest.mark.parametrize("backend", ["CUDA", "ROCm", "Vulkan", "SYCL", "MTL", "RPC", "whatever"])
def test_a_process_with_a_context_has_paid_for_it_already(backend: str) -> None:
    inside = reserve(backend, in_context=True, display=False)
    assert 0 < inside < reserve(backend, in_context=False, display=False)


def test_before_there_is_a_context_cuda_needs_three_quarters_of_a_gib() -> None:
    assert reserve("CUDA", in_context=False, display=False) == 768 * MIB


def test_a_display_is_allowed_for() -> None:
    plain = reserve("CUDA", in_context=True, display=False)
    assert reserve("CUDA", in_context=True, display=True) == plain + DISPLAY_BYTES


def test_what_may_be_used_is_what_is_free_but_for_the_reserve() -> None:
    assert gpu("CUDA0").usable_bytes == 19 * GIB
    assert Gpu("CUDA0", "", "CUDA", GIB, MIB, GIB).usable_bytes == 0
    assert Ram(64 * GIB, 60 * GIB, 10 * GIB).usable_bytes == 50 * GIB


# The list and the cards


def test_the_list_alone_is_enough() -> None:
    first, second = enrich(listed(real.TWO_LLVMPIPE), [])
    assert first == Gpu(
        "Vulkan0", "llvmpipe (LLVM 21.1.8, 256 bits)", "Vulkan", 24105 * MIB, 22946 * MIB,
        reserve("Vulkan", in_context=True, display=False),
    )  # fmt: skip
    assert second.name == "Vulkan1"


def test_a_display_finds_its_card_in_cudas_order() -> None:
    first, second = enrich(listed(real.CUDA), parse_nvidia_smi(real.SMI))
    assert (first.name, first.pci, first.display) == ("CUDA0", "0000:0a:00.0", True)
    assert (second.name, second.pci, second.display) == ("CUDA1", "0000:01:00.0", False)
    assert first.reserve_bytes == second.reserve_bytes + DISPLAY_BYTES
    assert first.temperature_c == 52


def test_free_memory_is_the_binarys_word() -> None:
    """nvidia-smi's is before the context, and so too much."""
    first, _ = enrich(listed(real.CUDA), parse_nvidia_smi(real.SMI))
    assert (first.free_bytes, first.source) == (14960 * MIB, "list-devices")


def test_a_full_card_that_has_no_room_for_a_context_is_what_nvidia_smi_says() -> None:
    (one,) = enrich(
        [Listed("CUDA0", "NVIDIA GeForce RTX 3060", 0, 0)], parse_nvidia_smi(real.SMI)[:1]
    )
    assert (one.total_bytes, one.free_bytes) == (12288 * MIB, 11909 * MIB)
    assert one.source == "nvidia-smi"
    assert one.reserve_bytes == 768 * MIB
    assert not one.integrated


def test_a_backend_that_does_not_see_what_others_use_is_corrected() -> None:
    """Vulkan without a memory budget lists all as free."""
    card = Card("0000:03:00.0", "amd", "sysfs", None, 24 * GIB, 9 * GIB)
    (one,) = enrich([Listed("Vulkan0", "AMD Radeon", 24 * GIB, 24 * GIB)], [card])
    assert (one.free_bytes, one.source) == (9 * GIB, "sysfs")
    assert one.reserve_bytes == reserve("Vulkan", in_context=False, display=False)


def test_a_few_mib_are_no_correction() -> None:
    card = Card("0000:03:00.0", "amd", "sysfs", None, 24 * GIB, 20 * GIB)
    (one,) = enrich([Listed("ROCm0", "AMD Radeon", 24 * GIB, 20 * GIB + 50 * MIB)], [card])
    assert (one.free_bytes, one.source) == (20 * GIB + 50 * MIB, "list-devices")


def test_an_apu_beside_a_card_is_integrated() -> None:
    memory = {"mem_info_vram_total": "25753026560", "mem_info_vram_used": "1412000000",
              "mem_info_gtt_total": "33555476480"}  # fmt: skip
    small = {"mem_info_vram_total": "536870912", "mem_info_vram_used": "20000000",
             "mem_info_gtt_total": "33086636032"}  # fmt: skip
    cards = (
        sysfs_card(real.UEVENT_7900, memory, ["connected"]),
        sysfs_card(real.UEVENT_RAPHAEL, small, []),
    )
    first, second = enrich(listed(real.AMD_VULKAN), [card for card in cards if card])
    assert (first.pci, first.integrated, first.display) == ("0000:03:00.0", False, True)
    assert (second.pci, second.integrated) == ("0000:10:00.0", True)
    assert second.free_bytes == 31800 * MIB


def test_the_log_says_integrated_without_any_card() -> None:
    first, second = enrich(listed(real.AMD_VULKAN + real.VULKAN_LOG), [])
    assert (first.integrated, second.integrated) == (False, True)


def test_a_card_without_memory_of_its_own_is_integrated() -> None:
    gb10 = Listed("CUDA0", "NVIDIA GB10", 122880 * MIB, 115000 * MIB)
    (one,) = enrich([gb10], parse_nvidia_smi(real.GB10))
    assert one.integrated
    assert one.free_bytes == 115000 * MIB


# A binary that does not answer


def test_devices_are_guessed_from_the_cards() -> None:
    cards = [*parse_nvidia_smi(real.TWO_3090), Card("0000:03:00.0", "amd", "sysfs", None, GIB, 5)]
    first, second, third = guessed(cards)
    assert names((first, second, third)) == ["CUDA0", "CUDA1", "ROCm0"]
    assert (first.free_bytes, first.source) == (22601 * MIB, "nvidia-smi")
    assert first.reserve_bytes == 768 * MIB + DISPLAY_BYTES
    assert second.reserve_bytes == 768 * MIB


def test_cards_of_which_nothing_is_known_are_not_guessed() -> None:
    assert guessed([Card("a", "nvidia", "sysfs"), Card("b", "intel", "sysfs", None, GIB)]) == ()


# What llama.cpp takes by itself


@pytest.mark.parametrize(
    ("gpus", "used"),
    [
        ([], []),
        ([gpu("CUDA0"), gpu("CUDA1")], ["CUDA0", "CUDA1"]),
        ([gpu("CUDA0", pci="a"), gpu("Vulkan0", pci="a"), gpu("Vulkan1", pci="b")],
         ["CUDA0", "Vulkan1"]),
        ([gpu("Vulkan0"), gpu("Vulkan1")], ["Vulkan0", "Vulkan1"]),
        ([gpu("Vulkan0", integrated=True), gpu("Vulkan1")], ["Vulkan1"]),
        ([gpu("Vulkan0", integrated=True)], ["Vulkan0"]),
        ([gpu("ROCm0", integrated=True), gpu("Vulkan0", integrated=True)], ["ROCm0"]),
        ([gpu("CUDA0"), gpu("RPC0"), gpu("RPC1")], ["RPC0", "RPC1", "CUDA0"]),
        ([gpu("RPC0"), gpu("Vulkan0", integrated=True)], ["RPC0", "Vulkan0"]),
    ],
)  # fmt: skip
def test_llama_cpps_own_choice(gpus: list[Gpu], used: list[str]) -> None:
    assert names(used_by_default(gpus)) == used


# config.yaml


def test_a_reserve_is_overridden() -> None:
    (one,), warnings = declare([gpu("CUDA0")], declared("{CUDA0: {reserve: 2GiB}}"))
    assert (one.reserve_bytes, one.free_bytes, one.source) == (2 * GIB, 20 * GIB, "list-devices")
    assert warnings == ()


def test_a_total_caps_what_is_free() -> None:
    (one,), _ = declare([gpu("CUDA0")], declared("{CUDA0: {total: 10GiB}}"))
    assert (one.total_bytes, one.free_bytes, one.source) == (10 * GIB, 10 * GIB, "config")


def test_what_is_free_may_be_said() -> None:
    (one,), _ = declare([gpu("CUDA0")], declared("{CUDA0: {free: 22GiB}}"))
    assert (one.free_bytes, one.source) == (22 * GIB, "config")


def test_devices_that_are_not_declared_stay() -> None:
    gpus = [gpu("CUDA0"), gpu("CUDA1")]
    found, _ = declare(gpus, declared("{CUDA1: {reserve: 0}}"))
    assert names(found) == ["CUDA0", "CUDA1"]
    assert found[0] == gpus[0]


def test_declared_devices_are_all_there_are_when_planning_for_elsewhere() -> None:
    text = "{CUDA0: {total: 15.9GiB}, CUDA1: {total: 24GiB, free: 23GiB, reserve: 1GiB}}"
    found, (warning,) = declare([gpu("MTL0")], declared(text))
    assert names(found) == ["CUDA0", "CUDA1"]
    assert found[0] == Gpu(
        "CUDA0", "declared in config.yaml", "CUDA", 17072495001, 17072495001, 768 * MIB,
        source="config",
    )  # fmt: skip
    assert (found[1].free_bytes, found[1].usable_bytes) == (23 * GIB, 22 * GIB)
    assert "those of config.yaml (CUDA0, CUDA1), not those of this box (MTL0)" in warning


def test_a_device_without_a_total_is_not_made_up() -> None:
    found, _ = declare([], declared("{CUDA0: {total: 24GiB}, CUDA1: {reserve: 1GiB}}"))
    assert names(found) == ["CUDA0"]


@pytest.mark.parametrize("name", ["CUDA7", "CUDO0"])
def test_an_override_of_nothing_is_warned_of(name: str) -> None:
    found, (warning,) = declare([gpu("CUDA0")], declared(f"{{{name}: {{reserve: 1GiB}}}}"))
    assert names(found) == ["CUDA0"]
    assert f"devices.{name}: there is no such device; there is CUDA0" in warning


def test_an_override_of_another_binarys_device_is_none_of_our_business() -> None:
    assert declare([gpu("CUDA0")], declared("{Vulkan0: {reserve: 1GiB}}"))[1] == ()


def test_the_hosts_memory_is_no_device() -> None:
    found, warnings = declare([gpu("CUDA0")], declared("{RAM: {total: 64GiB}}"))
    assert (names(found), warnings) == (["CUDA0"], ())
    assert not has_totals(declared("{RAM: {total: 64GiB}, CUDA0: {reserve: 0}}"))
    assert has_totals(declared("{CUDA0: {total: 64GiB}}"))


@pytest.mark.parametrize(
    ("ram", "text", "wanted"),
    [
        (None, "{}", None),
        (None, "{RAM: {reserve: 1GiB}}", None),
        (None, "{RAM: {total: 64GiB}}", Ram(64 * GIB, 64 * GIB, 0, "config")),
        (Ram(32 * GIB, 9 * GIB), "{}", Ram(32 * GIB, 9 * GIB)),
        (Ram(32 * GIB, 9 * GIB), "{RAM: {reserve: 4GiB}}", Ram(32 * GIB, 9 * GIB, 4 * GIB)),
        (Ram(32 * GIB, 9 * GIB), "{RAM: {free: 20GiB}}", Ram(32 * GIB, 20 * GIB, 0, "config")),
        (Ram(32 * GIB, 9 * GIB), "{RAM: {total: 64GiB}}", Ram(64 * GIB, 64 * GIB, 0, "config")),
    ],
)
def test_the_hosts_memory_may_be_declared(ram: Ram | None, text: str, wanted: Ram | None) -> None:
    assert declare_ram(ram, declared(text)) == wanted
