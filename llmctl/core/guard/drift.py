"""Finds repeats with drift: a counter, a time, a letter, a word or two change from copy to copy.

First a sieve that costs little: each 64 or 128 bytes, do 16 of them stand in the text before
(digits made equal, case set aside)? While they mostly do, the text is *stale*. Only where a stale
text is prose, its words are looked at, each 512 bytes: of three words in a row (a shingle; numbers
and single letters are left out), how many stood there before, and how far back? In a loop most did,
and equally far back, whatever a few of them became. A text that only uses its words again differs
in the second: what it says again stood here and there.

All is read at fixed positions of the text: the verdict hangs on nothing else.
"""

from llmctl.core.guard.bounds import STALE_NEED, drift_need
from llmctl.core.guard.place import Fences
from llmctl.core.guard.shingles import Shingles, is_list, is_prose
from llmctl.core.guard.verdict import Channel, Loop

_SAME = bytes(
    0x30 if 0x30 <= one <= 0x39 else one + 32 if 0x41 <= one <= 0x5A else one for one in range(256)
)
_KEY = 16
_JITTER = 48
"""Looks are not taken at equal distances: of a block of 32 bytes all would be the same."""
_REACH = 4096
"""So far back the sieve looks."""
_WEIGHT = 16
"""Its memory: each look counts for one part in so many."""
_OPENS, _CLOSES = 0.4, 0.2
CHUNK = 512
_STEP = 64
_KNOWN, _ALIKE, _OLD = 0.5, 0.3, 0.8
"""Shares of a chunk's shingles. It repeats what was before if so many are known, and so many stood
equally far back; or if nearly all are known (two paragraphs in random order)."""
_PATIENCE = 2
"""Chunks in a row that do not repeat end a run."""
_RECENT, _MANY, _FEW = 0b11111, 3, 2
"""Of the last five looks, so many hits make prose suspicious, and fewer than that clear it."""
_PASSAGE = 320


class Drift:
    """What repeats with changes in one text."""

    __slots__ = (
        "_bad", "_channel", "_first", "_hits", "_lag", "_list", "_norm", "_numbered", "_onset",
        "_score", "_shingles", "_stale", "hold", "step",
    )  # fmt: skip

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self.step = _STEP if channel is Channel.REASONING else 2 * _STEP
        """Bytes from one look to the next. Only in thoughts does it hurt to be late."""
        self._norm = bytearray()
        self._score = 0.0
        self._hits = 0  # the last looks, a bit for each
        self._stale = -1  # since when the text is stale; -1: it is not
        self._onset = -1  # where the first copy of what is suspicious begins
        self._shingles: Shingles | None = None
        self._first = -1  # where the run of chunks that repeat begins
        self._bad = 0
        self._lag = 0.0  # the mean length of its copies, in bytes
        self._list = self._numbered = False
        self.hold = -1
        """What comes from here on is suspicious; -1: nothing is. Of reasoning only: an ordinary
        numbered list, held back, would be an answer that stalls."""

    def look(self, buf: bytearray, at: int, fences: Fences) -> Loop | None:
        """Take the last `step` bytes of the buffer, which ends at the position `at`."""
        norm, step = self._norm, self.step
        norm += buf[-step:].translate(_SAME)
        end = len(norm) - 29 * (at // step) % _JITTER
        found = norm.rfind(norm[max(end - _KEY, 0) : end], max(end - _REACH, 0), end - 1)
        if found >= 0:
            self._score += (1 - self._score) / _WEIGHT
            self._hits = self._hits << 1 & _RECENT | 1
        else:
            self._score -= self._score / _WEIGHT
            self._hits = self._hits << 1 & _RECENT
        if len(norm) > 4 * _REACH:
            del norm[:-_REACH]
        if self._channel is Channel.REASONING:
            self._suspect(at, end - _KEY - found if found >= 0 else 0, step)
        if self._stale >= 0 or self._score >= _OPENS:
            return self._stale_look(at, step, fences)
        return None

    def _suspect(self, at: int, lag: int, step: int) -> None:
        count = self._hits.bit_count()
        if count < _FEW and self._first < 0:
            self.hold = self._onset = -1
        elif self.hold < 0 and count >= _MANY and lag and is_prose(bytes(self._norm[-_PASSAGE:])):
            self._onset = max(at - self._hits.bit_length() * step - lag, 0)
            self.hold = self._onset + 2 * lag

    def _stale_look(self, at: int, step: int, fences: Fences) -> Loop | None:
        if self._stale < 0:
            self._stale = at - step * _WEIGHT // 2
        elif self._score < _CLOSES:
            self._stale = self._first = -1
            self._shingles = None
            return None
        if at - self._stale >= STALE_NEED:
            return Loop("endless", self._stale, at - self._stale, at - self._stale)
        if at % CHUNK or self._channel is Channel.TOOL:
            return None
        self._count(at, fenced=fences.around(at))
        return self._verdict(at)

    def _count(self, at: int, *, fenced: bool) -> None:
        """Look at the words of the last chunk."""
        chunk = bytes(self._norm[-CHUNK:])
        repeats = False
        if not fenced and is_prose(chunk):
            if self._shingles is None:
                self._shingles = Shingles()
                self._shingles.read(bytes(self._norm[-_REACH:-CHUNK]))
            seen = self._shingles.read(chunk)
            repeats = seen.known >= (_KNOWN if seen.alike >= _ALIKE else _OLD)
            if repeats:
                self._list, self._numbered = is_list(chunk), b"0" in chunk
                self._lag = seen.lag if self._first < 0 else (self._lag + seen.lag) / 2
                self._bad = 0
        if repeats and self._first < 0:
            self._first = at - CHUNK
        elif not repeats:
            self._bad += 1
            if self._bad >= _PATIENCE:
                self._first = -1

    def _verdict(self, at: int) -> Loop | None:
        if self._first < 0 or self._bad:
            return None
        block = max(round(self._lag), 1)
        numbered, listed = self._numbered, self._list
        if at - self._first < drift_need(block, self._channel, numbered=numbered, listed=listed):
            return None
        start = max(self._first - block, 0)
        if 0 <= self._onset < start:
            start = self._onset
        return Loop("drift", start, block, at - start)
