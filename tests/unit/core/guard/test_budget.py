"""core/guard/budget.py: what an answer has spent."""

from __future__ import annotations

from typing import Any

import pytest

from llmctl.core.guard.budget import GRACE_TOKENS, Act, Budget
from llmctl.core.guard.settings import GuardSettings
from llmctl.core.guard.verdict import Channel

THINKS, SAYS = Channel.REASONING, Channel.CONTENT


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def budget(clock: Clock, **more: object) -> Budget:
    return Budget(GuardSettings(**more), clock)  # type: ignore[arg-type]  # as the test says


def feed(it: Budget, channel: Channel, count: int) -> list[object]:
    """The verdicts, without repetitions."""
    told: list[object] = []
    for _ in range(count):
        verdict = it.feed(channel)
        if verdict is not None and (not told or told[-1] != verdict):
            told.append(verdict)
    return told


def test_without_budgets_nothing_is_ever_spent(clock: Clock) -> None:
    it = budget(clock)
    assert feed(it, THINKS, 5000) == []
    clock.now += 1e6
    assert it.look() is None


@pytest.mark.parametrize("channel", Channel)
def test_tokens_of_every_kind_count(clock: Clock, channel: Channel) -> None:
    it = budget(clock, max_tokens=3)
    assert [it.feed(channel) is None for _ in range(3)] == [True, True, False]
    assert it.over is not None
    assert (it.over.kind, it.over.act, it.over.spent) == ("tokens", Act.STOP, 3)
    assert "3 tokens" in it.over.why


def test_time_runs_from_the_first_event(clock: Clock) -> None:
    it = budget(clock, max_time="5s")
    clock.now += 60  # it waited, and its prompt was read
    assert it.look() is None
    assert it.feed(SAYS) is None
    clock.now += 4.9
    assert it.look() is None
    clock.now += 0.1
    over = it.look()
    assert over is not None
    assert (over.kind, over.act) == ("time", Act.STOP)
    assert "5 seconds" in over.why


def test_a_further_attempt_does_not_begin_anew(clock: Clock) -> None:
    it = budget(clock, max_time="5s", max_tokens=10)
    it.begin()
    feed(it, SAYS, 6)
    it.again()
    clock.now += 3
    it.begin()
    assert feed(it, SAYS, 3) == []
    assert it.feed(SAYS) is not None
    it = budget(clock, max_time="5s")
    it.begin()
    clock.now += 3
    it.again()
    it.begin()
    clock.now += 2
    assert it.look() is not None


def test_reasoning_is_ended_natively_first(clock: Clock) -> None:
    it = budget(clock, max_reasoning_tokens=10)
    assert feed(it, SAYS, 50) == []
    assert feed(it, THINKS, 9) == []
    over = it.feed(THINKS)
    assert over is not None
    assert (over.kind, over.act, over.spent) == ("reasoning", Act.END_REASONING, 10)
    assert "10 tokens of reasoning" in over.why


def test_the_answer_after_the_reasoning_is_not_limited(clock: Clock) -> None:
    it = budget(clock, max_reasoning_tokens=10)
    feed(it, THINKS, 12)
    assert {str(one.act) for one in feed(it, SAYS, 500)} == {"Act.END_REASONING"}  # type: ignore[attr-defined]  # Over


def test_reasoning_that_goes_on_all_the_same_is_stopped(clock: Clock) -> None:
    it = budget(clock, max_reasoning_tokens=10)
    feed(it, THINKS, 10 + GRACE_TOKENS - 1)
    assert it.over is not None
    assert it.over.act is Act.END_REASONING
    over = it.feed(THINKS)
    assert over is not None
    assert over.act is Act.STOP


@pytest.mark.parametrize("native", [True, False])
def test_without_a_native_end_reasoning_is_stopped(clock: Clock, native: bool) -> None:
    it = budget(clock, max_reasoning_tokens=10, native=native)
    feed(it, THINKS, 10)
    over = it.cannot_end() if native else it.over
    assert over is not None
    assert over.act is Act.STOP


def test_that_the_end_cannot_be_asked_for_spends_nothing(clock: Clock) -> None:
    it = budget(clock, max_reasoning_tokens=10)
    feed(it, THINKS, 5)
    assert it.cannot_end() is None
    assert it.feed(THINKS) is None


def test_a_further_attempt_may_be_ended_natively_too(clock: Clock) -> None:
    it = budget(clock, max_reasoning_tokens=10)
    feed(it, THINKS, 11)
    it.again()
    assert it.over is None
    over = it.feed(THINKS)
    assert over is not None
    assert over.act is Act.END_REASONING


def test_a_stop_is_final(clock: Clock) -> None:
    it = budget(clock, max_tokens=2, max_time="1s")
    feed(it, SAYS, 2)
    first = it.over
    clock.now += 60
    assert it.look() is first
    it.again()
    assert it.feed(SAYS) is first


@pytest.mark.parametrize(
    "limit", [{"max_time": "10m"}, {"max_tokens": 1}, {"max_reasoning_tokens": 1}]
)
def test_any_budget_is_a_limit(limit: dict[str, Any]) -> None:
    assert GuardSettings(**limit).is_limited
    assert not GuardSettings().is_limited
