"""core/slept.py: two clocks, of which one stood still."""

from __future__ import annotations

import pytest

from llmctl.core.slept import slept_before, slept_until

STAT = "77 (a) b) S " + "0 " * 18 + "{} 0 0"


@pytest.mark.parametrize(
    ("stat", "started_us", "slept"),
    [
        (STAT.format(470_000), 1_000_000_000, 3700.0),
        (STAT.format(100_000), 1_000_040_000, 0.0),  # forked just before systemd noted it
        (STAT.format(100_000), 0, None),
        ("", 1_000_000_000, None),
        (STAT.format("x"), 1_000_000_000, None),
    ],
)
def test_what_was_slept_before_a_process_began(
    stat: str, started_us: int, slept: float | None
) -> None:
    assert slept_before(stat, started_us) == slept


SHOWN = "ActiveEnterTimestamp=@1700010000\nActiveEnterTimestampMonotonic=6300000000\n"
BOOT = "cpu 1 2\nbtime 1700000000\nprocesses 7\n"


@pytest.mark.parametrize(
    ("shown", "boot", "slept"),
    [
        (SHOWN, BOOT, 3700.0),
        (SHOWN.replace("6300", "10001"), BOOT, 0.0),
        ("ActiveEnterTimestamp=\nActiveEnterTimestampMonotonic=0\n", BOOT, None),
        (SHOWN, "", None),
        ("ActiveEnterTimestamp=Sat 2026-11-21\nActiveEnterTimestampMonotonic=1\n", BOOT, None),
    ],
)
def test_what_was_slept_before_a_session_began(shown: str, boot: str, slept: float | None) -> None:
    assert slept_until(shown, boot) == slept
