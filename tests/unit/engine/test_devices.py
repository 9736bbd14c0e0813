"""engine/devices.py: what a box has, whatever its tools do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support import cards as real
from support.fakes import HOME, FakeHost, Output

from llmctl.core.cards import MIB
from llmctl.core.profile import parse_profile
from llmctl.engine.box import Box
from llmctl.engine.devices import TIMEOUT_S, Survey, default_binary, survey
from llmctl.errors import ProfileError

if TYPE_CHECKING:
    from collections.abc import Sequence

SERVER = "/usr/bin/llama-server"
SMI = "/usr/bin/nvidia-smi"
CONFIG = f"{HOME}/.config/llmctl/config.yaml"
DRM = "/sys/class/drm"
HUNG = Output(takes_s=1e9)


class Machine:
    """A host with a llama-server that lists `listing`; the rest is laid there by the tests."""

    def __init__(self, listing: Output | str, **environ: str) -> None:
        self.host = FakeHost(environ=environ)
        self.host.put("/proc/meminfo", real.MEMINFO)
        self.install(SERVER, listing)

    def install(self, path: str, said: Output | str) -> None:
        output = Output(said) if isinstance(said, str) else said
        self.host.install(path, lambda _: output)
        if path == SERVER:
            self.host.programs["env"] = self.host.programs[path]

    def config(self, text: str) -> None:
        self.host.put(CONFIG, text)

    def card(self, name: str, uevent: str, *, statuses: Sequence[str] = (), **files: int) -> None:
        """Lay a card into sysfs."""
        self.host.put(f"{DRM}/{name}/device/uevent", uevent)
        for file, size in files.items():
            self.host.put(f"{DRM}/{name}/device/{file}", f"{size}\n")
        for number, status in enumerate(statuses):
            self.host.put(f"{DRM}/{name}-DP-{number}/status", f"{status}\n")

    def survey(self, *, binary: str | None = None) -> Survey:
        return survey(Box(self.host), binary=binary)


def names(seen: Survey) -> list[str]:
    return [gpu.name for gpu in seen.gpus]


def test_a_box_without_gpus_has_its_memory() -> None:
    seen = Machine(real.NONE).survey()
    assert (seen.binary, seen.gpus, seen.warnings) == ("upstream", (), ())
    assert seen.ram
    assert (seen.ram.total_bytes, seen.ram.free_bytes) == (24684092 << 10, 23053760 << 10)


def test_a_box_that_tells_no_memory_is_taken_without() -> None:
    machine = Machine(real.NONE)
    machine.host.remove("/proc/meminfo")
    assert machine.survey().ram is None


def test_names_and_order_are_the_binarys_and_displays_are_nvidia_smis() -> None:
    machine = Machine(real.CUDA)
    machine.install(SMI, real.SMI)
    seen = machine.survey()
    assert [(gpu.name, gpu.pci, gpu.display) for gpu in seen.gpus] == [
        ("CUDA0", "0000:0a:00.0", True), ("CUDA1", "0000:01:00.0", False),
    ]  # fmt: skip
    assert seen.warnings == ()


def test_nothing_is_kept() -> None:
    """Free memory changes."""
    machine = Machine(real.CUDA)
    box = Box(machine.host)
    survey(box)
    machine.install(SERVER, real.CUDA.replace("14960 MiB", "1234 MiB"))
    assert survey(box).gpus[0].free_bytes == 1234 * MIB
    assert machine.host.written == []


def test_sysfs_tells_of_amd_cards_and_displays() -> None:
    machine = Machine(real.AMD_VULKAN)
    machine.card(
        "card1", real.UEVENT_7900, statuses=["disconnected", "connected"],
        mem_info_vram_total=25753026560, mem_info_vram_used=1412000000,
        mem_info_gtt_total=33555476480,
    )  # fmt: skip
    machine.card(
        "card0", real.UEVENT_RAPHAEL, mem_info_vram_total=536870912, mem_info_vram_used=20000000,
        mem_info_gtt_total=33086636032,
    )  # fmt: skip
    machine.card("card2", real.UEVENT_SOC)
    machine.host.put(f"{DRM}/version", "drm 1.1.0 20060810\n")
    first, second = machine.survey().gpus
    assert (first.pci, first.display, first.integrated) == ("0000:03:00.0", True, False)
    assert (second.pci, second.display, second.integrated) == ("0000:10:00.0", False, True)


def test_mixed_makers_each_find_their_card() -> None:
    listing = real.CUDA + "  Vulkan0: AMD Radeon RX 7900 XTX (24560 MiB, 24000 MiB free)\n"
    machine = Machine(listing)
    machine.install(SMI, real.SMI)
    machine.card("card1", real.UEVENT_7900, mem_info_vram_total=25753026560)
    machine.card("card0", real.UEVENT_NVIDIA, statuses=["connected"])
    seen = machine.survey()
    assert [(gpu.pci, gpu.display) for gpu in seen.gpus] == [
        ("0000:0a:00.0", True), ("0000:01:00.0", True), ("0000:03:00.0", False),
    ]  # fmt: skip
    assert seen.warnings == ()


# Tools that fail


def test_a_hung_nvidia_smi_is_named_and_the_list_stands() -> None:
    machine = Machine(real.CUDA)
    machine.install(SMI, HUNG)
    seen = machine.survey()
    assert names(seen) == ["CUDA0", "CUDA1"]
    assert seen.warnings == (f"nvidia-smi did not end within {TIMEOUT_S:g} s",)


@pytest.mark.parametrize(
    ("text", "status", "said"),
    [
        (real.NO_DRIVER, 9, "couldn't communicate with the NVIDIA driver"),
        (real.MISMATCH, 18, "nvidia-smi: Failed to initialize NVML: Driver/library version"),
        ("", 1, "nvidia-smi: it said nothing"),
    ],
)
def test_a_broken_nvidia_smi_is_quoted(text: str, status: int, said: str) -> None:
    machine = Machine(real.NONE)
    machine.install(SMI, Output(text, status=status))
    (warning,) = machine.survey().warnings
    assert said in warning


def test_a_hung_binary_is_named_and_the_devices_are_guessed() -> None:
    machine = Machine(HUNG)
    machine.install(SMI, real.TWO_3090)
    seen = machine.survey()
    assert names(seen) == ["CUDA0", "CUDA1"]
    assert seen.gpus[0].source == "nvidia-smi"
    assert seen.warnings == (
        f"{SERVER} --list-devices did not end within 5 s",
        "the names of the devices are guessed: CUDA0, CUDA1",
    )


def test_a_build_without_the_flag_is_quoted() -> None:
    error = "error: invalid argument: --list-devices\n"
    seen = Machine(Output(stderr=error, status=1)).survey()
    assert seen.gpus == ()
    (warning,) = seen.warnings
    assert warning == f"{SERVER} --list-devices gave no list: error: invalid argument: " \
        "--list-devices"  # fmt: skip


def test_a_silent_build_is_told() -> None:
    (warning,) = Machine(Output(status=139)).survey().warnings
    assert warning.endswith("gave no list: it said nothing")


def test_a_backend_that_did_not_come_up_is_told_with_the_card_that_it_misses() -> None:
    log = "ggml_cuda_init: failed to initialize CUDA: no CUDA-capable device is detected\n"
    machine = Machine(Output(real.NONE, stderr=log))
    machine.install(SMI, real.H100)
    assert machine.survey().warnings == (
        "upstream: failed to initialize CUDA: no CUDA-capable device is detected",
        "nvidia-smi sees NVIDIA H100 80GB HBM3 at 0000:19:00.0, but upstream does not list it",
    )


def test_an_amd_card_that_nobody_lists_is_told() -> None:
    machine = Machine(real.NONE)
    machine.card("card1", real.UEVENT_7900, mem_info_vram_total=25753026560)
    (warning,) = machine.survey().warnings
    assert warning == "sysfs sees a card of amd at 0000:03:00.0, but upstream does not list it"


def test_unreadable_sysfs_is_no_sysfs() -> None:
    machine = Machine(real.CUDA)
    machine.card("card1", real.UEVENT_7900)
    machine.host.failing[f"{DRM}/card1/device"] = "Permission denied"
    assert names(machine.survey()) == ["CUDA0", "CUDA1"]


# Which binary, in which environment


def test_a_binary_is_asked_in_its_environment() -> None:
    machine = Machine(real.CUDA)
    machine.install("/opt/tq3", real.NONE)
    machine.config("binaries: {tq3: {path: /opt/tq3, env: {CUDA_VISIBLE_DEVICES: 1}}}")
    machine.survey(binary="tq3")
    (asked,) = machine.host.called("--list-devices")
    assert asked[0] == "env"
    assert asked[-2:] == ("/opt/tq3", "--list-devices")
    assert {"CUDA_VISIBLE_DEVICES=1", "GGML_NO_BACKTRACE=1"} <= set(asked)


def test_a_profiles_binary_and_environment_win() -> None:
    machine = Machine(real.CUDA)
    machine.config(f"binaries: {{tq3: {{path: {SERVER}, env: {{A: 1, B: 1}}}}}}")
    profile = parse_profile(
        {"model": "x.gguf", "binary": "tq3", "env": {"B": 2}}, name="x", file="x.yaml"
    )
    seen = survey(Box(machine.host), profile=profile)
    assert seen.binary == "tq3"
    (asked,) = machine.host.called("--list-devices")
    assert {"A=1", "B=2"} <= set(asked)


def test_hidden_cards_are_hidden_on_purpose() -> None:
    machine = Machine(
        "Available devices:\n  CUDA0: NVIDIA GeForce RTX 3090 (24125 MiB, 23700 MiB free)\n"
    )
    machine.install(SMI, real.TWO_3090)
    machine.config(f"binaries: {{upstream: {{path: {SERVER}, env: {{CUDA_VISIBLE_DEVICES: 1}}}}}}")
    seen = machine.survey()
    assert seen.gpus[0].pci == "0000:02:00.0"
    assert seen.warnings == ()


def test_what_the_shell_hides_units_see() -> None:
    machine = Machine(real.NONE, CUDA_VISIBLE_DEVICES="")
    (warning,) = machine.survey().warnings
    assert warning.startswith("CUDA_VISIBLE_DEVICES is set in your shell, and units do not see it")


@pytest.mark.parametrize(
    ("text", "name"),
    [("", "upstream"), ("binaries: {b: /b, a: /a}", "b"),
     ("binaries: {b: /b, upstream: /a}", "upstream"), ("binaries: {}", "upstream")],
)  # fmt: skip
def test_the_usual_binary_is_asked_or_the_first(text: str, name: str) -> None:
    machine = Machine(real.NONE)
    machine.config(text)
    assert default_binary(Box(machine.host).store.config) == name


def test_an_unknown_binary_is_refused() -> None:
    with pytest.raises(ProfileError, match="binaries: there is no tq3; there is upstream"):
        Machine(real.NONE).survey(binary="tq3")


def test_a_binary_that_is_not_there_is_refused() -> None:
    machine = Machine(real.NONE)
    machine.config("binaries: {upstream: /nowhere}")
    with pytest.raises(ProfileError, match=r"binaries\.upstream: /nowhere is not an executable"):
        machine.survey()


# config.yaml


def test_devices_may_be_declared_where_there_is_no_binary() -> None:
    machine = Machine(real.NONE)
    machine.config(
        "binaries: {upstream: /nowhere}\n"
        "devices: {CUDA0: {total: 15.9GiB}, RAM: {total: 64GiB, free: 50GiB}}"
    )
    seen = machine.survey()
    assert names(seen) == ["CUDA0"]
    assert seen.ram
    assert seen.ram.free_bytes == 50 << 30
    assert "/nowhere is not an executable" in seen.warnings[0]
    assert "those of config.yaml (CUDA0), not those of this box (none)" in seen.warnings[1]


def test_a_declared_reserve_replaces_ours() -> None:
    machine = Machine(real.CUDA)
    machine.config("devices: {CUDA1: {reserve: 2GiB}}")
    assert machine.survey().gpus[1].reserve_bytes == 2 << 30
