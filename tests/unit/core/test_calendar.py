"""core/calendar.py: when a clock is wrong."""

from __future__ import annotations

import pytest

from llmctl.core.calendar import EARLIEST, MOST_SKEW_S, clock_findings
from llmctl.core.finding import Grade

NOW = EARLIEST + 1000


@pytest.mark.parametrize(
    ("told", "ours", "synced", "grades"),
    [
        (f"{NOW}\n", None, "yes\n", []),
        (f"{NOW}\n", None, "", []),
        (f"{NOW}\n", None, "no\n", [Grade.ADVICE]),
        (f"{NOW}\n", NOW - MOST_SKEW_S, "yes", []),
        (f"{NOW}\n", NOW + MOST_SKEW_S + 1, "yes", [Grade.WRONG]),
        (f"{NOW}\n", NOW - MOST_SKEW_S - 1, "no", [Grade.WRONG]),
        ("86400\n", None, "no", [Grade.WRONG]),
        ("date: what?\n", NOW, "no", []),
        ("", None, "", []),
    ],
)
def test_a_clock(told: str, ours: float | None, synced: str, grades: list[Grade]) -> None:
    assert [one.grade for one in clock_findings(told, ours=ours, synced=synced)] == grades
