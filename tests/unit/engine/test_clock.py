"""engine/clock.py, and the clock of these tests."""

from __future__ import annotations

from support.fakes import FakeClock

from llmctl.engine.clock import SystemClock


def test_the_real_clock_never_goes_back() -> None:
    clock = SystemClock()
    first = clock.now()
    clock.sleep(0)
    assert clock.now() >= first


def test_time_passes_in_sleep_only() -> None:
    clock = FakeClock()
    first = clock.now()
    clock.sleep(3)
    assert clock.now() == first + 3


def test_what_is_due_happens_on_the_way_and_in_order() -> None:
    clock = FakeClock()
    seen: list[str] = []
    clock.after(2, lambda: seen.append("second"))
    clock.after(1, lambda: seen.append("first"))
    clock.after(9, lambda: seen.append("later"))
    clock.sleep(5)
    assert seen == ["first", "second"]
