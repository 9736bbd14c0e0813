"""Every instance of a model on two GPUs made of software: where its bytes lie, and whether it fits.

Weights and K/V are what the plan says to the last digit that a server prints, compute buffers are
what it says with the error that it states; and a byte less of free memory is one too few.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest
from kit.waiting import eventually
from server.test_memory import EXACT, MIB
from server.test_real_switches import profile
from support.memory_log import parsed
from usermgr.site import ManagerSite
from usermgr.test_replicas import engine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from kit.managers import UserManager
    from support.memory_log import Printed

FIRST, TWO, _ = UNITS = ("llm-a.service", "llm-a@2.service", "llm-a@3.service")
PLACING = ("-ngl", "-ts", "-ot", "-ncmoe", "-c", "-np")
KEYS: dict[str, Any] = {
    "ctx": 8192, "parallel": 2, "replicas": {"max": 3},
    "env": {"GGML_VK_VISIBLE_DEVICES": "0,0"},
    "args": ["--no-repack", "--load-mode", "none"],  # what is printed is what is allocated
}  # fmt: skip


@pytest.fixture
def gpus(user_manager: UserManager, vulkan_server: str, tiny_models: Path) -> Iterator[ManagerSite]:
    """A site whose server sees two GPUs, with room on each for three instances of a model."""
    made = ManagerSite(user_manager, vulkan_server)
    made.models_dir = str(tiny_models)
    has_free(made, 200 * MIB, 200 * MIB)
    yield made
    made.close()


def has_free(site: ManagerSite, *free: int) -> None:
    """What all models together may fill."""
    site.configure(
        devices={f"Vulkan{n}": {"free": bytes_, "reserve": 0} for n, bytes_ in enumerate(free)}
    )


def placed(words: list[str]) -> list[tuple[str, str]]:
    return [pair for pair in itertools.pairwise(words) if pair[0] in PLACING]


def printed(site: ManagerSite, unit: str) -> Printed:
    """What the instance allocated, once its journal has it."""

    def read() -> Printed | None:
        lines = site.run("journalctl", f"--user-unit={unit}", "--quiet", "--output=cat").stdout
        found = parsed(lines.splitlines())
        return found if found.contexts and found.contexts[-1].sizes.get("compute") else None

    found = eventually(read, 20, why=f"{unit} has told of its memory")
    assert found is not None
    return found


def differences(need: Any, told: Printed) -> list[str]:
    """What a server allocated otherwise than planned, on one device."""
    where, (context,) = need["name"], told.contexts
    pairs = {
        "weights": (told.weights.on("model", where), 0),
        "kv": (context.on("KV", where), 0),
        "compute": (context.on("compute", where), need["compute_error_bytes"]),
    }
    return [
        f"{where} {part}: {need[f'{part}_bytes'] / MIB} planned, {mib} MiB allocated"
        for part, (mib, error) in pairs.items()
        if abs(need[f"{part}_bytes"] / MIB - mib) > EXACT + error / MIB
    ]


def test_each_instance_lies_where_the_plan_says(gpus: ManagerSite) -> None:
    profile(gpus, "a", model="qwen3moe-script.gguf", **KEYS)
    gpus.llmctl("switch", "a")
    printed(gpus, FIRST)
    planned = gpus.json("plan", "a")
    assert engine(gpus, "start", 2) == ""
    assert engine(gpus, "start", 3) == ""
    used = [one for one in planned["devices"] if one["weights_bytes"]]
    assert [one["name"] for one in used] == ["Vulkan0", "Vulkan1"]
    for unit in UNITS:
        argv = gpus.read(f"/proc/{gpus.show(unit, 'MainPID')}/cmdline").split("\0")
        assert placed(argv) == placed(planned["args"])
        told = printed(gpus, unit)
        for need in (*used, planned["host"]):
            assert differences(need, told) == [], "\n".join(told.lines)
    assert gpus.active_units() == set(UNITS)


def needed(site: ManagerSite) -> list[int]:
    """Bytes on each device for the one that runs, and for one more, be its compute buffers as large
    as they may be."""
    planned = site.json("plan", "a")["devices"]
    return [2 * one["total_need_bytes"] + one["compute_error_bytes"] for one in planned]


@pytest.mark.parametrize("layers", [4, "all"])
def test_a_byte_less_than_the_plan_says_is_too_little(gpus: ManagerSite, layers: int | str) -> None:
    """Its placing is given, so that it is asked for once more whatever is free."""
    given = {"gpu_layers": layers, "tensor_split": [1, 1], "n_cpu_moe": 0}
    profile(gpus, "a", model="llama-script.gguf", **KEYS, **given)
    gpus.llmctl("switch", "a")
    eventually(lambda: gpus.json("plan", "a", "--observed")["compute_from"] == "observed")
    need = needed(gpus)
    for short in (0, 1):
        has_free(gpus, *(bytes_ - (n == short) for n, bytes_ in enumerate(need)))
        said = engine(gpus, "start", 2)
        assert said.startswith(f"DoesNotFitError: a does not fit once more: Vulkan{short} "), said
    assert gpus.active_units() == {FIRST}
    has_free(gpus, *need)
    assert engine(gpus, "start", 2) == ""
    assert gpus.active_units() == {FIRST, TWO}
