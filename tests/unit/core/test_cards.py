"""core/cards.py: what the tools say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import cards as real

from llmctl.core.cards import (
    MIB,
    Card,
    Listed,
    backend_of,
    card_names,
    connectors,
    merged,
    parse_complaints,
    parse_list_devices,
    parse_meminfo,
    parse_nvidia_smi,
    parse_uevent,
    pci_address,
    smi_complaint,
    sysfs_card,
)


def names(text: str) -> list[str]:
    listed = parse_list_devices(text)
    assert listed is not None
    return [one.name for one in listed]


def test_a_real_list_is_read_in_its_order() -> None:
    one = Listed("Vulkan0", "llvmpipe (LLVM 21.1.8, 256 bits)", 24105 * MIB, 22946 * MIB)
    two = Listed("Vulkan1", one.description, one.total_bytes, one.free_bytes)
    assert parse_list_devices(real.TWO_LLVMPIPE) == (one, two)


def test_a_real_list_of_none_is_empty() -> None:
    assert parse_list_devices(real.NONE) == ()


@pytest.mark.parametrize("text", ["", "error: invalid argument: --list-devices\n", "CUDA0: x"])
def test_what_is_no_list_is_none(text: str) -> None:
    assert parse_list_devices(text) is None


def test_the_log_around_a_list_is_passed_over() -> None:
    assert names(real.CUDA) == ["CUDA0", "CUDA1"]
    assert names(f"{real.NONE}{real.VULKAN_LOG}") == []


@pytest.mark.parametrize(
    ("line", "name", "backend"),
    [
        ("CUDA0: NVIDIA GeForce RTX 3090", "CUDA0", "CUDA"),
        ("CUDA12: NVIDIA H100 80GB HBM3", "CUDA12", "CUDA"),
        ("ROCm0: AMD Radeon RX 7900 XTX", "ROCm0", "ROCm"),
        ("SYCL0: Intel(R) Arc(TM) A770 Graphics", "SYCL0", "SYCL"),
        ("Metal: Apple M2 Max", "Metal", "Metal"),
        ("MTL0: Apple M4 Max", "MTL0", "MTL"),
        ("GPUOpenCL: QUALCOMM Adreno(TM) 750", "GPUOpenCL", "GPUOpenCL"),
        ("RPC[10.0.0.2:50052]: RPC[10.0.0.2:50052]", "RPC[10.0.0.2:50052]", "RPC"),
        ("RPC0: 10.0.0.2:50052", "RPC0", "RPC"),
        ("Vulkan0: A: colon (and) (brackets)", "Vulkan0", "Vulkan"),
    ],
)
def test_a_device_of_every_backend_is_read(line: str, name: str, backend: str) -> None:
    (one,) = parse_list_devices(f"Available devices:\n  {line} (100 MiB, 90 MiB free)\n") or ()
    assert (one.name, one.backend, one.total_bytes) == (name, backend, 100 * MIB)
    assert one.description == line.partition(": ")[2]


def test_an_accelerator_of_the_cpu_is_no_device() -> None:
    text = "Available devices:\n  BLAS: OpenBLAS (0 MiB, 0 MiB free)\n"
    assert parse_list_devices(text) == ()


def test_a_full_card_is_still_a_device() -> None:
    text = "Available devices:\n  CUDA0: NVIDIA GeForce RTX 3090 (0 MiB, 0 MiB free)\n"
    assert names(text) == ["CUDA0"]


@pytest.mark.parametrize(
    "text", [real.AMD_VULKAN + real.VULKAN_LOG, real.VULKAN_LOG + real.AMD_VULKAN]
)
def test_vulkans_log_tells_which_share_the_hosts_memory(text: str) -> None:
    listed = parse_list_devices(text)
    assert listed is not None
    assert [one.integrated for one in listed] == [False, True]


def test_a_backend_that_did_not_come_up_is_told_once() -> None:
    line = "ggml_cuda_init: failed to initialize CUDA: no CUDA-capable device is detected\n"
    assert parse_complaints(line * 2 + real.NONE) == (
        "failed to initialize CUDA: no CUDA-capable device is detected",
    )


@given(st.text(alphabet="CUDA0: (12MiB,fre)\n", max_size=120))
def test_any_list_parses(text: str) -> None:
    assert parse_list_devices(f"Available devices:\n{text}") is not None


def test_a_backend_is_the_name_without_its_number() -> None:
    assert [backend_of(name) for name in ("CUDA10", "Metal", "RPC[::1]:5")] == [
        "CUDA", "Metal", "RPC",
    ]  # fmt: skip


# nvidia-smi


def test_cards_are_read_with_their_addresses() -> None:
    first, second = parse_nvidia_smi(real.SMI)
    assert first == Card(
        "0000:01:00.0", "nvidia", "nvidia-smi", "NVIDIA GeForce RTX 3060", 12288 * MIB,
        11909 * MIB, temperature_c=41,
    )  # fmt: skip
    assert (second.pci, second.display) == ("0000:0a:00.0", True)


def test_units_do_no_harm() -> None:
    text = real.SMI.replace("12288", "12288 MiB")
    assert parse_nvidia_smi(text) == parse_nvidia_smi(real.SMI)


def test_what_a_card_does_not_say_is_none() -> None:
    (gb10,) = parse_nvidia_smi(real.GB10)
    assert (gb10.total_bytes, gb10.free_bytes, gb10.display) == (None, None, False)
    (h100,) = parse_nvidia_smi(real.H100)
    assert (h100.total_bytes, h100.temperature_c) == (81559 * MIB, None)


def test_free_is_what_is_not_used_when_it_is_not_said() -> None:
    (card,) = parse_nvidia_smi("0, 00000000:01:00.0, Tesla K80, 11441, 441, [N/A], [N/A], 30\n")
    assert card.free_bytes == 11000 * MIB


@pytest.mark.parametrize("text", ["", real.NO_DRIVER, real.MISMATCH, real.LOST, "No devices\n"])
def test_a_complaint_is_no_card(text: str) -> None:
    assert parse_nvidia_smi(text) == ()


def test_a_lost_card_does_not_hide_the_others() -> None:
    assert len(parse_nvidia_smi(real.LOST + real.SMI)) == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (real.MISMATCH, "Failed to initialize NVML: Driver/library version mismatch"),
        ("\n\n", "it said nothing"),
    ],
)
def test_a_complaint_is_its_first_line(text: str, said: str) -> None:
    assert smi_complaint(text) == said


@given(st.text(max_size=200) | st.text(alphabet="0, :[N/A]\n.", max_size=200))
def test_any_answer_of_nvidia_smi_parses(text: str) -> None:
    parse_nvidia_smi(text)


@pytest.mark.parametrize("text", ["00000000:0A:00.0", "0000:0a:00.0", "0:0A:00.0"])
def test_addresses_are_spelled_alike(text: str) -> None:
    assert pci_address(text) == "0000:0a:00.0"


# sysfs

DRM = ["card0", "card0-DP-1", "card0-HDMI-A-1", "card1", "card10", "renderD128", "version"]
MEMORY = {
    "mem_info_vram_total": "25753026560\n",
    "mem_info_vram_used": "1325400064\n",
    "mem_info_gtt_total": "33555476480\n",
}


def test_cards_are_told_from_connectors() -> None:
    assert card_names(DRM) == ("card0", "card1", "card10")
    assert connectors(DRM, "card0") == ("card0-DP-1", "card0-HDMI-A-1")
    assert connectors(DRM, "card1") == ()


def test_an_amdgpu_card_is_read() -> None:
    assert sysfs_card(real.UEVENT_7900, MEMORY, ["disconnected\n", "connected\n"]) == Card(
        "0000:03:00.0", "amd", "sysfs", None, 25753026560, 25753026560 - 1325400064, 33555476480,
        display=True,
    )  # fmt: skip


def test_a_card_of_another_driver_has_no_sizes() -> None:
    card = sysfs_card(real.UEVENT_NVIDIA, {}, ["disconnected\n", "unknown\n"])
    assert card == Card("0000:01:00.0", "nvidia", "sysfs")


def test_what_is_not_on_the_pci_bus_is_no_card() -> None:
    assert sysfs_card(real.UEVENT_SOC, {}, []) is None


def test_an_unknown_maker_is_other() -> None:
    assert parse_uevent("PCI_ID=1A03:2000\nPCI_SLOT_NAME=0000:62:00.0\nDRIVER=ast\n") == (
        "0000:62:00.0", "other", "ast",
    )  # fmt: skip


def test_a_display_that_only_sysfs_sees_is_the_cards() -> None:
    seen = Card("0000:01:00.0", "nvidia", "sysfs", display=True)
    amd = Card("0000:03:00.0", "amd", "sysfs", total_bytes=1)
    first, second, third = merged(parse_nvidia_smi(real.SMI), [seen, amd])
    assert (first.display, first.total_bytes) == (True, 12288 * MIB)
    assert second.display
    assert third == amd


# /proc/meminfo


def test_what_caches_hold_is_available() -> None:
    assert parse_meminfo(real.MEMINFO) == (24684092 << 10, 23053760 << 10)


def test_an_old_kernel_says_free_only() -> None:
    text = "".join(line for line in real.MEMINFO.splitlines(keepends=True) if "Avail" not in line)
    assert parse_meminfo(text) == (24684092 << 10, 3053760 << 10)


@pytest.mark.parametrize("text", ["", "MemTotal: 5 kB\n", "MemFree: 5 kB\n", "MemTotal: x kB\n"])
def test_no_answer_is_none(text: str) -> None:
    assert parse_meminfo(text) is None
