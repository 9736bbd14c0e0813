"""engine/tune.py, tune_end.py, tune_write.py: a sweep leaves the box as it found it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace
from support.benchworld import BenchWorld, active
from support.world import CONFIG_DIR, UNIT_DIR, Run, running_process

from llmctl.core.tuning import Point, moe_point, now_point, winner
from llmctl.core.unit import process_of
from llmctl.engine.bench import Wish
from llmctl.engine.tune import Tried, Tune
from llmctl.engine.tune_write import write_point
from llmctl.errors import HostError, NothingRunsError, ProfileError, SwitchError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

A, B, C = "llm-a.service", "llm-b.service", "llm-c.service"
TEXT = "ctx: 2048\nn_cpu_moe: 4  # by hand\ngpu_layers: all\ntensor_split: [1]\n"
PATH = f"{CONFIG_DIR}/profiles/a.yaml"


def by_experts(words: str) -> float:
    """Six layers' experts are best."""
    found = re.search(r"--n-cpu-moe (\d+)", words)
    return 50.0 - 5 * abs(int(found[1]) - 6) if found else 1.0


def made(*names: str) -> BenchWorld:
    world = BenchWorld(by_experts)
    for name in names or ("a", "b", "c"):
        world.profile(name, TEXT)
    world.apply()
    return world


def points(world: BenchWorld, *values: int) -> list[Point]:
    profile = world.box.store.profile("a")
    found = (moe_point(profile, one, 2048) for one in values or (2, 6))
    return [now_point(profile, "n_cpu_moe 4"), *found]


class Sweep:
    """What `llmctl tune a` does, without its words."""

    def __init__(self, world: BenchWorld, *values: int, **keys: Any) -> None:
        self.world = world
        wish = Wish(prompts=(64,), generate=10, runs=2, **keys)
        self.work = Tune(
            world.box, "a", points(world, *values), wish, clock=world.clock,
            report=world.notes.append,
        )  # fmt: skip
        self.found: list[Tried] = []
        self.told: str | None = None

    def run(self) -> Sweep:
        try:
            for one in self.work.run():
                self.found.append(one)
        finally:
            self.told = self.work.end()
        return self

    @property
    def best(self) -> Point | None:
        return winner([(one.point, one.record.figures) for one in self.found if one.record])


def state(world: BenchWorld) -> tuple[list[str], dict[str, str]]:
    """What runs, and all that is installed and said."""
    paths = (*world.host.paths(UNIT_DIR), *world.host.paths(CONFIG_DIR))
    return active(world), {path: world.host.text(path) for path in paths}


def same_process(world: BenchWorld, unit: str) -> bool:
    """Does it run what its file says?"""
    return running_process(world, unit) == process_of(world.host.text(f"{UNIT_DIR}/{unit}"))


# When it goes well


def test_each_point_runs_with_its_flags_and_the_fastest_wins() -> None:
    sweep = Sweep(made()).run()
    speeds = [one.record.figures.generation_per_s.median for one in sweep.found if one.record]
    assert speeds == [40, 30, 50]
    assert sweep.best is not None
    assert sweep.best.keys == {"n_cpu_moe": 6}


@pytest.mark.parametrize("before", ["a", "b", None])
def test_what_ran_before_runs_again_and_no_file_has_changed(before: str | None) -> None:
    world = made()
    if before:
        world.start(f"llm-{before}.service")
        world.clock.sleep(1)
    was = state(world)
    sweep = Sweep(world).run()
    assert state(world) == was
    assert sweep.told == (
        f"{before} runs again, as before." if before else "Nothing runs, as before."
    )
    if before:
        assert same_process(world, f"llm-{before}.service")


def test_a_profile_that_was_never_installed_leaves_no_unit() -> None:
    world = made("b")
    world.profile("a", TEXT)
    was = world.host.paths(UNIT_DIR)
    Sweep(world).run()
    assert world.host.paths(UNIT_DIR) == was


def test_a_model_that_ran_with_older_settings_runs_with_them_again() -> None:
    world = made()
    world.start(A)
    world.clock.sleep(1)
    Sweep(world, 6).run()
    running = running_process(world, A)
    world.profile("a", TEXT.replace("n_cpu_moe: 4", "n_cpu_moe: 8"))
    Sweep(world).run()
    assert running_process(world, A) == running


def test_points_that_do_not_fit_are_not_tried() -> None:
    world = made()
    sweep = Sweep(world)
    unfit = [replace(one, why_not="too large") for one in points(world)]
    wish = Wish(prompts=(64,), runs=2)
    work = Tune(world.box, "a", unfit, wish, clock=world.clock, report=print)
    assert list(work.run()) == []
    assert (work.end(), world.events) == (None, [])
    assert sweep.found == []


# When it does not


def test_a_point_that_does_not_start_is_passed_over() -> None:
    world = made()
    world.start(B)
    world.goes(A, Run(), Run(crash_s=0.1, says=("CUDA error: out of memory",)), Run())
    sweep = Sweep(world).run()
    assert [one.failure is None for one in sweep.found] == [True, False, True]
    assert active(world) == ["b"]


def test_a_point_that_dies_while_it_answers_is_passed_over() -> None:
    world = made()
    world.start(B)
    world.goes(A, Run(), Run(crash_s=5), Run())
    sweep = Sweep(world)

    def during() -> None:
        dies = len(world.asked) == 4
        world.refusal = b"" if dies else None
        if dies:
            world.clock.sleep(9)

    world.during = during
    sweep.run()
    assert [one.failure is None for one in sweep.found] == [True, False, True]
    assert active(world) == ["b"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_whatever_ends_it_what_ran_before_runs_again(error: type[BaseException]) -> None:
    world = made()
    world.start(B)
    was = state(world)

    def during() -> None:
        if len(world.asked) == 5:
            raise error

    world.during = during
    with pytest.raises(error):
        Sweep(world).run()
    assert state(world) == was


def rudely(world: BenchWorld, act: Callable[[], None]) -> Sweep:
    """Somebody does something in the midst of a measurement."""
    sweep = Sweep(world)

    def during() -> None:
        if len(world.asked) == 2:
            act()
            world.refusal = b""

    world.during = during
    with pytest.raises((HostError, SwitchError)):
        sweep.run()
    return sweep


def test_who_switches_to_another_model_meanwhile_is_not_overruled() -> None:
    world = made()
    world.start(B)
    sweep = rudely(world, lambda: world.start(C))
    assert active(world) == ["c"]
    assert sweep.told == "c was started meanwhile, and goes on."


def test_who_brings_the_earlier_model_back_is_not_overruled() -> None:
    world = made()
    world.start(B)
    sweep = rudely(world, lambda: world.start(B))
    assert active(world) == ["b"]
    assert sweep.told == "b was started meanwhile, and that stays."


def test_who_stops_the_model_meanwhile_is_not_overruled() -> None:
    world = made()
    world.start(B)
    was = state(world)[1]
    sweep = rudely(world, lambda: world.stop(A))
    assert active(world) == []
    assert sweep.told == "The model was stopped meanwhile, and that stays."
    assert state(world)[1] == was


def test_a_model_that_does_not_come_back_is_an_error() -> None:
    world = made()
    world.start(B)
    world.goes(B, Run(crash_s=0.1))
    with pytest.raises(NothingRunsError) as caught:
        Sweep(world).run()
    assert "b, which ran before, is not back" in caught.value.message
    assert caught.value.hint == "llmctl switch b"


# What it refuses


def test_others_are_not_cut_off() -> None:
    world = made()
    world.start(A)
    world.clock.sleep(1)
    world.busy = 1
    with pytest.raises(UsageError, match="A sweep would cut off others: 1 of its slots is busy"):
        Sweep(world)
    Sweep(world, force=True)  # is made


def test_a_unit_that_was_edited_by_hand_is_refused() -> None:
    world = made()
    path = f"{UNIT_DIR}/{A}"
    world.host.put(path, world.host.text(path).replace("[Service]", "[Service]\nNice=5"))
    with pytest.raises(ProfileError, match="was edited by hand"):
        Sweep(world)


# --write


def test_the_winner_is_written_and_comments_stay() -> None:
    world = made()
    point = moe_point(world.box.store.profile("a"), 6, 2048)
    assert write_point(world.box, point) == PATH
    text = world.host.text(PATH)
    assert "n_cpu_moe: 6  # by hand" in text
    assert world.box.store.profile("a").n_cpu_moe == 6


def test_a_file_that_is_written_in_another_way_is_left_alone() -> None:
    world = made()
    point = moe_point(world.box.store.profile("a"), 6, 2048)
    text = "{model: /models/a.gguf, ctx: 2048, n_cpu_moe: 4}\n"
    world.host.put(PATH, text)
    with pytest.raises(ProfileError) as caught:
        write_point(world.box, point)
    assert caught.value.hint == "Say there yourself: n_cpu_moe: 6"
    assert world.host.text(PATH) == text
