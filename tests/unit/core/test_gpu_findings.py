"""core/gpu_findings.py: what is odd about GPUs, with what helps."""

from __future__ import annotations

import pytest

from llmctl.core.finding import Grade
from llmctl.core.gpu_findings import (
    PciCard,
    idle_card_findings,
    locked_findings,
    parse_pci,
    survey_findings,
)


@pytest.mark.parametrize(
    ("told", "do", "grade"),
    [
        ("nvidia-smi: Failed to initialize NVML: Driver/library version mismatch",
         "sudo reboot", Grade.WRONG),
        ("nvidia-smi: Unable to determine the device handle: GPU is lost", "sudo dmesg",
         Grade.WRONG),
        ("nvidia-smi did not end within 5 s", "sudo dmesg", Grade.WRONG),
        ("CUDA_VISIBLE_DEVICES is set in your shell, and units do not see it", "config.yaml",
         Grade.ADVICE),
        ("the names of the devices are guessed: CUDA0", "llmctl devices", Grade.ADVICE),
        ("upstream: failed to initialize CUDA: no device", "nvidia-smi", Grade.WRONG),
        ("nvidia-smi sees a card at 0000:01:00.0, but upstream does not list it",
         "llmctl devices", Grade.WRONG),
    ],
)  # fmt: skip
def test_a_warning_has_a_remedy(told: str, do: str, grade: Grade) -> None:
    (found,) = survey_findings([told])
    assert (found.what, found.grade) == (told, grade)
    assert do in found.do


@pytest.mark.parametrize(
    ("uevent", "card"),
    [
        ("DRIVER=nvidia\nPCI_CLASS=30000\nPCI_ID=10DE:2204\n", PciCard("x", "NVIDIA", "nvidia")),
        ("PCI_CLASS=30200\nPCI_ID=10de:20b0\n", PciCard("x", "NVIDIA", "")),
        ("DRIVER=amdgpu\nPCI_CLASS=38000\nPCI_ID=1002:73bf\n", PciCard("x", "AMD", "amdgpu")),
        ("DRIVER=bochs-drm\nPCI_CLASS=30000\nPCI_ID=1234:1111\n", None),
        ("DRIVER=snd_hda_intel\nPCI_CLASS=40300\nPCI_ID=10DE:1AEF\n", None),
        ("", None),
    ],
)
def test_a_card_on_the_bus(uevent: str, card: PciCard | None) -> None:
    assert parse_pci("x", uevent) == card


@pytest.mark.parametrize(
    ("driver", "said"),
    [("", "has no driver"), ("nouveau", "has the driver nouveau"), ("nvidia", ""), ("amdgpu", "")],
)
def test_a_card_that_no_binary_sees(driver: str, said: str) -> None:
    found = list(idle_card_findings([PciCard("0000:01:00.0", "NVIDIA", driver)]))
    assert [said in one.what for one in found] == ([True] if said else [])


def test_nodes_that_may_not_be_used() -> None:
    assert list(locked_findings({"/dev/dri/renderD128": True}, user="ana")) == []
    nodes = {"/dev/dri/renderD128": True, "/dev/dri/renderD129": False}
    (found,) = locked_findings(nodes, user="ana")
    assert found.what == "ana may not use /dev/dri/renderD129"
