"""Runs: suffixes of a text that repeat with a period, byte for byte."""

from typing import NamedTuple

_MOST = 8
"""More nested runs than these are not followed."""
_LONG = 512
"""Beyond so much in common, a longer match is of the same run."""


class Run(NamedTuple):
    """From `start` on, each byte equals the one `period` before it, as far as that lies within."""

    period: int
    start: int

    @property
    def limit(self) -> int:
        """Where its third copy begins."""
        return self.start + 2 * self.period

    def moved(self, by: int) -> "Run":
        """The same in another count."""
        return Run(self.period, self.start + by)


def runs(buf: bytearray, end: int, *, key: int, reach: int) -> list[Run]:
    """The runs that end at `end`, have at least `key` bytes beyond a first copy, and a period of at
    most `reach`: the nearest, then those farther away that match for longer. What is left out
    ends nearer to where it began than one of these, so its limit is no lower."""
    found: list[Run] = []
    size = key
    while len(found) < _MOST and size < end and size <= _LONG:
        at = buf.rfind(buf[end - size : end], max(end - size - reach, 0), end - 1)
        if at < 0:
            break
        period = end - size - at
        common = matching(buf, end, period, size)
        found.append(Run(period, end - period - common))
        size = common + 1
    return found


def matching(buf: bytearray, end: int, period: int, known: int) -> int:
    """How many bytes before `end` equal those `period` before them; `known` of them do."""
    most = end - period
    low, step = known, max(known, 16)
    while low < most:
        high = min(low + step, most)
        if buf[end - high : end - low] != buf[end - high - period : end - low - period]:
            break
        low, step = high, 2 * step
    else:
        return most
    return low + _common(buf, end - low, period, min(step, most - low))


def _common(buf: bytearray, end: int, period: int, differs: int) -> int:
    """The same, by halves: within `differs` bytes there is a difference."""
    low, high = 0, differs
    while high - low > 1:
        half = (low + high) // 2
        if buf[end - half : end - low] == buf[end - half - period : end - low - period]:
            low = half
        else:
            high = half
    return low


def continues(buf: bytearray, period: int, seen: int, end: int) -> bool:
    """Whether what came after `seen` goes on with that period."""
    return buf[seen:end] == buf[seen - period : end - period]
