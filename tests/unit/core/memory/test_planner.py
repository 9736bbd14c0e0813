"""The planner finds the best plan there is: held against all plans, on small cases."""

import itertools
import time
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from support.oracle import models
from support.placements import (
    BUILD,
    MIB,
    by_trying,
    cases,
    goal_of,
    goals,
    reached,
    splits,
    tightest,
)  # fmt: skip
from support.shapes import moe, qwen3moe_235b

from llmctl.core.memory import Device, Estimator, Model, Override, Settings
from llmctl.core.memory.advice import advised, shortage
from llmctl.core.memory.drafting import Drafting
from llmctl.core.memory.planner import (
    FLOOR,
    LEAST_CTX,
    NO_PIPELINE,
    SLOW_FLOOR,
    Planner,
    expert_override,
)
from llmctl.core.memory.price import Prices
from llmctl.core.memory.wanted import Plan, Room, Wanted, most

GIB = 1 << 30
EXPERTS_AWAY = Override(r"blk\.(2|4)\.ffn_(up|down|gate|gate_up)_exps", "CUDA1")
WORDS_AWAY = Override(r"^token_embd\.weight$", "CUDA1")
Q4: dict[str, Any] = {"type_k": "q4_0", "type_v": "q4_0"}


def rooms(*sizes: float, reserve: int = 0) -> list[Room]:
    return [
        Room(f"CUDA{n}", int(one * GIB), int(one * GIB), reserve) for n, one in enumerate(sizes)
    ]


def planner(model: Model, *sizes: float, ram: float | None = None) -> Planner:
    memory = None if ram is None else Room("RAM", int(ram * GIB), int(ram * GIB))
    return Planner(model, rooms(*sizes), memory, build=BUILD)


def left(found: Plan) -> list[float]:
    """GiB that are left on each device."""
    pairs = zip(found.rooms, found.estimate.devices, strict=True)
    return [(room.usable_bytes - need.total_bytes) / GIB for room, need in pairs]


# Prices


@given(st.sampled_from(sorted(models())), st.data())
@settings(max_examples=150, deadline=None)
def test_prices_are_those_of_the_estimator(name: str, data: st.DataObject) -> None:
    model = models()[name]
    units = len(model.layers) + 1
    kv = data.draw(st.sampled_from(["f16", "q8_0", "f32"]))
    devices = [Device("CUDA0"), Device("Vulkan0"), Device("CUDA1")]
    start = data.draw(st.sampled_from([0, 0, 0, 1, units // 2, units - 2, units - 1, units]))
    near = st.integers(start, units) | st.sampled_from([max(start, units - 1), units])
    cuts = sorted(data.draw(st.lists(near, min_size=2, max_size=2)))
    ends = (*cuts, units)
    moe_ = data.draw(st.sampled_from([0, 1, units // 3, units]))
    counts = tuple(b - a for a, b in itertools.pairwise((start, *ends)))
    overrides = data.draw(
        st.sampled_from([(), (expert_override([1, 3]),), (EXPERTS_AWAY,), (WORDS_AWAY,)])
    )
    wanted = Settings(
        ctx=4096 * data.draw(st.integers(1, 8)), gpu_layers=units - start, tensor_split=counts,
        n_cpu_moe=moe_, type_k=kv, type_v=kv, mtp=data.draw(st.booleans()), overrides=overrides,
        n_draft=data.draw(st.sampled_from([0, 3])),
        kv_offload=data.draw(st.sampled_from([True, True, False])),
        flash_attn=kv == "q8_0" or data.draw(st.booleans()),
        ubatch=data.draw(st.sampled_from([16, 512])),
    )  # fmt: skip
    estimator = Estimator(model, devices, build=BUILD)
    prices = Prices(estimator, wanted)
    piped = start == 0 and moe_ == 0 and not overrides and wanted.kv_offload
    quick = [
        prices.taken[n] + prices.run(n, first, last, moe_, start=start, piped=piped)
        for n, (first, last) in enumerate(itertools.pairwise((start, *ends)))
    ]
    quick[0] += prices.idle() if start == units else 0
    slow = [most(need) for need in estimator.needs(wanted)[0]]
    assert all(abs(a - b) <= 2 for a, b in zip(quick, slow, strict=True))  # rounding of doubts


# The best of all plans


def fitting(model: Model, sizes: list[Room], wanted: Settings) -> bool:
    estimator = Estimator(model, [Device(one.name) for one in sizes], build=BUILD)
    needs = estimator.needs(wanted)[0]
    return all(most(need) <= one.usable_bytes for need, one in zip(needs, sizes, strict=True))


@given(cases())
@example((moe(layers=3, gates=[20] * 3), rooms(108 / 1024, 28 / 1024)))  # the second has no experts
@settings(max_examples=60, deadline=None)
def test_no_plan_keeps_more_experts_on_the_devices(case: tuple[Model, list[Room]]) -> None:
    no_better(*case)


def no_better(model: Model, there: list[Room]) -> None:
    asked = Settings(ctx=2048, mtp=model.n_mtp > 0)
    wanted = Wanted(settings=asked, ctx=2048, all_layers=True)
    found = Planner(model, there, None, build=BUILD).plan(wanted)
    best = by_trying(model, there, asked)
    assert found.fits == (best is not None)
    if best is not None:
        assert found.moved_layers == best[0]
    if best is not None and best[0]:
        assert tightest(model, there, found.settings) == best[1]


@given(
    st.lists(st.tuples(st.integers(5, 40), st.integers(5, 40)), min_size=2, max_size=4),
    st.lists(st.integers(0, 400), min_size=1, max_size=3),
)
@example([(40, 20), (40, 20), (30, 30)], [186])
@settings(max_examples=60, deadline=None)
def test_what_may_be_left_of_the_step_before_counts_as_well(
    experts: list[tuple[int, int]], sizes: list[int]
) -> None:
    """Where masks come late, the layers with the second largest tensor are not those with the
    largest: what may be lent is limited in both."""
    gates, ups = zip(*experts, strict=True)
    model = moe(layers=len(experts), gates=gates, ups=ups, window=True)
    there = [Room(f"CUDA{n}", one * MIB, one * MIB) for n, one in enumerate(sizes)]
    with patch("llmctl.core.memory.compute.is_measured", return_value=False):
        no_better(model, there)


@given(cases(), st.data())
@settings(max_examples=60, deadline=None)
def test_none_does_with_a_split_that_is_given(
    case: tuple[Model, list[Room]], data: st.DataObject
) -> None:
    model, there = case
    split = data.draw(st.sampled_from(splits(len(model.layers) + 1, len(there))))
    asked = Settings(ctx=2048, tensor_split=split, mtp=model.n_mtp > 0)
    wanted = Wanted(settings=asked, ctx=2048, all_layers=True, tensor_split=split)
    found = Planner(model, there, None, build=BUILD).plan(wanted)
    fewest = next(
        (
            count
            for count in range(len(model.layers) + 1)
            for moved in itertools.combinations(range(len(model.layers)), count)
            for way in ([(expert_override(moved),)] if moved else [(), (NO_PIPELINE,)])
            if fitting(model, there, replace(asked, overrides=way))
        ),
        None,
    )
    assert found.fits == (fewest is not None)
    if fewest is not None:
        assert found.moved_layers == fewest


def test_of_layers_of_unequal_size_no_more_are_moved_than_must_be() -> None:
    """Layers 1 to 5 of six, which are the larger ones, are enough on a card of 135 MiB."""
    room = Room("CUDA0", 135 * MIB, 135 * MIB)
    asked = Wanted(ctx=2048, all_layers=True)
    found = Planner(moe(layers=6), [room], None, build=BUILD).plan(asked)
    assert found.moved_layers == 5
    assert found.settings.overrides == (expert_override([1, 2, 3, 4, 5]),)


def test_the_first_layers_are_moved_where_others_are_no_better() -> None:
    """People read units: `--n-cpu-moe 2` rather than a pattern."""
    made = Planner(moe(layers=6, gates=[20] * 6), rooms(0.3), None, build=BUILD)
    found = made.plan(Wanted(ctx=2048, all_layers=True))
    assert (found.settings.n_cpu_moe, found.settings.overrides) == (2, ())


@given(st.integers(2, 6), st.lists(st.integers(60, 400), min_size=1, max_size=3))
@settings(max_examples=40, deadline=None)
def test_no_split_has_more_context(layers: int, sizes: list[int]) -> None:
    model = moe(layers=layers)
    there = [Room(f"CUDA{n}", one * MIB, one * MIB) for n, one in enumerate(sizes)]
    found = Planner(model, there, None, build=BUILD).plan(Wanted(n_cpu_moe=0, all_layers=True))
    more = found.settings.ctx + 256 if found.fits else 1024
    if more > model.n_ctx_train:
        return
    assert not any(
        fitting(model, there, Settings(ctx=more, tensor_split=split))
        for split in splits(layers + 1, len(there))
    )


# The largest context


@given(cases(), st.integers(1, 3), st.booleans())
@settings(max_examples=60, deadline=None)
def test_the_highest_floor_is_reached_as_well_as_can_be_and_then_all_context(
    case: tuple[Model, list[Room]], parallel: int, unified: bool
) -> None:
    model, there = case
    memory = Room("RAM", GIB, GIB)
    asked = Settings(parallel=parallel, unified=unified, mtp=model.n_mtp > 0)
    found = Planner(model, there, memory, build=BUILD).plan(Wanted(settings=asked))
    step = 256 if unified else 256 * parallel
    top = model.n_ctx_train * (1 if unified else parallel)
    for floor in (FLOOR, SLOW_FLOOR, LEAST_CTX, 1):
        ctx = min(-(-floor // step) * step, top)
        at_floor = replace(asked, ctx=ctx)
        all_goals = goals(model, dropping=floor < FLOOR, devices=len(there))
        best = next(
            (one for one in all_goals if reached(model, there, memory, at_floor, one)), None
        )
        if best is None:
            continue
        assert found.fits
        assert goal_of(model, found) == best
        more = replace(asked, ctx=found.settings.ctx + step)
        assert found.settings.ctx % step == 0
        assert more.ctx > top or not reached(model, there, memory, more, best)
        return
    assert not found.fits


@given(st.integers(2, 5), st.lists(st.integers(20, 400), min_size=1, max_size=2), st.data())
@settings(max_examples=60, deadline=None)
def test_experts_go_to_the_cpu_only_if_the_host_has_room_for_them(
    layers: int, sizes: list[int], data: st.DataObject
) -> None:
    model = moe(layers=layers, gates=[20] * layers)
    there = [Room(f"CUDA{n}", one * MIB, one * MIB) for n, one in enumerate(sizes)]
    ram = data.draw(st.integers(10, 60 * layers + 60)) * MIB
    memory, asked = Room("RAM", ram, ram), Settings(ctx=2048)
    found = Planner(model, there, memory, build=BUILD).plan(Wanted(ctx=2048, all_layers=True))
    all_goals = goals(model, dropping=False, devices=len(there))
    best = next((one for one in all_goals if reached(model, there, memory, asked, one)), None)
    assert found.fits == (best is not None)
    assert best is None or goal_of(model, found) == best
    assert found.fits == (not any(found.lacking))


@given(cases(), st.integers(0, 600), st.integers(0, 300), st.booleans())
@settings(max_examples=60, deadline=None)
def test_more_memory_is_never_worse(
    case: tuple[Model, list[Room]], ram: int, more: int, host: bool
) -> None:
    """Whatever is added to: what could be reached before still can."""
    model, there = case
    memory = Room("RAM", ram * MIB, ram * MIB)

    def larger(one: Room) -> Room:
        return replace(
            one, total_bytes=one.total_bytes + more * MIB, free_bytes=one.free_bytes + more * MIB
        )

    wanted = Wanted(settings=Settings(mtp=model.n_mtp > 0))
    before = Planner(model, there, memory, build=BUILD).plan(wanted)
    if host:
        memory = larger(memory)
    else:
        there = [*there[:-1], larger(there[-1])]
    after = Planner(model, there, memory, build=BUILD).plan(wanted)
    assert after.fits or not before.fits
    if before.fits:
        assert worth(model, after) >= worth(model, before)


def worth(model: Model, found: Plan) -> tuple[int, ...]:
    """To be compared: the floor, then what is on the devices, then context."""
    ctx, goal = found.settings.ctx, goal_of(model, found)
    floors = [FLOOR] * (not goal.dropped) + [SLOW_FLOOR, LEAST_CTX, 1]
    floor = next(one for one in floors if ctx >= one)
    return floor, -goal.dropped, -goal.moved, -goal.plain, ctx


@pytest.mark.parametrize("name", sorted(models()))
@pytest.mark.parametrize("sizes", [(8,), (16,), (24, 24), (12, 24, 8)])
def test_every_plan_fits_and_is_the_same_twice(name: str, sizes: tuple[float, ...]) -> None:
    made = planner(models()[name], *sizes)
    found = made.plan(Wanted())
    assert found.fits
    assert found == planner(models()[name], *sizes).plan(Wanted())
    assert sum(found.settings.tensor_split) in (0, found.settings.gpu_layers)


def test_as_many_layers_as_fit() -> None:
    found = planner(models()["llama33_70b"], 24).plan(Wanted(ctx=8192))
    assert found.fits
    one_more = found.settings.gpu_layers or 0
    more = planner(models()["llama33_70b"], 24).plan(Wanted(ctx=8192, gpu_layers=one_more + 1))
    assert not more.fits


# The boxes of the shipped profiles


def test_coder_on_its_owners_card() -> None:
    """n_cpu_moe 16 runs; with a desktop and the runtime, between half and one GiB are left."""
    served = Settings(**Q4, parallel=4, unified=True)
    made = planner(models()["qwen3_30b"], 15.9)
    found = made.plan(Wanted(settings=served, ctx=98304, n_cpu_moe=16))
    assert found.fits
    assert found.settings.gpu_layers == 49
    runtime_and_desktop = (768 + 512) / 1024
    assert 0.5 <= left(found)[0] - runtime_and_desktop <= 1
    assert not made.plan(Wanted(settings=served, ctx=98304, n_cpu_moe=0)).fits


# Devices of all kinds


@pytest.mark.parametrize("name", ["llama31_8b", "gptoss20", "dsv2lite"])
@pytest.mark.parametrize(
    "devices",
    [
        {"CUDA0": 12, "Vulkan1": 8}, {"Vulkan0": 8, "CUDA0": 12, "ROCm0": 4},
        {"CUDA0": 0, "CUDA1": 16}, {"CUDA0": 16, "CUDA1": 0}, {"CUDA0": 0.05, "CUDA1": 24},
        {f"CUDA{n}": 4 for n in range(8)}, {"Strange0": 24},
    ],
)  # fmt: skip
def test_devices_of_all_kinds_and_sizes(name: str, devices: dict[str, float]) -> None:
    there = [Room(one, int(size * GIB), int(size * GIB)) for one, size in devices.items()]
    memory = Room("RAM", 64 * GIB, 64 * GIB)
    found = Planner(models()[name], there, memory, build=BUILD).plan(Wanted())
    assert found.fits
    assert found == Planner(models()[name], there, memory, build=BUILD).plan(Wanted())
    counts = found.settings.tensor_split or (found.settings.gpu_layers,)
    assert all(not units for units, size in zip(counts, devices.values(), strict=True) if size < 1)
    assert sum(one or 0 for one in counts) == found.settings.gpu_layers


def test_more_devices_than_layers() -> None:
    there = [Room(f"CUDA{n}", 500 * MIB, 500 * MIB) for n in range(8)]
    found = Planner(moe(layers=2), there, None, build=BUILD).plan(Wanted())
    assert found.fits
    assert (found.settings.gpu_layers, sum(found.settings.tensor_split)) == (3, 3)
    assert found.moved_layers == 0


def test_one_device_for_everything_is_the_main_one() -> None:
    """`--split-mode none` uses no other, however much it has."""
    single = Settings(split_mode="none", main_gpu=1)
    found = planner(models()["llama31_8b"], 24, 24).plan(Wanted(settings=single))
    assert found.fits
    assert [one.weights_bytes > 0 for one in found.estimate.devices] == [False, True]
    assert (
        not planner(models()["llama31_8b"], 48, 2)
        .plan(Wanted(settings=single, all_layers=True))
        .fits
    )


def test_experts_moved_by_hand_are_lent_as_well() -> None:
    """`-ot exps=CPU` in `args`: compute has room for the largest, and the plan knows."""
    by_hand = Settings(overrides=(Override("ffn_.*_exps", "CPU"),))
    found = planner(models()["gptoss120"], 8, ram=96).plan(Wanted(settings=by_hand))
    assert found.fits
    assert found.settings.overrides == by_hand.overrides
    assert found.settings.gpu_layers == 37


# What is given stays


def test_given_values_are_priced_as_they_are() -> None:
    made = planner(models()["qwen3_30b"], 24, 24)
    found = made.plan(Wanted(ctx=8192, tensor_split=(10, 39), n_cpu_moe=3, gpu_layers=49))
    same = (found.settings.ctx, found.settings.tensor_split, found.settings.n_cpu_moe)
    assert same == (8192, (10, 39), 3)


def test_a_given_split_moves_experts_of_the_device_that_is_full() -> None:
    found = planner(models()["gptoss120"], 24, 48).plan(Wanted(ctx=8192, tensor_split=(19, 18)))
    assert found.fits
    assert found.settings.n_cpu_moe > 0
    assert found.settings.tensor_split == (19, 18)


def test_experts_of_a_later_device_go_by_name() -> None:
    found = planner(models()["gptoss120"], 32, 24).plan(Wanted(ctx=32768))
    assert found.fits
    assert found.settings.n_cpu_moe == 0
    assert len(found.settings.overrides) >= 1
    assert found.settings.overrides[0].pattern.startswith(r"blk\.(")


def test_without_devices_it_fits_into_ram() -> None:
    found = planner(models()["llama31_8b"], ram=8).plan(Wanted())
    assert found.fits
    assert found.settings.gpu_layers == 0
    assert 8192 < found.settings.ctx < 131072
    assert not planner(models()["llama31_8b"], ram=4).plan(Wanted()).fits


def test_slots_with_cells_of_their_own_make_the_steps_larger() -> None:
    wanted = Wanted(settings=Settings(parallel=3))
    found = planner(models()["llama31_8b"], 16).plan(wanted)
    assert found.settings.ctx % 768 == 0
    assert found.estimate.n_ctx == found.settings.ctx


# Advice


def test_smaller_types_are_offered_and_never_taken() -> None:
    found = advised(planner(models()["llama31_8b"], 12), Wanted())
    assert (found.settings.type_k, found.settings.type_v) == ("f16", "f16")
    assert any(one.startswith("kv: q8_0 would give ctx ") for one in found.offers)


def test_what_does_not_fit_has_the_nearest_that_does() -> None:
    made = planner(models()["qwen3_30b"], 15.9)
    found = advised(made, Wanted(settings=Settings(**Q4), ctx=98304, n_cpu_moe=0))
    assert not found.fits
    assert any(one.startswith("n_cpu_moe: ") for one in found.remedies)
    assert any(one.startswith("gpu_layers: ") for one in found.remedies)
    assert "CUDA0 needs " in shortage(found)


def test_ninety_four_layers_on_four_gpus_take_a_tenth_of_a_second() -> None:
    model = qwen3moe_235b("q4_K")
    best = 9.0
    for _ in range(5):
        began = time.perf_counter()
        assert planner(model, 24, 24, 24, 24).plan(Wanted(ctx=32768)).fits
        best = min(best, time.perf_counter() - began)
    assert best < 0.25  # 0.1 s where nothing else runs


# What drafts


@given(cases(), st.data())
@settings(max_examples=60, deadline=None)
def test_a_draft_model_is_as_much_less_room_on_its_device(
    case: tuple[Model, list[Room]], data: st.DataObject
) -> None:
    model, there = case
    home = data.draw(st.integers(0, len(there) - 1))
    draft = Drafting(moe(layers=2, gates=[1, 1]), "q8_0", "q8_0", home)
    asked = Settings(ctx=2048, n_draft=3)
    wanted = Wanted(settings=asked, ctx=2048)
    beside = Planner(model, there, None, build=BUILD, draft=draft).plan(wanted)
    estimator = Estimator(model, [Device(one.name) for one in there], build=BUILD)
    needed = most(estimator.drafting(draft.at(asked, 2048))[0][home])
    room = there[home]
    if needed > room.free_bytes:
        assert not beside.fits
        return
    less = [*there[:home], replace(room, free_bytes=room.free_bytes - needed), *there[home + 1 :]]
    alone = Planner(model, less, None, build=BUILD).plan(wanted)
    assert beside.fits == alone.fits
    if alone.fits:
        assert beside.settings == alone.settings
        assert beside.lacking == alone.lacking
        assert beside.estimate.devices[home].draft_bytes <= needed
