"""shared.py: who of a pool may start, and who has to go for it."""

from __future__ import annotations

import heapq
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.shared_pool import DRAIN, MAX_WAIT, SharedPool

from llmctl.proxy.shared import KNOWN_FOR_S, SETTLES_S


def full(pool: SharedPool | None = None) -> SharedPool:
    """a and b run and are idle; c does not fit beside them."""
    pool = pool or SharedPool()
    for name in ("a", "b"):
        pool.runs(name)
    pool.told.clear()
    return pool


def test_two_that_fit_run_together_and_neither_is_restarted() -> None:
    pool = SharedPool()
    for name in "abab" * 10:
        pool.runs(name)
        pool.passes(1)
    assert pool.told == ["start a", "start b"]


def test_who_runs_is_not_kept_waiting_by_a_start() -> None:
    pool = SharedPool()
    pool.runs("a")
    pool.asks("b")
    assert pool.starting == {"b"}
    assert pool.asks("a") in pool.admitted


def test_the_longest_idle_one_goes() -> None:
    pool = full()
    pool.passes(5)
    pool.runs("a")
    waits = pool.asks("c")
    assert pool.told == ["stop b for c"]
    assert pool.gone() == ("b",)
    pool.ready("c")
    assert waits in pool.admitted
    assert pool.running == {"a", "c"}


def test_from_the_decision_on_nothing_goes_to_the_one_that_goes() -> None:
    """Who asks for it waits, and starts it again when it is its turn."""
    pool = full(SharedPool(2, a=1, b=1, c=2))
    pool.asks("c")
    assert pool.told == ["stop a,b for c"]
    late = pool.asks("a")
    assert late not in pool.admitted
    pool.gone()
    assert pool.starting == {"c"}
    pool.ready("c")
    assert late not in pool.admitted
    assert late not in pool.refused


def test_busy_ones_stay() -> None:
    pool = full()
    first, second = pool.asks("a"), pool.asks("b")
    pool.asks("c")
    pool.passes(MAX_WAIT - 1)
    assert pool.told == []
    pool.done(second)
    assert pool.told == ["stop b for c"]
    assert first in pool.admitted


def test_none_goes_where_all_that_may_go_would_not_do() -> None:
    pool = full(SharedPool(3, a=1, b=1, c=3).pins("a"))
    waits = pool.asks("c")
    assert pool.told == []
    assert pool.refused[waits] == (
        "It does not fit: it needs 3 MiB of gpu, and 2 MiB could be free. a is pinned."
    )
    assert pool.running == {"a", "b"}


def test_none_goes_where_only_the_busy_ones_would_do() -> None:
    """b alone is not enough, so b stays, too."""
    pool = full(SharedPool(2, a=1, b=1, c=2))
    under_way = pool.asks("a")
    pool.asks("c")
    pool.passes(MAX_WAIT - 1)
    assert pool.told == []
    pool.done(under_way)
    assert pool.told == ["stop a,b for c"]


def test_a_pinned_one_stays_however_long_somebody_waits() -> None:
    pool = full(SharedPool().pins("a"))
    pool.passes(3600)
    pool.runs("b")
    pool.asks("c")
    assert pool.told == ["stop b for c"]


def test_the_smallest_set_that_gives_the_room_goes() -> None:
    pool = SharedPool(8, a=1, b=2, c=4, d=5)
    for name in "abc":
        pool.runs(name)
    pool.told.clear()
    pool.asks("d")
    assert pool.told in (["stop c for d"], ["stop a,c for d"], ["stop b,c for d"])
    pool.gone()
    assert pool.starting == {"d"}


def test_a_second_one_does_not_go_before_it_has_rested() -> None:
    """c has made a go; a comes back at once, and would make b go."""
    pool = full()
    pool.runs("c")
    pool.shared.loads_s |= {"a": 10.0, "b": 10.0, "c": 10.0}
    gone, stays = (("a", "b"), ("b", "a"))["a" in pool.running]
    assert pool.told == [f"stop {gone} for c", "start c"]
    for _ in range(9):  # both are asked again and again, and idle in between
        pool.runs(stays)
        pool.runs("c")
        waits = pool.asks(gone)
        pool.passes(1)
        pool.leaves(waits)
    assert len(pool.told) == 2
    pool.asks(gone)
    pool.passes(10)
    assert pool.told[2].startswith("stop ")


def test_one_that_has_rested_may_go_at_any_time() -> None:
    """It has been idle as long as loading it again takes."""
    pool = full()
    pool.shared.loads_s |= {"a": 10.0, "b": 10.0, "c": 10.0}
    pool.runs("c")
    for _ in range(3):
        pool.passes(11)
        idle = next(iter(set("abc") - pool.running))
        pool.asks(idle)
        assert pool.told[-1].endswith(f"for {idle}")
        pool.goes_on()
        pool.goes_on()
        pool.done(max(pool.admitted))


def test_nobody_starves() -> None:
    """a and b never have nothing to do; c waits for max_wait, and for what is under way then."""
    pool = full()
    busy = {name: pool.asks(name) for name in "ab"}
    waits = pool.asks("c")
    for _ in range(int(MAX_WAIT) - 1):
        pool.passes(1)
        for name in "ab":
            after = pool.asks(name)
            pool.done(busy[name])
            busy[name] = after
    assert pool.told == []
    pool.passes(1)
    (closed,) = pool.shared.closed
    later = pool.asks(closed)
    assert later not in pool.admitted
    (other,) = {"a", "b"} - {closed}
    assert pool.asks(other) in pool.admitted
    pool.done(busy[closed])
    assert pool.told == [f"stop {closed} for c"]
    pool.gone()
    pool.ready("c")
    assert waits in pool.admitted
    assert pool.shared.closed == frozenset()


def test_nobody_starves_for_those_who_come_from_another_model() -> None:
    """Each that falls back to c keeps its place, which is before those who came for c alone."""
    pool = full()
    busy = {name: pool.asks(name) for name in "ab"}
    waits = pool.asks("c")
    for _ in range(int(MAX_WAIT)):
        pool.passes(1)
        pool.asks("c", since=pool.now)
    (closed,) = pool.shared.closed
    pool.done(busy[closed])
    pool.gone()
    pool.ready("c")
    assert waits in pool.admitted


def test_one_that_need_not_go_after_all_takes_requests_at_once() -> None:
    """The other one has nothing to do first, and goes."""
    pool = full()
    busy = {name: pool.asks(name) for name in "ab"}
    pool.asks("c")
    pool.passes(MAX_WAIT + 1)
    (closed,) = pool.shared.closed
    (other,) = {"a", "b"} - {closed}
    later = pool.asks(closed)
    assert later not in pool.admitted
    pool.done(busy[other])
    assert pool.told == [f"stop {other} for c"]
    assert later in pool.admitted
    pool.gone()
    assert pool.starting == {"c"}
    assert pool.asks(closed) in pool.admitted


def test_who_is_to_go_stays_the_same_until_it_has_gone() -> None:
    """One that has just ended its work is no longer the cheapest one. If others were chosen for
    that, it would be let in again, and none would ever be free."""
    pool = full(SharedPool(3, a=1, b=1, d=1, c=2))
    pool.runs("d")
    pool.told.clear()
    busy = {name: pool.asks(name) for name in "abd"}
    pool.asks("c")
    pool.passes(MAX_WAIT + 1)
    first, second = sorted(pool.shared.closed)
    pool.done(busy[first])
    assert pool.shared.closed == {first, second}
    assert pool.asks(first) not in pool.admitted
    pool.passes(1)
    pool.done(busy[second])
    assert pool.told == [f"stop {first},{second} for c"]


def test_what_never_ends_is_cut() -> None:
    pool = full()
    busy = {name: pool.asks(name) for name in "ab"}
    pool.asks("c")
    pool.passes(MAX_WAIT + DRAIN - 1)
    assert pool.told == []
    pool.passes(2)
    (closed,) = pool.shared.closed
    assert pool.told == [f"cut {closed}"]
    pool.passes(100)
    assert pool.told == [f"cut {closed}"]
    pool.done(busy[closed])
    assert pool.told[1:] == [f"stop {closed} for c"]


def test_who_was_kept_out_comes_in_again_when_nobody_waits_any_more() -> None:
    pool = full()
    for name in "ab":
        pool.asks(name)
    waits = pool.asks("c")
    pool.passes(MAX_WAIT + 1)
    (closed,) = pool.shared.closed
    later = pool.asks(closed)
    assert later not in pool.admitted
    pool.leaves(waits)
    assert later in pool.admitted


def test_one_that_cannot_start_yet_lets_others_go_before_it() -> None:
    """Until it has waited for long."""
    pool = SharedPool(4, a=3, b=3, c=1, d=1)
    under_way = pool.asks("a")
    pool.ready("a")
    pool.asks("b")
    pool.asks("c")
    assert pool.starting == {"c"}
    pool.ready("c")
    pool.passes(MAX_WAIT)
    pool.done(3)
    later = pool.asks("d")
    assert pool.starting == set()
    pool.done(under_way)
    pool.goes_on()
    assert pool.starting == {"b"}
    pool.ready("b")
    assert later not in pool.refused


def test_a_start_that_failed_lets_the_next_one_begin() -> None:
    pool = SharedPool()
    first, second = pool.asks("a"), pool.asks("b")
    assert pool.starting == {"a"}
    pool.fails("a")
    assert first in pool.refused
    assert pool.starting == {"b"}
    pool.ready("b")
    assert second in pool.admitted


def test_a_start_by_hand_is_waited_for() -> None:
    pool = SharedPool()
    pool.turns["b"].observed(None, "b", pool.now)
    pool.running.add("b")
    pool.asks("a")
    assert pool.starting == set()
    pool._do("b", pool.turns["b"].observed("b", None, pool.now))
    assert pool.starting == {"a"}


def test_memory_that_is_not_free_at_once_is_waited_for() -> None:
    """What has gone is gone; that its memory is not back yet makes nobody else go."""
    pool = full(SharedPool(3, a=1, b=1, c=2))
    pool.asks("c")
    (gone,) = pool.shared.evicting
    pool.lag = 1
    pool.gone()
    pool.passes(SETTLES_S - 2)
    assert pool.told == [f"stop {gone} for c"]
    pool.lag = 0
    pool.passes(KNOWN_FOR_S)
    assert pool.told == [f"stop {gone} for c", "start c"]


def test_memory_that_comes_back_a_little_later_is_used_at_once() -> None:
    """Also where nobody is left who could go: it is weighed again, not refused."""
    pool = full(SharedPool(2, a=1, b=1, c=2))
    waits = pool.asks("c")
    pool.lag = 1
    pool.gone()
    assert pool.told == ["stop a,b for c"]
    pool.lag = 0
    pool.passes(1)
    assert pool.told == ["stop a,b for c", "start c"]
    pool.ready("c")
    assert waits in pool.admitted


def test_memory_that_does_not_come_back_is_told() -> None:
    pool = full(SharedPool(2, a=1, b=1, c=2))
    waits = pool.asks("c")
    pool.lag = 1
    pool.gone()
    pool.passes(SETTLES_S - 1)
    assert waits not in pool.refused
    pool.passes(KNOWN_FOR_S)
    assert waits in pool.refused


def test_replicas_with_nothing_to_do_go_before_any_member() -> None:
    pool = full(SharedPool(3, a=2, b=1, c=1))
    pool.shared.spare = frozenset("a")
    pool.asks("c")
    assert pool.told == ["trim a"]
    pool.passes(60)
    assert pool.told == ["trim a"]
    pool.sizes["a"], pool.shared.spare, pool.shared.is_held_up = 1, frozenset(), False
    pool.shared.changed()
    pool.settle()
    assert pool.told == ["trim a", "start c"]


def test_replicas_stay_where_nothing_would_help() -> None:
    pool = full(SharedPool(2, a=1, b=1, c=3))
    pool.shared.spare = frozenset("a")
    waits = pool.asks("c")
    assert pool.told == []
    assert waits in pool.refused


def test_nothing_is_decided_while_a_replica_starts() -> None:
    pool = full()
    pool.shared.is_held_up = True
    pool.asks("c")
    pool.passes(5)
    assert pool.told == []
    pool.shared.is_held_up = False
    pool.settle()
    assert len(pool.told) == 1


def test_a_replica_that_never_comes_up_keeps_nobody_out_for_ever() -> None:
    """An earlier proxy may have started it, and so nobody gives it up."""
    pool = full()
    pool.shared.is_held_up = True
    pool.asks("c")
    pool.passes(MAX_WAIT + DRAIN - 1)
    assert pool.told == []
    pool.passes(2)
    assert len(pool.told) == 1


def test_loads_are_measured() -> None:
    pool = SharedPool()
    pool.asks("a")
    pool.passes(12)
    pool.ready("a")
    assert pool.shared.loads_s == {"a": 12.0}


class Traffic:
    """Clients that ask for models without a pause, or with one. Starts take `load` seconds, stops
    one, answers up to `answer`."""

    def __init__(self, pool: SharedPool, dice: Random, *, load: float, answer: float) -> None:
        self.pool, self.dice, self.load, self.answer = pool, dice, load, answer
        self.events: list[tuple[float, int, str, int]] = []
        self.longest = 0.0
        self.waits: dict[int, tuple[str, float]] = {}
        self._count = 0
        self._stops = self._starts = False

    def at(self, seconds: float, what: str, number: int = 0) -> None:
        self._count += 1
        heapq.heappush(self.events, (self.pool.now + seconds, self._count, what, number))

    def goes_on_until(self, end: float, pause: float) -> None:
        """clients: by model."""
        while self.events and self.events[0][0] < end:
            at, _, what, number = heapq.heappop(self.events)
            while self.pool.now < at:
                self.pool.passes(min(1.0, at - self.pool.now))
                self._look()
            if what == "done":
                self.pool.done(number)
            elif what in ("gone", "ready"):
                self._ends(what)
            else:
                self.waits[self.pool.asks(what)] = (what, self.pool.now)
            self._look(pause)

    def _ends(self, what: str) -> None:
        if what == "gone":
            self._stops = False
            self.pool.gone()
        else:
            self._starts = False
            self.pool.ready(*self.pool.starting)

    def _look(self, pause: float = 0.0) -> None:
        for ticket in [one for one in self.waits if one in self.pool.admitted]:
            name, since = self.waits.pop(ticket)
            self.longest = max(self.longest, self.pool.admitted[ticket] - since)
            seconds = self.dice.uniform(0.1, self.answer)
            self.at(seconds, "done", ticket)
            self.at(seconds + self.dice.uniform(0, pause), name)
        if self.pool.shared.evicting and not self._stops:
            self._stops = True
            self.at(1.0, "gone")
        if self.pool.starting and not self._starts:
            self._starts = True
            self.at(self.load, "ready")


@pytest.mark.parametrize("pause", [0.0, 0.5, 5.0])
def test_three_of_which_two_fit_do_not_thrash_and_do_not_starve(pause: float) -> None:
    """Two clients for each of three models, for an hour."""
    pool, hour = SharedPool(), 3600.0
    traffic = Traffic(pool, Random(3), load=8.0, answer=4.0)
    for name in "aabbcc":
        traffic.at(traffic.dice.uniform(0, 1), name)
    traffic.goes_on_until(hour, pause)
    evictions = [one for one in pool.told if one.startswith("stop")]
    assert 0 < len(evictions) <= hour / MAX_WAIT
    assert traffic.longest <= MAX_WAIT + 4.0 + 1.0 + 8.0 + 2.0
    assert not pool.refused


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    sizes=st.lists(st.integers(1, 5), min_size=2, max_size=5), capacity=st.integers(5, 9),
    seed=st.integers(0, 99), pause=st.sampled_from([0.0, 3.0, 60.0]),
)  # fmt: skip
def test_whatever_is_asked_for_is_served_within_bounds(
    sizes: list[int], capacity: int, seed: int, pause: float
) -> None:
    """The box checks that only what fits is started, one at a time, and that no busy one goes."""
    names = "abcde"[: len(sizes)]
    pool = SharedPool(capacity, **dict(zip(names, sizes, strict=True)))
    traffic = Traffic(pool, Random(seed), load=5.0, answer=6.0)
    for name in names * 2:
        traffic.at(traffic.dice.uniform(0, 1), name)
    traffic.goes_on_until(600.0, pause)
    assert not pool.refused
    one_turn = MAX_WAIT + 6.0 + 1.0 + 5.0 + 2.0
    assert traffic.longest <= one_turn * len(names)
    assert all(pool.now - since <= one_turn * len(names) for _, since in traffic.waits.values())
