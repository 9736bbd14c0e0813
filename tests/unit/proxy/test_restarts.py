"""restarts.py and hangs.py: how often a server is restarted, and who hangs at all."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from llmctl.core.state import State
from llmctl.proxy.hangs import Hangs
from llmctl.proxy.restarts import Restarts
from llmctl.proxy.routing import Served

A = Served(name="a", group="gpu", port=12340, state=State.READY, pid=1)
SILENT = replace(A, state=State.LOADING)


def test_some_restarts_within_a_while_and_no_more() -> None:
    restarts = Restarts(most=2, within=100.0)
    assert [restarts.again_in("a", now) for now in (0.0, 10.0)] == [0.0, 0.0]
    assert restarts.again_in("a", 20.0) == 80.0
    assert restarts.again_in("b", 20.0) == 0.0
    assert restarts.again_in("a", 99.0) == 1.0
    assert restarts.again_in("a", 100.0) == 0.0
    assert restarts.again_in("a", 101.0) == 9.0


def test_who_refuses_does_not_count() -> None:
    restarts = Restarts(most=1, within=100.0)
    found = [restarts.again_in("a", now) for now in (0.0, 50.0, 99.0, 100.0, 150.0)]
    assert found == [0.0, 50.0, 1.0, 0.0, 50.0]


def test_a_change_of_the_configuration_ends_it() -> None:
    restarts = Restarts(most=1)
    restarts.again_in("a", 0.0)
    restarts.clear()
    assert restarts.again_in("a", 1.0) == 0.0


# Hangs


def test_one_that_was_ready_and_fell_silent_hangs() -> None:
    hangs = Hangs()
    hangs.see(A, 0.0)
    assert [hangs.see(SILENT, now) for now in (5.0, 9.0)] == [0.0, 4.0]


def test_one_that_answered_a_start_of_ours_hangs_before_any_look_saw_it_answer() -> None:
    hangs = Hangs()
    hangs.made({"a": 1})
    assert [hangs.see(SILENT, now) for now in (5.0, 9.0)] == [0.0, 4.0]


def test_one_that_still_loads_does_not_hang() -> None:
    hangs = Hangs()
    hangs.made({"a": 1})
    assert [hangs.see(replace(SILENT, pid=2), now) for now in (5.0, 99.0)] == [0.0, 0.0]


def test_what_was_told_of_a_start_counts_once() -> None:
    """It is restarted: the process of then is gone, and its successor loads."""
    hangs = Hangs()
    hangs.made({"a": 1})
    hangs.forget("a")
    hangs.made({"a": 1})
    assert [hangs.see(SILENT, now) for now in (5.0, 9.0)] == [0.0, 0.0]


def test_a_start_that_nobody_waited_for_says_nothing() -> None:
    hangs = Hangs()
    hangs.made({"a": 0})
    assert [hangs.see(replace(SILENT, pid=0), now) for now in (5.0, 9.0)] == [0.0, 0.0]


@pytest.mark.parametrize(
    ("then", "is_odd"),
    [
        (A, False),
        (SILENT, True),
        (replace(A, pid=2), True),  # it died, and is back
        (replace(SILENT, pid=2), True),
        (replace(A, state=State.FAILED, pid=0), True),
        (replace(A, state=State.STOPPED, pid=0), False),
    ],
)
def test_what_makes_one_look_at_the_kernel(then: Served, is_odd: bool) -> None:
    hangs = Hangs()
    assert not hangs.is_odd(then), "it was never ready"
    hangs.see(A, 0.0)
    assert hangs.is_odd(then) is is_odd


def test_a_death_is_looked_into_once() -> None:
    hangs = Hangs()
    failed = replace(A, state=State.FAILED, pid=0)
    hangs.see(A, 0.0)
    found = []
    for now in (1.0, 2.0):
        found.append(hangs.is_odd(failed))
        hangs.see(failed, now)
    assert found == [True, False]
