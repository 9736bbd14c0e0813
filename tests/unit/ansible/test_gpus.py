"""Which GPUs a box has, what keeps its user from them, and what to build for them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NVIDIA, AMD, INTEL, MATROX = "0x10de", "0x1002", "0x8086", "0x102b"
TOOLS = {"cuda": "/usr/local/cuda/bin/nvcc", "rocm": "/opt/rocm/bin/amdclang++"}


@pytest.fixture(scope="session")
def module(ansible_file: Callable[[str], Any]) -> Any:
    return ansible_file("library/llmctl_gpus.py")


class Kernel:
    """A /sys and a /dev."""

    def __init__(self, root: Path) -> None:
        self.sysfs, self.dev = root / "sys", root / "dev"
        (self.dev / "dri").mkdir(parents=True)

    def device(self, address: str, vendor: str, driver: str = "", kind: str = "0x030000") -> None:
        place = self.sysfs / "bus/pci/devices" / address
        place.mkdir(parents=True)
        for name, word in {"vendor": vendor, "class": kind, "device": "0x2684"}.items():
            (place / name).write_text(f"{word}\n", "ascii")
        if driver:
            (self.sysfs / "drivers" / driver).mkdir(parents=True, exist_ok=True)
            (place / "driver").symlink_to(self.sysfs / "drivers" / driver)

    def node(self, name: str, mode: int) -> Path:
        path = self.dev / name
        path.touch()
        path.chmod(mode)
        return path


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    return Kernel(tmp_path)


def test_gpus_are_found_and_nothing_else(module: Any, kernel: Kernel) -> None:
    kernel.device("0000:01:00.0", NVIDIA, "nvidia")
    kernel.device("0000:01:00.1", NVIDIA, "snd_hda_intel", "0x040300")
    kernel.device("0000:02:00.0", AMD, "amdgpu", "0x038000")
    kernel.device("0000:03:00.0", MATROX, "mgag200")
    kernel.device("0000:00:1f.0", INTEL, "", "0x060100")
    found = [(one.vendor, one.driver) for one in module.cards(kernel.sysfs)]
    assert found == [("nvidia", "nvidia"), ("amd", "amdgpu")]


def test_a_box_without_a_bus_has_none(module: Any, tmp_path: Path) -> None:
    assert module.cards(tmp_path) == []


@pytest.mark.parametrize(
    ("vendor", "driver", "tools", "backend"),
    [
        (NVIDIA, "nvidia", TOOLS, "cuda"),
        (NVIDIA, "nvidia", {}, "vulkan"),
        (NVIDIA, "nouveau", TOOLS, "cpu"),
        (AMD, "amdgpu", TOOLS, "rocm"),
        (AMD, "amdgpu", {"cuda": "nvcc"}, "vulkan"),
        (INTEL, "xe", TOOLS, "vulkan"),
        (INTEL, "", TOOLS, "cpu"),
    ],
)
def test_the_backend_follows_card_driver_and_compiler(
    module: Any, kernel: Kernel, vendor: str, driver: str, tools: dict[str, str], backend: str
) -> None:
    kernel.device("0000:01:00.0", vendor, driver)
    assert module.backend(module.cards(kernel.sysfs), tools) == backend


def test_without_a_card_the_cpu_computes(module: Any) -> None:
    assert module.backend([], TOOLS) == "cpu"


def test_a_card_without_a_driver_is_a_problem(module: Any, kernel: Kernel) -> None:
    kernel.device("0000:01:00.0", NVIDIA, "nouveau")
    kernel.device("0000:02:00.0", AMD)
    told = module.problems(module.cards(kernel.sysfs), kernel.dev, 1000, set(), "serve")
    assert "nouveau, which cannot compute" in told[0]
    assert "has no driver" in told[1]


def test_a_node_that_the_user_may_not_use_is_a_problem(module: Any, kernel: Kernel) -> None:
    kernel.device("0000:02:00.0", AMD, "amdgpu")
    for name in ("dri/renderD128", "kfd"):
        kernel.node(name, 0o660)
    cards, group = module.cards(kernel.sysfs), os.getgid()
    others = os.getuid() + 1
    told = module.problems(cards, kernel.dev, others, {group + 1}, "serve")
    assert [one.split(":")[0] for one in told] == [
        f"serve may not use {kernel.dev}/dri/renderD128",
        f"serve may not use {kernel.dev}/kfd",
    ]
    assert module.problems(cards, kernel.dev, others, {group}, "serve") == []


@pytest.mark.parametrize(
    ("mode", "member", "allowed"),
    [(0o660, True, True), (0o660, False, False), (0o666, False, True), (0o640, True, False)],
)
def test_permission_is_read_and_write(
    module: Any, kernel: Kernel, mode: int, member: bool, allowed: bool
) -> None:
    status = kernel.node("nvidia0", mode).stat()
    groups = {status.st_gid if member else status.st_gid + 1}
    assert module.may_use(status, status.st_uid + 1, groups) is allowed


def test_a_compiler_is_named_by_its_whole_path(module: Any, tmp_path: Path) -> None:
    nvcc = tmp_path / "nvcc"
    nvcc.write_text("#!/bin/sh\n", "ascii")
    nvcc.chmod(0o755)
    assert module.compilers([str(tmp_path)])["cuda"] == str(nvcc)
