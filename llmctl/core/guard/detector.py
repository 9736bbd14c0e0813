"""Finds loops in a text while it comes. Pure.

Two questions are kept apart. The *verdict* (is it a loop?) is found at fixed positions of the text,
each 64 bytes, and looks at nothing that came after: so it is the same however the text is cut into
pieces. The *suspicion* (how much may be shown?) is found at the end of each piece: once a suffix
has stood there twice, what follows is held back while it goes on, and let go when the text does.

Both ask for runs: a run of period p is a suffix in which each byte equals the one p before it.
"""

from llmctl.core.guard.bounds import LEAST, exact_need
from llmctl.core.guard.place import Fences
from llmctl.core.guard.runs import Run, continues, runs
from llmctl.core.guard.verdict import Channel, Loop

STEP = 64
"""Bytes from one look for a verdict to the next."""
REACH = 16384
"""The longest block that is looked for, in bytes: 4,000 characters of UTF-8, whatever they are."""
_KEY = 24
"""So many bytes must stand twice to be followed up."""
_MID_STEP, _MID_KEY, _MID_REACH = 16, 8, 128
_NEAR_REACH = 24
"""Blocks up to here are looked for with each piece; longer ones each 16 bytes, as a run of period p
must be known before 2p bytes of it have come: 24 + 8 + 15 < 2 * 24; from 128 on each 64 bytes."""
_BITE = 1024
"""A long piece is taken in bites, so that memory stays bounded."""
_SLACK = 4096


class Detector:
    """One text (of one choice, in one channel), fed piece by piece.

    `safe`: so many bytes, counted from the start of the text, may be shown; it never falls.
    `total`: so many were fed. `loop`: set once it is certain; nothing is looked at after that.
    `window`: so many bytes are looked back at, at most; memory is bounded by it.
    """

    __slots__ = (
        "_base",
        "_buf",
        "_channel",
        "_check",
        "_far",
        "_fences",
        "_judged",
        "_mid",
        "_mid_at",
        "_reach",
        "_seen_far",
        "_seen_mid",
        "_wake",
        "_window",
        "loop",
        "safe",
        "total",
    )

    def __init__(self, channel: Channel, *, window: int = 65536) -> None:
        self.safe = 0
        self.total = 0
        self.loop: Loop | None = None
        self._channel = channel
        self._window = window = max(window, _SLACK)
        self._reach = min(REACH, window // 2)
        self._buf = bytearray()
        self._base = 0  # the position of the buffer's first byte
        self._wake = _MID_STEP  # the next position at which more than the nearest is looked at
        self._check = STEP
        self._far: list[Run] = []
        self._seen_far = 0
        self._mid: list[Run] = []
        self._mid_at = _MID_STEP
        self._seen_mid = 0
        self._fences = Fences()
        self._judged: tuple[Run, int] | None = None

    def feed(self, piece: bytes) -> int:
        """Take the next piece of the text, cut anywhere, and return `safe`."""
        if len(piece) > _BITE:
            for at in range(0, len(piece), _BITE):
                self.feed(piece[at : at + _BITE])
            return self.safe
        buf = self._buf
        buf += piece
        self.total = total = self.total + len(piece)
        if total >= self._wake:
            return self._look(total)
        if buf.rfind(buf[-2:], -_NEAR_REACH - 2, -1) < 0:
            self.safe = total
            return total
        return self._show(total, self._near(total))

    def _show(self, total: int, limit: int) -> int:
        if limit > self.safe:
            self.safe = min(limit, total)
        return self.safe

    def _near(self, total: int) -> int:
        """What a run of a short period leaves to be shown."""
        end = total - self._base
        found = runs(self._buf, end, key=2, reach=_NEAR_REACH)
        limits = [one.limit for one in found if end > one.limit]
        return min(limits) + self._base if limits else total

    def _look(self, total: int) -> int:
        """Everything but the usual: a verdict is due, or something is suspicious."""
        if self.loop is not None:
            self._buf.clear()
            return self.safe
        while self._check <= total:
            self._verdict(self._check)
            self._check += STEP
            if self.loop is not None:
                return self._close(self.loop)
        base, end = self._base, total - self._base
        if total >= self._mid_at:
            self._mid = [
                one.moved(base) for one in runs(self._buf, end, key=_MID_KEY, reach=_MID_REACH)
            ]
            self._seen_mid = total
            self._mid_at = total + _MID_STEP
        limit = min(self._near(total), self._held(total))
        self._sleep(total)
        return self._show(total, limit)

    def _verdict(self, at: int) -> None:
        """Look for a loop that is certain at this position, whatever came after it."""
        self._trim(at)
        base, buf = self._base, self._buf
        self._fences.look(buf, base, at)
        far = self._going(self._far, at - STEP, at)
        if not any(at > one.limit for one in far):
            known = {one.period for one in far}
            found = runs(buf, at - base, key=_KEY, reach=self._reach)
            far += [one.moved(base) for one in found if one.period not in known]
        self._far, self._seen_far = far, at
        for one in far:
            if at - one.start >= LEAST and at > one.limit and at - one.start >= self._need(one):
                self.loop = Loop("exact", one.start, one.period, at - one.start)
                return

    def _need(self, run: Run) -> int:
        """So many bytes of this run are a loop."""
        if self._judged is None or self._judged[0] != run:
            at = max(run.start, self._base) - self._base
            block = bytes(self._buf[at : at + run.period])
            need = exact_need(block, self._channel, fenced=self._fences.around(run.start))
            self._judged = run, need
        return self._judged[1]

    def _trim(self, at: int) -> None:
        """Forget what lies before the window: at fixed positions, as verdicts hang on it."""
        surplus = at - self._base - self._window
        if surplus >= _SLACK:
            del self._buf[:surplus]
            self._base += surplus

    def _held(self, total: int) -> int:
        """What the runs that are watched leave to be shown; those that ended are dropped."""
        self._mid = self._going(self._mid, self._seen_mid, total)
        self._far = far = self._going(self._far, self._seen_far, total)
        limits = [one.limit for one in (*self._mid, *far) if total > one.limit]
        return min(limits, default=total)

    def _going(self, watched: list[Run], seen: int, total: int) -> list[Run]:
        buf, base = self._buf, self._base
        return [one for one in watched if continues(buf, one.period, seen - base, total - base)]

    def _sleep(self, total: int) -> None:
        limits = [max(one.limit, total) + 1 for one in (*self._mid, *self._far)]
        self._wake = min(self._check, self._mid_at, *limits)

    def _close(self, loop: Loop) -> int:
        self._buf.clear()
        self._wake = 0
        return self._show(self.total, loop.start + 2 * loop.block)
