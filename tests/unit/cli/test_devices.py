"""llmctl devices: what people and scripts read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from support import cards as real

from llmctl.core.cards import MIB

if TYPE_CHECKING:
    from support.commandline import CommandLine


def lists(llmctl: CommandLine, text: str) -> None:
    """Have llama-server and nvidia-smi say so."""
    llmctl.program("llama-server", f"cat <<'END'\n{text}END")
    llmctl.program("nvidia-smi", f"cat <<'END'\n{real.SMI}END")


def test_devices_are_a_table_with_the_memory_last(llmctl: CommandLine) -> None:
    lists(llmctl, real.CUDA)
    said = llmctl("devices")
    header, first, second, ram = said.stdout.splitlines()
    assert header.split() == ["NAME", "DESCRIPTION", "TOTAL", "FREE", "RESERVE", "DISPLAY"]
    assert first.split("  ") == [
        "CUDA0", "NVIDIA GeForce RTX 5060 Ti", "15.5 GiB", "14.6 GiB", "812 MiB", "yes",
    ]  # fmt: skip
    assert second.startswith("CUDA1  NVIDIA GeForce RTX 3060")
    assert ram.startswith("RAM    host memory ")


def test_devices_as_json(llmctl: CommandLine) -> None:
    lists(llmctl, real.CUDA)
    facts = llmctl("devices", "--json").json
    assert set(facts) == {"host", "binary", "devices", "ram", "warnings"}
    assert (facts["host"], facts["binary"]) == ("local", "upstream")
    assert facts["devices"][0] == {
        "name": "CUDA0",
        "description": "NVIDIA GeForce RTX 5060 Ti",
        "backend": "CUDA",
        "total_bytes": 15849 * MIB,
        "free_bytes": 14960 * MIB,
        "reserve_bytes": 812 * MIB,
        "display": True,
        "integrated": False,
        "used": True,
        "pci": "0000:0a:00.0",
        "temperature_c": 52,
        "source": "list-devices",
    }
    assert set(facts["ram"]) == {"total_bytes", "free_bytes", "reserve_bytes", "source"}


def test_why_a_device_is_left_out_is_told(llmctl: CommandLine) -> None:
    vulkan = "  Vulkan0: NVIDIA GeForce RTX 3060 (12288 MiB, 11900 MiB free)\n"
    lists(llmctl, real.CUDA + vulkan)
    assert "Vulkan0: the same card as CUDA1; not used beside it\n" in llmctl("devices").stdout
    used = {one["name"]: one["used"] for one in llmctl("devices", "--json").json["devices"]}
    assert used == {"CUDA0": True, "CUDA1": True, "Vulkan0": False}


def test_an_integrated_device_is_left_out(llmctl: CommandLine) -> None:
    lists(llmctl, real.AMD_VULKAN + real.VULKAN_LOG)
    note = "Vulkan1: shares the host's memory; not used beside other devices\n"
    assert note in llmctl("devices").stdout


def test_a_box_without_gpus_says_what_that_means(llmctl: CommandLine) -> None:
    lists(llmctl, real.NONE)
    llmctl.program("nvidia-smi", "exit 6")
    said = llmctl("devices")
    assert "upstream sees no GPU: models run on the CPU, in host memory\n" in said.stdout
    assert "warning: nvidia-smi: it said nothing\n" in said.stderr


def test_another_binary_may_be_asked(llmctl: CommandLine) -> None:
    lists(llmctl, real.CUDA)
    llmctl.program("other", f"cat <<'END'\n{real.TWO_LLVMPIPE}END")
    (llmctl.config_dir / "config.yaml").write_text("binaries: {upstream: llama-server, vk: other}")
    assert llmctl("devices", "--binary", "vk", "--json").json["binary"] == "vk"


def test_an_unknown_binary_is_status_3(llmctl: CommandLine) -> None:
    said = llmctl("devices", "--binary", "nix")
    assert (said.status, said.stdout) == (3, "")
    assert "there is no nix; there is upstream" in said.stderr
