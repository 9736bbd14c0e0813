#!/usr/bin/python
"""The GPUs of a box, what keeps its user from them, and the backend to build llama.cpp for."""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import stat
from dataclasses import asdict, dataclass
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: llmctl_gpus
short_description: Find GPUs, their drivers, permissions and compilers
description:
  - Reads /sys and /dev, so it needs no tool of any vendor, and changes nothing.
options:
  user: {type: str, required: true, description: "Who is to use the GPUs."}
  sysfs: {type: path, default: /sys, description: "Where the kernel tells of devices."}
  dev: {type: path, default: /dev, description: "Where device nodes are."}
  path:
    type: list
    elements: str
    default: []
    description:
      - Where compilers are looked for, beside PATH.
"""

VENDORS = {"0x10de": "nvidia", "0x1002": "amd", "0x8086": "intel"}
DRIVERS = {"nvidia": ("nvidia",), "amd": ("amdgpu",), "intel": ("i915", "xe")}
DISPLAY_CLASS = "0x03"  # VGA and 3D controllers: PCI base class 3
COMPILERS = {"cc": "cc", "cxx": "c++", "cuda": "nvcc", "rocm": "amdclang++", "vulkan": "glslc"}


@dataclass(frozen=True)
class Card:
    """A GPU. driver: of the kernel, empty for none."""

    address: str
    vendor: str
    device: str
    driver: str

    @property
    def has_driver(self) -> bool:
        """It is driven by one that llama.cpp can compute with; nouveau cannot."""
        return self.driver in DRIVERS[self.vendor]


def cards(sysfs: Path) -> list[Card]:
    """GPUs on the PCI bus, by address. Those of unknown vendors (a server's own VGA) are none."""
    found = []
    for one in sorted((sysfs / "bus/pci/devices").glob("*")):
        vendor = VENDORS.get(_word(one / "vendor"))
        if vendor and _word(one / "class").startswith(DISPLAY_CLASS):
            link = one / "driver"
            driver = link.resolve().name if link.exists() else ""
            found.append(Card(one.name, vendor, _word(one / "device"), driver))
    return found


def _word(path: Path) -> str:
    try:
        return path.read_text("ascii").strip()
    except OSError:
        return ""


def nodes(dev: Path, vendors: set[str]) -> list[Path]:
    """The device nodes that computing needs."""
    found = sorted((dev / "dri").glob("renderD*")) if vendors else []
    if "nvidia" in vendors:
        found += sorted(dev.glob("nvidia[0-9]*")) + [
            one for one in [dev / "nvidiactl"] if one.exists()
        ]
    if "amd" in vendors:
        found += [one for one in [dev / "kfd"] if one.exists()]
    return found


def may_use(status: os.stat_result, uid: int, groups: set[int]) -> bool:
    """A user with these groups may read and write a node."""
    mode = status.st_mode
    if status.st_uid == uid:
        return bool(mode & stat.S_IRUSR and mode & stat.S_IWUSR)
    if status.st_gid in groups:
        return bool(mode & stat.S_IRGRP and mode & stat.S_IWGRP)
    return bool(mode & stat.S_IROTH and mode & stat.S_IWOTH)


def problems(found: list[Card], dev: Path, uid: int, groups: set[int], user: str) -> list[str]:
    """What keeps the user from computing, with what to do."""
    told = [
        f"{card.address} ({card.vendor}) has "
        f"{f'the driver {card.driver}, which cannot compute' if card.driver else 'no driver'}: "
        "install one, or set gpu_install_driver: true"
        for card in found
        if not card.has_driver
    ]
    return told + [
        f"{user} may not use {node}: its group is {_group(node.stat().st_gid)}"
        for node in nodes(dev, {card.vendor for card in found})
        if not may_use(node.stat(), uid, groups)
    ]


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def compilers(extra: list[str]) -> dict[str, str]:
    """Absolute paths of the compilers that are there; missing ones are left out."""
    path = os.pathsep.join([*extra, os.environ.get("PATH", os.defpath)])
    found = {name: shutil.which(program, path=path) for name, program in COMPILERS.items()}
    return {name: where for name, where in found.items() if where}


def backend(found: list[Card], tools: dict[str, str]) -> str:
    """What to build for: the vendor's own where its compiler is, else Vulkan (whose compiler is an
    ordinary package), and without a GPU the CPU."""
    vendors = {card.vendor for card in found if card.has_driver}
    if "nvidia" in vendors and "cuda" in tools:
        return "cuda"
    if "amd" in vendors and "rocm" in tools:
        return "rocm"
    return "vulkan" if vendors else "cpu"


def main() -> None:
    """The module's entry."""
    module = AnsibleModule(
        argument_spec={
            "user": {"type": "str", "required": True},
            "sysfs": {"type": "path", "default": "/sys"},
            "dev": {"type": "path", "default": "/dev"},
            "path": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    given = module.params
    found = cards(Path(given["sysfs"]))
    tools = compilers(given["path"])
    try:
        who = pwd.getpwnam(given["user"])
    except KeyError:
        module.fail_json(msg=f"there is no user {given['user']}.")
    groups = {who.pw_gid, *(one.gr_gid for one in grp.getgrall() if who.pw_name in one.gr_mem)}
    module.exit_json(
        changed=False,
        cards=[asdict(one) for one in found],
        vendors=sorted({one.vendor for one in found}),
        problems=problems(found, Path(given["dev"]), who.pw_uid, groups, who.pw_name),
        compilers=tools,
        backend=backend(found, tools),
    )


if __name__ == "__main__":
    main()
