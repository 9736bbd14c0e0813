"""Plans in a few words."""

from __future__ import annotations

import pytest
from support.oracle import models

from llmctl.core.memory.planner import Planner
from llmctl.core.memory.settings import Settings
from llmctl.core.memory.wanted import Plan, Room, Wanted, most
from llmctl.core.memory.words import in_words, on_gpus, too_much

MIB, GIB = 1 << 20, 1 << 30
RAM = Room("RAM", 64 * GIB, 64 * GIB)


def told(name: str, *gpus: float, ctx: int | None = None, ram: Room = RAM) -> tuple[Plan, int]:
    rooms = [Room(f"CUDA{n}", int(one * GIB), int(one * GIB)) for n, one in enumerate(gpus)]
    planner = Planner(models()[name], rooms, ram)
    return planner.plan(Wanted(settings=Settings(), ctx=ctx)), planner.units


@pytest.mark.parametrize(
    ("name", "gpus", "words"),
    [
        ("llama31_8b", (24,), "ctx 131072"),
        ("llama31_8b", (), "ctx 131072, on the CPU"),
    ],
)
def test_what_fits_is_told(name: str, gpus: tuple[float, ...], words: str) -> None:
    assert in_words(*told(name, *gpus)) == words


def test_experts_on_the_cpu_are_told() -> None:
    plan, units = told("qwen3_30b", 12, ctx=8192)
    assert plan.moved_layers > 0
    assert in_words(plan, units) == f"ctx 8192, experts of {plan.moved_layers} layers on the CPU"


@pytest.mark.parametrize(("gpus", "where"), [((12,), "GPU"), ((6, 6), "GPUs")])
def test_layers_on_the_cpu_are_told(gpus: tuple[float, ...], where: str) -> None:
    plan, units = told("qwen3_32b", *gpus, ctx=8192)
    here = on_gpus(plan, units)
    assert 0 < here < units
    assert in_words(plan, units) == f"ctx 8192, {here} of {units} layers on the {where}"


def test_how_much_is_too_much_is_told() -> None:
    plan, _ = told("llama33_70b", 12, ram=Room("RAM", 8 * GIB, 8 * GIB))
    assert not plan.fits
    assert too_much(plan) == f"{sum(plan.lacking) / GIB:.1f} GiB too much"


def test_a_little_too_much_is_told_in_mib() -> None:
    fits, _ = told("llama31_8b", ctx=8192)
    need = most(fits.estimate.host) - 10 * MIB
    just, _ = told("llama31_8b", ctx=8192, ram=Room("RAM", 64 * GIB, need))
    assert too_much(just) == "10 MiB too much"
