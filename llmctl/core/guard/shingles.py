"""Words, three in a row, and how far back they stood before."""

import re
from collections import Counter
from typing import NamedTuple

_WORD = re.compile(
    rb"[\xe3-\xed][\x80-\xbf]{2}|(?<![a-z0_\x80-\xff])[a-z\x80-\xff]{2,}(?![a-z0_\x80-\xff])"
)
"""A word in a text whose digits are all 0 and whose letters are small. What has a digit or a low
line in it is an id or a name, and one letter alone an enumerator: none of them is a word.
Chinese, Japanese and Korean have no blanks between words: there each character is one."""
_SENTENCE = re.compile(rb"[.?!]['\")]?[ \n]|\xe3\x80\x82|\xef\xbc[\x81\x8c\x9f]")
_ITEM = re.compile(rb"\n[ \t]*(?:[-*+>|#]|0|[a-z][.)])")
_PROSE = b"abcdefghijklmnopqrstuvwxyz" + bytes(range(0x80, 0x100)) + b" \n.,;:!?'\"-"
_FEWEST = 16
"""A passage with fewer shingles is no text of words."""
_APART = 4
"""Words by which two distances may differ and still be equal: a word more or less in each copy."""
_MOST = 4000
"""Older shingles are forgotten from twice as many on."""


class Seen(NamedTuple):
    """Of a passage: the share of its shingles that stood before, the share of those that stood
    equally far back, and how far that is in bytes."""

    known: float
    alike: float
    lag: float


class Shingles:
    """Those of a text, read passage by passage."""

    __slots__ = ("_count", "_last", "_two")

    def __init__(self) -> None:
        self._last: dict[tuple[bytes, bytes, bytes], int] = {}
        self._count = 0
        self._two: list[bytes] = []  # the last two words

    def read(self, passage: bytes) -> Seen:
        """Take the next passage, with its digits made equal and its letters small."""
        words = self._two + _WORD.findall(passage)
        last, count = self._last, self._count
        lags: Counter[int] = Counter()
        for shingle in zip(words, words[1:], words[2:], strict=False):
            count += 1
            before = last.get(shingle)
            if before is not None:
                lags[count - before] += 1
            last[shingle] = count
        fresh, self._count, self._two = count - self._count, count, words[-2:]
        if len(last) > 2 * _MOST:
            self._last = {key: at for key, at in last.items() if count - at < _MOST}
        return _seen(lags, fresh, len(passage))


def _seen(lags: "Counter[int]", fresh: int, size: int) -> Seen:
    if fresh < _FEWEST or not lags:
        return Seen(0, 0, 0)
    usual = max(lags, key=lambda lag: (lags[lag], -lag))
    alike = sum(many for lag, many in lags.items() if abs(lag - usual) <= _APART)
    return Seen(lags.total() / fresh, alike / fresh, usual * size / fresh)


def is_prose(passage: bytes) -> bool:
    """Sentences of words: nearly no symbols, no columns, not mostly numbers."""
    size = len(passage)
    numbers = passage.count(b"0")
    symbols = len(passage.translate(None, _PROSE)) - numbers
    columns = passage.count(b"  ")
    plain = symbols <= 0.04 * size and numbers <= 0.3 * size and columns <= 0.02 * size
    return plain and _SENTENCE.search(passage) is not None


def is_list(passage: bytes) -> bool:
    """Whether most of its lines begin as items of a list do: a number, a letter, a dash."""
    lines = passage.count(b"\n")
    return lines > 0 and 2 * len(_ITEM.findall(passage)) >= lines
