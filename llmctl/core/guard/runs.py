"""Runs: suffixes of a text that repeat with a period, byte for byte.

A run is (period, start): from `start` on, each byte equals the one `period` after it, up to the
end of the text so far. Its third copy begins at start + 2 * period: nothing after that is shown.
"""

Run = tuple[int, int]

_MOST = 8
"""More nested runs than these are not followed."""
_LONG = 512
"""Beyond so much in common, a longer match is of the same run."""


def runs(buf: bytes | bytearray, end: int, *, key: int, reach: int) -> list[Run]:
    """The runs that end at `end`, have at least `key` bytes beyond a first copy, and a period of at
    most `reach`: the nearest, then those farther away that match for longer. One that is left out
    matches no longer than a nearer one, so its third copy begins no earlier."""
    found: list[Run] = []
    size = key
    while size < end and size <= _LONG and len(found) < _MOST:
        low = end - size - reach
        at = buf.rfind(buf[end - size : end], low if low > 0 else 0, end - 1)
        if at < 0:
            break
        period = end - size - at
        common = matching(buf, end, period, size)
        found.append((period, end - period - common))
        size = common + 1
    return found


def matching(buf: bytes | bytearray, end: int, period: int, known: int) -> int:
    """How many bytes before `end` equal those `period` before them; `known` of them do."""
    most = end - period
    low, step = known, 8
    while low < most:
        high = min(low + step, most)
        if buf[end - high : end - low] != buf[end - high - period : end - low - period]:
            return low + _common(buf, end - low, period, high - low)
        low, step = high, 4 * step
    return most


def _common(buf: bytes | bytearray, end: int, period: int, differs: int) -> int:
    """The same, where within `differs` bytes there is a difference: by halves, then one by one."""
    low, high = 0, differs
    while high - low > 8:
        half = (low + high) // 2
        if buf[end - half : end - low] == buf[end - half - period : end - low - period]:
            low = half
        else:
            high = half
    while buf[end - 1 - low] == buf[end - 1 - low - period]:
        low += 1
    return low


def goes_on(buf: bytearray, period: int, new: bytes) -> bool:
    """Whether `new`, which follows the buffer, goes on with that period."""
    if len(new) <= period:
        at = len(buf) - period
        return buf[at : at + len(new)] == new
    return buf[-period:] == new[:period] and new[period:] == new[:-period]


def third_copy(buf: bytes, key: bytes, least: int, most: int) -> bool:
    """Whether a run of a period from `least` to `most` ends the text and a third copy of it has
    begun; only runs in which `key`, the end of the text, stands one period before are looked at."""
    end, size = len(buf), len(key)
    low = end - size - most
    low, high = low if low > 0 else 0, end - least
    while (at := buf.rfind(key, low, high)) >= 0:
        period = end - size - at
        if buf[end - period - 1 :] == buf[end - 2 * period - 1 : end - period]:
            return True
        high = at + size - 1
    return False
