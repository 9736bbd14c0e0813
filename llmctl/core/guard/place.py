"""Where a passage of a text stands: in a fenced block of code, or not."""

TICK = b"`"
FENCE = 3 * TICK
_BEFORE = 64
"""A fence stands at the beginning of a line, behind blanks, list marks or quotes at most."""


class Fences:
    """Follows the code fences of Markdown. Fed with positions only, so that it is the same however
    the text came."""

    __slots__ = ("_from", "_inside", "_last")

    def __init__(self) -> None:
        self._from = 0
        self._inside = False
        self._last = 0

    def look(self, buf: bytearray, base: int, end: int) -> None:
        """Read on up to `end`; `base` is the position of the buffer's first byte."""
        at = buf.find(FENCE, max(self._from - base, 0), end - base)
        while at >= 0:
            line = buf[max(at - _BEFORE, 0) : at].rpartition(b"\n")[2]
            if not line.strip(b" \t>*-0123456789."):
                self._inside = not self._inside
                self._last = base + at
            self._from = base + at + len(FENCE)
            at = buf.find(FENCE, self._from - base, end - base)
        self._from = max(self._from, end - len(FENCE) + 1)

    def around(self, start: int) -> bool:
        """Whether what goes on from `start` to here is all inside of a fenced block."""
        return self._inside and start >= self._last
