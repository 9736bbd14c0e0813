"""What is said of a plan that does not fit: it can be typed, and then it fits."""

import itertools
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from support.oracle import models
from support.shapes import moe

from llmctl.core.memory import Model, Settings
from llmctl.core.memory.advice import advised, shortage
from llmctl.core.memory.planner import Planner
from llmctl.core.memory.wanted import Room, Wanted

GIB, MIB = 1 << 30, 1 << 20
BUILD = 11434


def planner(model: Model, sizes: list[int], ram: int | None) -> Planner:
    """Devices, and the host, of so many MiB."""
    there = [Room(f"CUDA{n}", one * MIB, one * MIB) for n, one in enumerate(sizes)]
    memory = None if ram is None else Room("RAM", ram * MIB, ram * MIB)
    return Planner(model, there, memory, build=BUILD)


def typed(wanted: Wanted, remedy: str) -> Wanted:
    """As a profile with these keys would have it, and the memory that is said to be lacking."""
    for part in remedy.split(", "):
        if part.endswith(" GiB more"):
            continue
        key, _, value = part.partition(": ")
        number = None if value == "auto" else int(value) if value.isdigit() else value
        more: dict[str, Any] = {key: number}
        if key == "kv":
            more = {"type_k": value, "type_v": value}
        if key == "gpu_layers":
            more["all_layers"] = False
        if key in ("kv", "parallel", "ubatch"):
            wanted = replace(wanted, settings=replace(wanted.settings, **more))
        else:
            assert key in ("ctx", "gpu_layers", "n_cpu_moe", "tensor_split"), remedy
            wanted = replace(wanted, **more)
    return wanted


def with_more(made: Planner, remedy: str) -> Planner:
    """The same with the memory that is said to be lacking."""
    rooms = {room.name: room for room in (*made.rooms, *([made.ram] if made.ram else []))}
    for part in remedy.split(", "):
        if part.endswith(" GiB more"):
            name, amount, *_ = part.replace(":", "").split()
            added = int(float(amount) * GIB)
            old = rooms[name]
            rooms[name] = replace(
                old, total_bytes=old.total_bytes + added, free_bytes=old.free_bytes + added
            )
    there = [rooms[room.name] for room in made.rooms]
    return Planner(made.model, there, rooms.get("RAM"), build=BUILD)


@st.composite
def requests(draw: st.DrawFn) -> tuple[Planner, Wanted]:
    """Requests that often ask too much."""
    layers = draw(st.integers(2, 6))
    gates = draw(st.sampled_from([None, [20] * 6, [60, 50, 40, 30, 20, 10]]))
    sizes = draw(st.lists(st.integers(0, 500), max_size=3))
    ram = draw(st.none() | st.integers(5, 800))
    made = planner(moe(layers=layers, gates=gates, window=draw(st.booleans())), sizes, ram)
    split = draw(st.none() | st.just((1,) * len(sizes))) if len(sizes) > 1 else None
    asked = Wanted(
        settings=Settings(
            parallel=draw(st.sampled_from([1, 2, 4])), unified=draw(st.booleans()),
            flash_attn=draw(st.booleans()), ubatch=draw(st.sampled_from([512, 2048])),
        ),
        ctx=draw(st.none() | st.integers(1, 128).map(lambda n: 256 * n)),
        n_cpu_moe=draw(st.none() | st.integers(0, layers)),
        gpu_layers=draw(st.none() | st.integers(0, layers + 1)),
        all_layers=draw(st.booleans()), tensor_split=split,
    )  # fmt: skip
    return made, asked


@given(requests())
@settings(max_examples=100, deadline=None)
def test_every_remedy_fits_when_it_is_typed(case: tuple[Planner, Wanted]) -> None:
    made, asked = case
    found = advised(made, asked)
    assert bool(found.remedies) == (not found.fits)
    assert len(set(found.remedies)) == len(found.remedies) <= 3
    for remedy in found.remedies:
        if "GiB more" not in remedy:
            assert made.plan(typed(asked, remedy)).fits, remedy
        else:
            assert len(found.remedies) == 1
            assert with_more(made, remedy).plan(typed(asked, remedy)).fits, remedy


@given(requests())
@settings(max_examples=100, deadline=None)
def test_where_something_fits_it_is_said(case: tuple[Planner, Wanted]) -> None:
    """With nothing given, and with everything smaller: if that fits, memory is not lacking."""
    made, asked = case
    smallest = least(asked.settings)
    can_fit = any(made.plan(Wanted(settings=one)).fits for one in (asked.settings, smallest))
    said = advised(made, asked).remedies
    assert not (can_fit and any("GiB more" in one for one in said))


def least(asked: Settings) -> Settings:
    return replace(asked, parallel=1, ubatch=min(asked.ubatch, 128))


def test_three_are_said_the_nearest_first() -> None:
    """The experts of 10 layers to the CPU before 9 whole ones, and no less context."""
    q4 = Settings(type_k="q4_0", type_v="q4_0")
    made = planner(models()["qwen3_30b"], [16281], None)
    found = advised(made, Wanted(settings=q4, ctx=98304, n_cpu_moe=0))
    assert not found.fits
    assert len(found.remedies) == 3
    assert found.remedies[0] == "n_cpu_moe: 10"
    assert "gpu_layers: 40" in found.remedies
    assert "CUDA0 needs " in shortage(found)


def test_smaller_types_of_k_and_v_come_before_half_the_context() -> None:
    found = advised(
        planner(models()["llama31_8b"], [12288], None), Wanted(ctx=90112, gpu_layers=33)
    )
    assert found.remedies[0] == "kv: q8_0"
    assert any(one.startswith("ctx: ") for one in found.remedies)
    assert (found.settings.type_k, found.settings.type_v) == ("f16", "f16")


def test_types_that_the_model_cannot_have_are_not_said() -> None:
    """No flash attention, no quantized V."""
    plain = Settings(flash_attn=False)
    found = advised(
        planner(models()["llama31_8b"], [12288], None), Wanted(settings=plain, ctx=65536)
    )
    said = (*found.remedies, *found.offers)
    assert not any("kv: " in one for one in said)


def test_what_is_too_big_for_the_box_is_told_how_much_is_lacking() -> None:
    made = planner(models()["llama33_70b"], [8192], 16384)
    (said,) = advised(made, Wanted(ctx=32768)).remedies
    assert said.startswith("RAM: ")
    assert with_more(made, said).plan(typed(Wanted(ctx=32768), said)).fits
    assert not with_more(made, said).plan(Wanted(ctx=32768)).fits


def test_types_of_k_and_v_that_save_no_tenth_of_what_is_lacking_are_not_said() -> None:
    """Of a small model, K and V hardly count: those asked for stay."""
    (said,) = advised(planner(moe(layers=6), [], 50), Wanted()).remedies
    assert said.startswith("RAM: 0.")
    assert "kv: " not in said


def test_a_device_without_memory_is_told_what_it_lacks() -> None:
    """llama.cpp computes on the first device even if all layers are on the CPU."""
    (said,) = advised(planner(models()["llama31_8b"], [0], 32768), Wanted()).remedies
    assert said.startswith("CUDA0: 0.")


def test_the_same_is_said_twice() -> None:
    asked = Wanted(ctx=131072, n_cpu_moe=0)
    pairs = itertools.product(["qwen3_30b", "gptoss120"], [[8192], [12288, 8192]])
    for name, sizes in pairs:
        first, second = (advised(planner(models()[name], sizes, 65536), asked) for _ in range(2))
        assert first == second
