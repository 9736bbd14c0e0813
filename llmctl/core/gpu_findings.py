"""What is odd about a box's GPUs, as findings: each with what helps."""

import re
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from llmctl.core.finding import Finding, Grade

_LOOK = "llmctl devices"
_WHY = "Models are planned and started without it, or not at all."
_KERNEL_LOG = "sudo dmesg | grep -iE 'nvrm|xid|amdgpu|i915|xe ' | tail"
_REMEDIES = (
    # nvidia-smi's words, of drivers 470 to 580.
    (r"version mismatch", "sudo reboot", Grade.WRONG),
    (r"communicate with the NVIDIA driver|No devices were found|fallen off the bus|is lost",
     _KERNEL_LOG, Grade.WRONG),
    (r"did not end within", _KERNEL_LOG, Grade.WRONG),
    (r"is set in your shell", "write it to config.yaml, or unset it", Grade.ADVICE),
    (r"are guessed", _LOOK, Grade.ADVICE),
    (r"failed to (?:initialize|load)", "nvidia-smi; llmctl devices", Grade.WRONG),
)  # fmt: skip
_MAKERS = {"10DE": "NVIDIA", "1002": "AMD"}
"""PCI ids of makers whose cards models run on; a server's little VGA chip is nobody's fault."""


def survey_findings(warnings: Sequence[str]) -> Iterator[Finding]:
    """What the survey of devices warned of (engine/devices.py)."""
    for told in warnings:
        found = ((do, grade) for pattern, do, grade in _REMEDIES if re.search(pattern, told))
        do, grade = next(found, (_LOOK, Grade.WRONG))
        yield Finding(told, _WHY, do, grade)


class PciCard(msgspec.Struct, frozen=True):
    """A display controller on the PCI bus. driver: of the kernel, empty for none."""

    address: str
    maker: str
    driver: str


def parse_pci(address: str, uevent: str) -> PciCard | None:
    """A card that models could run on, from /sys/bus/pci/devices/ADDRESS/uevent; or None."""
    facts = dict(line.partition("=")[::2] for line in uevent.splitlines())
    maker = _MAKERS.get(facts.get("PCI_ID", "").partition(":")[0].upper())
    # Class 03: 0300 VGA, 0302 3D, 0380 other displays; written without the leading zero.
    is_display = re.fullmatch(r"3[0-9A-Fa-f]{4}", facts.get("PCI_CLASS", "")) is not None
    return PciCard(address, maker, facts.get("DRIVER", "")) if maker and is_display else None


def idle_card_findings(cards: Sequence[PciCard]) -> Iterator[Finding]:
    """Cards of a box on which no binary sees a device."""
    for card in cards:
        if card.driver in ("", "nouveau", "vfio-pci"):
            held = f"has the driver {card.driver}" if card.driver else "has no driver"
            what = f"the {card.maker} card at {card.address} {held}, and no binary sees it"
            yield Finding(what, _WHY, f"install {card.maker}'s driver; {_KERNEL_LOG}")


def locked_findings(nodes: Mapping[str, bool], *, user: str) -> Iterator[Finding]:
    """nodes: render nodes, and whether they may be used; of a box where no device is seen."""
    shut = [node for node, is_open in nodes.items() if not is_open]
    if shut:
        yield Finding(
            f"{user} may not use {', '.join(shut)}",
            "Vulkan and ROCm see no GPU then.",
            f"sudo usermod -aG render,video {user}, then reboot: a session keeps its groups",
        )
