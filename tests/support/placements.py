"""All placements of small models on a few devices, one by one: what a planner is held against."""

import itertools
from collections.abc import Iterator

import msgspec
from hypothesis import strategies as st
from msgspec.structs import replace
from support.shapes import moe

from llmctl.core.memory import Device, Estimator, Model, Override, Settings
from llmctl.core.memory.planner import NO_PIPELINE, expert_override
from llmctl.core.memory.wanted import Plan, Room, most

BUILD = 11434
MIB = 1 << 20


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
    made = moe(layers=layers, gates=gates, window=draw(st.booleans()), mtp=draw(st.integers(0, 1)))
    return made, there


def tightest(model: Model, there: list[Room], wanted: Settings) -> int:
    """Bytes that are left on the fullest device in use, the first one for what the host holds
    included; negative: on some, it does not fit."""
    needs = Estimator(model, [Device(one.name) for one in there], build=BUILD).needs(wanted)[0]
    return min(
        room.usable_bytes - most(need)
        for room, need in zip(there, needs, strict=True) if most(need)
    )  # fmt: skip


def with_moved(model: Model, there: list[Room], asked: Settings, moved: tuple[int, ...]) -> int:
    """The most that can be left on the fullest device with these layers' experts on the CPU."""
    ways = [(expert_override(moved),)] if moved else [(), (NO_PIPELINE,)]
    return max(
        tightest(model, there, replace(asked, tensor_split=split, overrides=way))
        for way in ways
        for split in splits(len(model.layers) + 1, len(there))
    )


def by_trying(model: Model, there: list[Room], asked: Settings) -> tuple[int, int] | None:
    """The fewest layers whose experts have to go to the CPU, of all there are; and the bytes that
    are then left on the fullest device, at best."""
    layers = range(len(model.layers) if asked.mtp else model.trunk)
    for count in range(len(layers) + 1):
        sets = itertools.combinations(layers, count)
        room = max(with_moved(model, there, asked, one) for one in sets)
        if room >= 0:
            return count, room
    return None


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
