"""Finds loops in a text while it comes. Pure.

Two questions are kept apart. The *verdict* (is it a loop?) is found at fixed positions of the text,
each 64 bytes, and looks at nothing that came after: so it is the same however the text is cut into
pieces. The *suspicion* (how much may be shown?) is found at the end of each piece: once a suffix
has stood there twice, what follows is held back while it goes on, and let go when the text does.

Both ask for runs (runs.py): suffixes that repeat with a period.
"""

from llmctl.core.guard.bounds import LEAST, exact_need
from llmctl.core.guard.drift import Drift
from llmctl.core.guard.place import TICK, Fences
from llmctl.core.guard.runs import Run, goes_on, runs, third_copy
from llmctl.core.guard.verdict import Channel, Loop

STEP = 64
"""Bytes from one look for a verdict to the next."""
REACH = 16384
"""The longest block that is looked for, in bytes: 4,000 characters of UTF-8, whatever they are."""
_KEY = 24
"""So many bytes must stand twice to be followed up."""

# A run of period p must be known before 2p bytes of it have come. Blocks of up to 72 bytes are
# looked for with each piece; up to 88 (= 64 + 24) by 8 bytes each 64, as 72 + 8 + 63 < 2 * 72;
# longer ones by 24 bytes, as 88 + 24 + 63 < 2 * 88; from 1024 on each 256 bytes, and from 4096 on
# each 1024, as 1024 + 24 + 255 < 2 * 1024 and 4096 + 24 + 1023 < 2 * 4096.
_NEAR = 72
_MID, _MID_KEY = 88, 8
_FAR, _FAR_STEP = 1024, 256
_FARTHER, _FARTHER_STEP = 4096, 1024
_TAIL = 2 * _MID + 3
"""Bytes that are kept at hand: the longest block of the middle, twice."""
_SLACK = 4096
"""The buffer is cut to the window when it is so much longer."""


class Detector:
    """One text (of one choice, in one channel), fed piece by piece.

    Of copies that are equal no more than two are ever shown: safe <= start + 2 * block. Copies that
    differ are held from the third on in reasoning, or from about 500 bytes on, and else not at all.
    Where a text ends without a loop, what is held belongs to it and is to be shown.

    `safe`: so many bytes, counted from the start of the text, may be shown; it never falls.
    `total`: so many were fed. `loop`: set once it is certain; nothing is looked at after that.
    `window`: so many bytes are looked back at, at most; memory is bounded by it.
    """

    __slots__ = (
        "_base", "_buf", "_channel", "_check", "_drift", "_far", "_fences", "_judged", "_reach",
        "_tail", "_wake", "_window", "loop", "safe", "total",
    )  # fmt: skip

    def __init__(self, channel: Channel, *, window: int = 65536) -> None:
        self.safe = 0
        self.total = 0
        self.loop: Loop | None = None
        self._channel = channel
        self._window = window = max(window, _SLACK)
        self._reach = min(REACH, window // 2)
        self._tail = b""  # the last bytes; those that are not in the buffer yet are among them
        self._buf = bytearray()  # up to the last look for a verdict
        self._base = 0  # the position of its first byte
        self._wake = 0  # the next position at which more than the nearest is looked at
        self._check = STEP  # the next at which a verdict is looked for
        self._far: list[Run] = []  # watched
        self._drift = Drift(channel)
        self._fences = Fences()
        self._judged: tuple[Run, int] | None = None

    def feed(self, piece: bytes) -> int:
        """Take the next piece of the text, cut anywhere, and return `safe`."""
        # Called for each token: what is done here, and how, was measured.
        self._tail = tail = self._tail + piece
        self.total = total = self.total + len(piece)
        if total >= self._wake:
            return self._look(tail, total)
        # A third copy of up to two bytes has begun only where the last equals the last but two; of
        # more, where four bytes stood one period before.
        if tail[-1] == tail[-3] or tail.rfind(tail[-4:], -76, -1) >= 0:
            return self._show(self._near(tail, total))
        self.safe = total
        return total

    def _show(self, upto: int) -> int:
        if upto > self.safe:
            self.safe = upto
        return self.safe

    def _near(self, tail: bytes, total: int) -> int:
        """The same for the shortest, where ordinary text is told from runs at less cost."""
        key = tail[-3:]
        if key == key[:1] * 3:
            start = len(tail.rstrip(key[:1]))
            if start and not third_copy(tail, tail[start - 1 :], 1, _NEAR):
                return total - len(tail) + start + 2
        # up to a period of 6; one of 7 has 8 bytes in common
        elif not third_copy(tail, key, 1, 6) and not third_copy(tail, tail[-8:], 7, _NEAR):
            return total
        return self._close_by(tail, total, 2, _NEAR)

    def _close_by(self, tail: bytes, total: int, key: int, reach: int) -> int:
        """What the runs of short periods leave to be shown: the third copy of any is held."""
        end = least = len(tail)
        for period, start in runs(tail, end, key=key, reach=reach):
            third = start + 2 * period
            if period > _NEAR:  # not looked for with each piece: the next look is when it matters
                self._wake = min(self._wake, total + 1 + max(third - end, 0))
            if third >= end:
                continue
            if start or total == end:
                least = min(least, third)
            else:  # it began before the tail, and is held since then
                return self.safe
        return total - end + least

    def _look(self, tail: bytes, total: int) -> int:
        """Everything but the usual: a verdict is due, or something is suspicious."""
        if total >= self._check:
            if self.loop is not None:
                self._tail = b""
                return self.safe
            loop = self._read(tail, total)
            if loop is not None:
                return self._stop(loop)
            self._tail = tail = tail[-_TAIL:]
        self._wake = self._check if total > 2 else 0
        upto = self._watched(tail, total) if self._far or self._drift.hold >= 0 else total
        if upto <= self.safe:
            return self.safe
        key = tail[-3:]
        if tail.rfind(key, -_NEAR - 3, -1) >= 0 or key == key[:1] * 3:
            upto = min(upto, self._near(tail, total))
        if tail.rfind(tail[-_MID_KEY:], -_MID - _MID_KEY, -1) >= 0:
            upto = min(upto, self._close_by(tail, total, _MID_KEY, _MID))
        return self._show(upto)

    def _watched(self, tail: bytes, total: int) -> int:
        """What the runs that are watched, and what drifts, leave to be shown; runs that ended are
        dropped."""
        new = tail[self._base + len(self._buf) - total + len(tail) :]
        self._far = [one for one in self._far if goes_on(self._buf, one[0], new)]
        thirds = [start + 2 * period for period, start in self._far]
        if self._drift.hold >= 0:
            thirds.append(self._drift.hold)
        upto = total
        for third in thirds:
            if total > third:
                upto = min(upto, third)
            self._wake = min(self._wake, max(third, total) + 1)
        return upto

    def _read(self, tail: bytes, total: int) -> Loop | None:
        """Take what came into the buffer, and look for a verdict where one is due."""
        buf = self._buf
        while (at := self._check) <= total:
            first = len(tail) - total
            new = tail[first + self._base + len(buf) : first + at]
            self._check = at + STEP
            if self._far:
                self._far = [one for one in self._far if goes_on(buf, one[0], new)]
            buf += new
            if TICK in new:
                self._fences.look(buf, self._base, at)
            if at - self._base >= self._window + _SLACK:
                self._base = at - self._window
                del buf[: -self._window]
            reach = _FAR
            if not at % _FAR_STEP:
                reach = min(_FARTHER, self._reach) if at % _FARTHER_STEP else self._reach
            if self._far or buf.rfind(buf[-_KEY:], -reach - _KEY, -1) >= 0:
                loop = self._verdict(at, reach)
                if loop is not None:
                    return loop
            if not at % self._drift.step:
                loop = self._drift.look(buf, at, self._fences)
                if loop is not None:
                    return loop
        return None

    def _verdict(self, at: int, reach: int) -> Loop | None:
        """A loop that is certain at this position, whatever came after it."""
        base, far = self._base, self._far
        if not any(at > start + 2 * period for period, start in far):
            known = {period for period, _ in far}
            found = runs(self._buf, at - base, key=_KEY, reach=reach)
            far += [
                (period, start + base)
                for period, start in found
                if period not in known and (period > _FAR or start + 2 * period < at - base + STEP)
            ]  # of the others, there is time to find them again
        for period, start in far:
            span = at - start
            if span >= LEAST and span > 2 * period and span >= self._need((period, start)):
                first = start + self._within(start, period)
                return Loop("exact", first, period, at - first)
        return None

    def _within(self, start: int, period: int) -> int:
        """By how many bytes a run begins within a character: what went before may end as the copy
        does, in a byte but not in a character."""
        at = start - self._base
        at += -(at // period) * period if at < 0 else 0
        size = 0
        while size < 3 and self._buf[at + size] & 0xC0 == 0x80:
            size += 1
        return size

    def _need(self, run: Run) -> int:
        """So many bytes of this run are a loop."""
        if self._judged is None or self._judged[0] != run:
            at = max(run[1], self._base) - self._base
            block = bytes(self._buf[at : at + run[0]])
            need = exact_need(block, self._channel, fenced=self._fences.around(run[1]))
            self._judged = run, need
        return self._judged[1]

    def _stop(self, loop: Loop) -> int:
        self.loop = loop
        self._buf = bytearray()
        self._tail = b""
        self._far = []
        self._wake = self._check = 0
        return self._show(loop.start + 2 * loop.block)
