"""How much of a repeat is a loop: the bound depends on how long the block is, on what it is made
of, and on where it stands. docs/concepts/guard-detector.md says what each number was measured on.
"""

import enum
import re

from llmctl.core.guard.verdict import Channel

LEAST = 1024
"""No exact repeat is a loop before so many bytes, whatever it is made of."""

_WORD = re.compile(r"[^\W\d_]{2,}")
_LETTER = re.compile(r"[^\W\d_]")
_SYMBOL = re.compile(r"[^\w\s.,;:!?'()\u3001\u3002\uff01\uff0c\uff1f-]|_")
_SYMBOLS_OF_CODE = 0.06
"""Prose has fewer characters than this share that are neither letters, digits, blanks nor
punctuation of sentences; code, JSON, tables and markup have more."""
_LONGEST_MARK = 4
_LISTING = 30
"""A block of so many lines with words is not asked for four times: in 100 MB of ordinary text not
one block of 300 bytes or more stands there three times in a row."""
_CODE, _PROSE = 12288, 1408


class Stuff(enum.Enum):
    """What a block is made of."""

    BLANK = "blank"
    MARKS = "marks"
    """At most a few characters, neither letters nor digits, in one line: a rule, `?!`."""
    SYMBOLS = "symbols"
    """No words: numbers, rows of an empty table."""
    CODE = "code"
    """Words among symbols: code, JSON, tables, markup."""
    PROSE = "prose"


def stuff(block: bytes) -> Stuff:
    """What it is made of. It may begin within a character."""
    text = block.decode("utf-8", "ignore")
    if not block.strip():
        return Stuff.BLANK
    if not _WORD.search(text):
        short = len(text) <= _LONGEST_MARK and "|" not in text
        return Stuff.MARKS if short and not any(map(str.isalnum, text)) else Stuff.SYMBOLS
    symbols, letters = len(_SYMBOL.findall(text)), len(_LETTER.findall(text))
    if symbols > _SYMBOLS_OF_CODE * len(text) or 2 * letters < len("".join(text.split())):
        return Stuff.CODE
    return Stuff.PROSE


def exact_need(block: bytes, channel: Channel, *, fenced: bool) -> int:
    """From how many bytes on equal copies of `block` are a loop."""
    size = len(block)
    made_of = stuff(block)
    if made_of is Stuff.BLANK:
        return max(2048, 4 * size)
    structured = fenced or channel is Channel.TOOL
    if made_of is Stuff.MARKS:
        return 8192 if structured else 3072
    if made_of is Stuff.SYMBOLS:
        return max(16384 if structured else 8192, 6 * size)
    listing = block.count(b"\n") >= _LISTING
    if made_of is Stuff.CODE or structured:
        return max(_CODE // 3, 7 * size // 2) if listing else max(_CODE, 6 * size)
    if listing:
        return max(_PROSE, 7 * size // 2)
    need = _prose_need(size)
    return min(need, max(5600, 3 * size + 32)) if channel is Channel.REASONING else need


def _prose_need(size: int) -> int:
    """A sentence may be asked for 50 times, a text four times. From 100 characters on, a run that
    long must end before ten copies have come (what others wait for)."""
    if size < 100:
        return max(1536, 50 * size + 64)
    return max(_PROSE, 4 * size + 32)


STALE_NEED = 262144
"""The last line: a text that says nothing new for so many bytes never ends, whatever it is."""


def drift_need(block: int, channel: Channel, *, numbered: bool, listed: bool) -> int:
    """From how many bytes on copies of about `block` bytes that differ are a loop. Of prose only:
    where numbers change it may be a count that ends, and a list is as long as somebody asked for;
    in an answer all of it may be wanted, in thoughts hardly."""
    if channel is Channel.REASONING:
        most = 24576 if listed else 12288 if numbered else 6144
        return max(most, min(6 * block, 16384))
    return max(65536 if listed else 32768, 8 * block)
