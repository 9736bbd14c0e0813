"""The planner finds the best plan there is: held against all plans, on small cases."""

import itertools
import time
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from support.oracle import models
from support.shapes import moe, qwen3moe_235b

from llmctl.core.memory import Device, Estimator, Model, Override, Settings
from llmctl.core.memory.advice import advised, shortage
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
MIB = 1 << 20
BUILD = 11434
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
@settings(max_examples=60, deadline=None)
def test_prices_are_those_of_the_estimator(name: str, data: st.DataObject) -> None:
    model = models()[name]
    units = len(model.layers) + 1
    kv = data.draw(st.sampled_from(["f16", "q8_0"]))
    devices = [Device("CUDA0"), Device("Vulkan0"), Device("CUDA1")]
    start = data.draw(st.sampled_from([0, 0, 1, units // 2]))
    cuts = sorted(data.draw(st.lists(st.integers(start, units), min_size=2, max_size=2)))
    ends = (*cuts, units)
    moe_ = data.draw(st.sampled_from([0, 1, units // 3, units]))
    counts = tuple(b - a for a, b in itertools.pairwise((start, *ends)))
    wanted = Settings(
        ctx=4096 * data.draw(st.integers(1, 8)), gpu_layers=units - start, tensor_split=counts,
        n_cpu_moe=moe_, type_k=kv, type_v=kv, mtp=data.draw(st.booleans()),
    )  # fmt: skip
    estimator = Estimator(model, devices, build=BUILD)
    prices = Prices(estimator, wanted)
    piped = start == 0 and moe_ == 0
    quick = [
        prices.run(n, first, last, moe_, start=start, piped=piped)
        for n, (first, last) in enumerate(itertools.pairwise((start, *ends)))
    ]
    slow = [most(need) for need in estimator.needs(wanted)[0]]
    assert all(abs(a - b) <= 2 for a, b in zip(quick, slow, strict=True))  # rounding of doubts


# The best of all plans


def fitting(model: Model, sizes: list[Room], wanted: Settings) -> bool:
    estimator = Estimator(model, [Device(one.name) for one in sizes], build=BUILD)
    needs = estimator.needs(wanted)[0]
    return all(most(need) <= one.usable_bytes for need, one in zip(needs, sizes, strict=True))


def splits(units: int, devices: int) -> list[tuple[int, ...]]:
    return [one for one in itertools.product(range(units + 1), repeat=devices) if sum(one) == units]


NAMES = (("CUDA0", "CUDA1", "CUDA2"), ("CUDA0", "Vulkan1", "ROCm0"))
GATES = {
    "alike": [20] * 6, "rising": [20, 21, 22, 23, 24, 25], "falling": [60, 50, 40, 30, 20, 10],
    "two kinds": [29, 20, 20, 29, 20, 29], "one is huge": [5, 5, 90, 5, 5, 5], "default": None,
}  # fmt: skip


@st.composite
def cases(draw: st.DrawFn) -> tuple[Model, list[Room]]:
    """A model of a few unequal layers, and one to three devices that may hold some of it."""
    sizes = draw(st.lists(st.integers(0, 500), min_size=1, max_size=3))
    layers = draw(st.integers(2, 6 if len(sizes) < 3 else 4))
    gates = GATES[draw(st.sampled_from(sorted(GATES)))]
    names = draw(st.sampled_from(NAMES))
    there = [
        Room(name, one * MIB, one * MIB) for name, one in zip(names, sizes, strict=False)
    ]  # fmt: skip
    return moe(layers=layers, gates=gates, window=draw(st.booleans())), there


def tightest(model: Model, there: list[Room], wanted: Settings) -> int:
    """Bytes that are left on the fullest device in use; negative: on some, it does not fit."""
    needs = Estimator(model, [Device(one.name) for one in there], build=BUILD).needs(wanted)[0]
    split = wanted.tensor_split or (1,) * len(there)
    return min(
        room.usable_bytes - most(need)
        for room, need, units in zip(there, needs, split, strict=True) if units
    )  # fmt: skip


def with_moved(model: Model, there: list[Room], ctx: int, moved: tuple[int, ...]) -> int:
    """The most that can be left on the fullest device with these layers' experts on the CPU."""
    ways = [(expert_override(moved),)] if moved else [(), (NO_PIPELINE,)]
    return max(
        tightest(model, there, Settings(ctx=ctx, tensor_split=split, overrides=way))
        for way in ways
        for split in splits(len(model.layers) + 1, len(there))
    )


def by_trying(model: Model, there: list[Room], ctx: int) -> tuple[int, int] | None:
    """The fewest layers whose experts have to go to the CPU, of all there are; and the bytes that
    are then left on the fullest device, at best."""
    layers = range(len(model.layers))
    for count in range(len(model.layers) + 1):
        sets = itertools.combinations(layers, count)
        room = max(with_moved(model, there, ctx, one) for one in sets)
        if room >= 0:
            return count, room
    return None


@given(cases())
@settings(max_examples=60, deadline=None)
def test_no_plan_keeps_more_experts_on_the_devices(case: tuple[Model, list[Room]]) -> None:
    model, there = case
    found = Planner(model, there, None, build=BUILD).plan(Wanted(ctx=2048, all_layers=True))
    best = by_trying(model, there, 2048)
    assert found.fits == (best is not None)
    if best is not None:
        assert found.moved_layers == best[0]
    if best is not None and best[0]:
        assert tightest(model, there, found.settings) == best[1]


@given(cases(), st.data())
@settings(max_examples=60, deadline=None)
def test_none_does_with_a_split_that_is_given(
    case: tuple[Model, list[Room]], data: st.DataObject
) -> None:
    model, there = case
    split = data.draw(st.sampled_from(splits(len(model.layers) + 1, len(there))))
    asked = Wanted(ctx=2048, all_layers=True, tensor_split=split)
    found = Planner(model, there, None, build=BUILD).plan(asked)
    fewest = next(
        (
            count
            for count in range(len(model.layers) + 1)
            for moved in itertools.combinations(range(len(model.layers)), count)
            for way in ([(expert_override(moved),)] if moved else [(), (NO_PIPELINE,)])
            if fitting(model, there, Settings(ctx=2048, tensor_split=split, overrides=way))
        ),
        None,
    )
    assert found.fits == (fewest is not None)
    if fewest is not None:
        assert found.moved_layers == fewest


def test_of_layers_of_unequal_size_no_more_are_moved_than_must_be() -> None:
    """Layers 1 to 5 of six, which are the larger ones, are enough on a card of 127 MiB."""
    room = Room("CUDA0", 127 * MIB, 127 * MIB)
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


class Goal(msgspec.Struct, frozen=True):
    """What a plan has to reach before context counts: how far it goes, as the planner has it. Less
    of each is better: whole layers on the CPU, layers whose experts are, inputs without copies."""

    dropped: int
    moved: int
    plain: bool


def reached(model: Model, there: list[Room], ram: Room, asked: Settings, goal: Goal) -> bool:
    """Is there a plan like that which fits, the host included? All are tried."""
    estimator = Estimator(model, [Device(one.name) for one in there], build=BUILD)
    units, layers = len(model.layers) + 1, range(goal.dropped, len(model.layers))
    for split in splits(units - goal.dropped, len(there)):
        for moved in itertools.combinations(layers, goal.moved):
            overrides: tuple[Override, ...] = (expert_override(moved),) if moved else ()
            if goal.plain and not moved and not goal.dropped:
                overrides = (NO_PIPELINE,)
            wanted = replace(
                asked, gpu_layers=units - goal.dropped, tensor_split=split, overrides=overrides,
            )  # fmt: skip
            devices, host, _ = estimator.needs(wanted)
            pairs = zip((*devices, host), (*there, ram), strict=True)
            if all(most(need) <= one.usable_bytes for need, one in pairs):
                return True
    return False


def goals(model: Model, dropping: bool, devices: int) -> Iterator[Goal]:
    """All there are, the best first."""
    layers = len(model.layers)
    for dropped in range(layers + 2 if dropping else 1):
        if dropped == 0 and devices > 1:
            yield Goal(0, 0, False)
        for moved in range(max(0, layers - dropped) + 1):
            yield Goal(dropped, moved, True)


def goal_of(model: Model, found: Plan) -> Goal:
    dropped = len(model.layers) + 1 - (found.settings.gpu_layers or 0)
    piped = len(found.rooms) > 1 and not (found.settings.overrides or found.settings.n_cpu_moe)
    return Goal(
        dropped, found.moved_layers - min(dropped, len(model.layers)), not piped or dropped > 0
    )


@given(cases(), st.integers(1, 3), st.booleans())
@settings(max_examples=60, deadline=None)
def test_the_highest_floor_is_reached_as_well_as_can_be_and_then_all_context(
    case: tuple[Model, list[Room]], parallel: int, unified: bool
) -> None:
    model, there = case
    memory = Room("RAM", GIB, GIB)
    asked = Settings(parallel=parallel, unified=unified)
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

    before = Planner(model, there, memory, build=BUILD).plan(Wanted())
    if host:
        memory = larger(memory)
    else:
        there = [*there[:-1], larger(there[-1])]
    after = Planner(model, there, memory, build=BUILD).plan(Wanted())
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
    found = planner(models()["gptoss120"], 24, 24).plan(Wanted(ctx=32768))
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
