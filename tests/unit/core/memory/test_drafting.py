"""A draft beside its target: priced, seated, and never at the price of what counts."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from support.oracle import models
from support.shapes import dense, qwen35moe
from support.small import small_model

from llmctl.core.memory import Device, Estimator, Settings, estimate
from llmctl.core.memory.drafting import (
    Drafting,
    better,
    can_generate,
    drafting_for,
    homes,
    is_worth,
    price,
    reads_per_token,
)
from llmctl.core.memory.place import CPU
from llmctl.core.memory.planner import Planner
from llmctl.core.memory.wanted import Plan, Room, Wanted, most

MIB = 1 << 20
TARGET, SMALL = small_model(layers=12), small_model(layers=1)
TWO = [Device("CUDA0"), Device("CUDA1")]


def rooms(*sizes: int) -> list[Room]:
    return [Room(f"CUDA{n}", one * MIB, one * MIB) for n, one in enumerate(sizes)]


# What it takes


@pytest.mark.parametrize("home", [0, 1, CPU])
def test_a_draft_is_all_in_one_place(home: int) -> None:
    estimator = Estimator(TARGET, TWO)
    target = Settings(ctx=5000, parallel=3, tensor_split=(7, 6), n_cpu_moe=3, n_draft=3, mtp=True)
    own, host = estimator.drafting(Drafting(SMALL, "q8_0", "q8_0", home).at(target, 5376))
    alone = Settings(ctx=5376, parallel=3, type_k="q8_0", type_v="q8_0")
    expected = estimate(SMALL, alone, [TWO[home]] if home != CPU else [])
    assert [need.name for need in own] == ["CUDA0", "CUDA1"]
    assert host == expected.host
    for n, need in enumerate(own):
        assert need.total_bytes == (expected.devices[0].total_bytes if n == home else 0)


def test_it_is_added_to_the_plan_of_the_target() -> None:
    estimator = Estimator(TARGET, TWO)
    asked = Settings(ctx=4096, tensor_split=(7, 6), n_draft=3)
    draft = Drafting(SMALL, home=1).at(asked, 4096)
    own, host = estimator.drafting(draft)
    plain, both = estimator.estimate(asked), estimator.estimate(asked, draft=draft)
    assert [one.draft_bytes for one in both.devices] == [0, own[1].total_bytes]
    assert both.host.total_bytes == plain.host.total_bytes + host.total_bytes
    assert both.devices[1].total_bytes == plain.devices[1].total_bytes + own[1].total_bytes


def test_types_that_its_rows_cannot_have_are_not_asked_for() -> None:
    odd = dense("llama", layers=2, kv=1, head=40)
    assert drafting_for(SMALL, "q8_0", "q4_0") == Drafting(SMALL, "q8_0", "q4_0")
    assert drafting_for(odd, "q8_0", "q8_0") == Drafting(odd, "f16", "f16")
    assert drafting_for(models()["dsv2lite"], "f16", "bf16").type_v == "f16"  # MLA: K alone


# Which


def test_a_token_reads_the_experts_in_use_and_a_row_of_the_embedding() -> None:
    model = models()["qwen3_30b"]
    every = sum(one.nbytes for one in model.tensors)
    active = reads_per_token(model)
    assert every / 14 < active < every / 7  # 3.3 of 30.5 billion
    embedding = next(one.nbytes for one in TARGET.tensors if one.name == "token_embd.weight")
    assert reads_per_token(TARGET) == sum(one.nbytes for one in TARGET.tensors) - embedding


def test_a_draft_is_worth_it_up_to_a_quarter() -> None:
    assert is_worth(SMALL, TARGET)
    assert not is_worth(small_model(layers=4), TARGET)
    assert not is_worth(TARGET, TARGET)


def test_a_model_that_makes_no_text_of_its_own_drafts_for_nobody() -> None:
    assert can_generate(SMALL)
    assert can_generate(qwen35moe(layers=4))
    assert not can_generate(dense("bert", layers=2, kv=8))
    assert not can_generate(dense("eagle3", layers=2, kv=8))
    assert not can_generate(dense("never-heard-of", layers=2, kv=8))


# Where


def test_who_is_named_may_be_on_the_cpu() -> None:
    assert homes(TWO, named=True) == (0, 1, CPU)
    assert homes(TWO, named=False) == (0, 1)
    assert homes([], named=False) == (CPU,)


@given(st.lists(st.integers(10, 90), min_size=1, max_size=3), st.integers(0, 2))
@settings(max_examples=60, deadline=None)
def test_a_plan_with_a_draft_is_found_if_there_is_one(sizes: list[int], at: int) -> None:
    """Held against all splits; the draft is beside the target's part on its device."""
    home, there = at % len(sizes), rooms(*sizes)
    draft, wanted = Drafting(SMALL, home=home), Wanted(ctx=2048, all_layers=True)
    found = Planner(TARGET, there, None, draft=draft).plan(wanted)
    estimator = Estimator(TARGET, [Device(one.name) for one in there])

    def fits(split: tuple[int, ...]) -> bool:
        asked = Settings(ctx=2048, tensor_split=split if len(sizes) > 1 else ())
        made = estimator.estimate(asked, draft=draft.at(asked, 2048))
        pairs = zip(made.devices, there, strict=True)
        return all(most(need) <= room.usable_bytes for need, room in pairs)

    units = len(TARGET.layers) + 1
    ways = itertools.product(range(units + 1), repeat=len(sizes))
    possible = any(fits(one) for one in ways if sum(one) == units)
    assert found.fits or not possible
    assert [n for n, one in enumerate(found.estimate.devices) if one.draft_bytes] == [home]


def test_of_two_places_the_roomier_one_is_better() -> None:
    wanted = Wanted(ctx=4096)
    plans = [
        Planner(TARGET, rooms(200, 400), None, draft=Drafting(SMALL, home=n)).plan(wanted)
        for n in (0, 1)
    ]
    assert better(1, plans[1]) > better(0, plans[0])


def test_layers_of_the_target_count_more_than_the_draft_on_a_device() -> None:
    there = rooms(60)
    plans = {
        home: Planner(TARGET, there, None, draft=Drafting(SMALL, home=home)).plan(Wanted(ctx=8192))
        for home in (0, CPU)
    }
    assert plans[CPU].settings.gpu_layers != plans[0].settings.gpu_layers
    assert better(CPU, plans[CPU]) > better(0, plans[0])


# At what price


def plan_of(ctx: int, *, layers: int = 13, moved: int = 0, size: int = 400) -> Plan:
    asked = Settings(ctx=ctx, gpu_layers=layers)
    made = Planner(TARGET, rooms(size), None).priced(asked)
    return replace(made, moved_layers=moved)


def test_what_a_draft_that_nobody_named_may_cost() -> None:
    alone = plan_of(32768)
    assert price(alone, plan_of(32768), open_ctx=False) is None
    told = price(alone, plan_of(32768, layers=12), open_ctx=False)
    assert told == "would push layers of the model to the CPU"
    told = price(alone, plan_of(32768, moved=2), open_ctx=False)
    assert told == "would push the experts of 2 layers to the CPU"
    told = price(alone, plan_of(32768, size=20), open_ctx=False)
    assert told == "would not fit beside the model"


@pytest.mark.parametrize(
    ("had", "has", "may"),
    [(98304, 49152, True), (98304, 48896, False), (40960, 32768, True), (40960, 32512, False),
     (16384, 16384, True), (16384, 16128, False)],
)  # fmt: skip
def test_of_an_open_context_half_must_stay_and_what_is_enough(
    had: int, has: int, *, may: bool
) -> None:
    alone, beside = plan_of(had, size=4000), plan_of(has, size=4000)
    assert (price(alone, beside, open_ctx=True) is None) is may
