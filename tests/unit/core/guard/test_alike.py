"""core/guard/alike.py: results that differ only in what changes by itself. Add a line."""

from __future__ import annotations

import time

import pytest

from llmctl.core.guard.alike import SHORT_BYTES, shape

ALIKE = [
    ("took 999ms", "took 1.2 s"),
    ("2026-11-21T13:52:26.123Z started", "2026-12-01T03:00:07Z started"),
    ("Sat Nov 21 9:05 AM", "Tuesday December 1 10:05 PM"),
    ("900 B of 1,000 KB", "1.5 KB of 7 GiB"),
    ("1 second ago", "25 minutes ago"),
    ("id 123e4567-e89b-12d3-a456-426614174000", "id 023e4567-e89b-42d3-b456-4266141740ff"),
    ("commit deadbee1", "commit 01234567"),
    ("request req_Zk9aQwLmPx7TtUv1", "request req_00QwLmPx7TtUabc"),
    ("10 %", "9 %"),
    ("  9 files", " 10 files"),
    ("\\u001b[32mok\\u001b[0m 3", "\\u001b[32mok\\u001b[0m 4"),
]
DIFFERENT = [
    ("success", "failure"),
    ("Error: bad", "Error: ad"),
    ("no such file: a.py", "no such file: b.py"),
    ("dead", "beef"),
    ("queued", "running"),
    ("", "x"),
    ("3 passed", "3 failed"),
]


@pytest.mark.parametrize(("one", "two"), ALIKE)
def test_what_changes_by_itself_is_set_aside(one: str, two: str) -> None:
    assert shape(one.encode()) == shape(two.encode())


@pytest.mark.parametrize(("one", "two"), DIFFERENT)
def test_words_are_not(one: str, two: str) -> None:
    assert shape(one.encode()) != shape(two.encode())


LINE = "2026-11-21 10:00:{:02} worker 0x{:06x} took {}.5 ms and wrote everything to its file\n"


def long_text(number: int, word: str = "") -> bytes:
    lines = "".join(LINE.format(n % 60, n * number, n * number) for n in range(100))
    assert len(lines) > SHORT_BYTES
    return (lines + word).encode()


def test_long_results_are_compared_without_numbers() -> None:
    assert shape(long_text(1)) == shape(long_text(2))
    assert shape(long_text(1, "done")) != shape(long_text(1, "lost"))


@pytest.mark.parametrize("sign", ["a", "9", "-", "a-", "a1-", " ", "1.", "0x", "é"])
def test_no_text_takes_long(sign: str) -> None:
    """Its own CPU time; a pattern that backtracks would take minutes."""
    began = time.process_time()
    for _ in range(20):
        shape(sign.encode() * (SHORT_BYTES // len(sign.encode())))
        shape(sign.encode() * 1_000_000)
    assert time.process_time() - began < 20
