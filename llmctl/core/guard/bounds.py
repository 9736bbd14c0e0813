"""How much of a repeat is a loop: the bound depends on how long the block is, on what it is made
of, and on where it stands. docs/concepts/guard-detector.md says what each number was measured on.
"""

import enum

from llmctl.core.guard.verdict import Channel

LEAST = 1024
"""No exact repeat is a loop before so many bytes, whatever it is made of."""

_LETTERS = bytes(range(0x41, 0x5B)) + bytes(range(0x61, 0x7B)) + bytes(range(0x80, 0x100))
_DIGITS = b"0123456789"
_BLANK = b" \t\r\n"
_PUNCTUATION = b".,;:!?'-()"
_NO_LETTER = bytes(one for one in range(256) if one not in _LETTERS)
_WORDS = bytes(one if one in _LETTERS else 0x20 for one in range(256))
_SHORTEST_WORD = 2
_SYMBOLS_OF_CODE = 0.06
"""Prose has fewer characters than this share that are neither letters, digits, blanks nor
punctuation of sentences; code, JSON, tables and markup have more."""


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
    """What it is made of."""
    if not block.strip():
        return Stuff.BLANK
    words = [one for one in block.translate(_WORDS).split() if len(one) >= _SHORTEST_WORD]
    if not words:
        plain = not block.translate(None, _NO_LETTER) and not any(one in _DIGITS for one in block)
        return Stuff.MARKS if plain and len(block) <= 4 and b"|" not in block else Stuff.SYMBOLS
    symbols = len(block.translate(None, _LETTERS + _DIGITS + _BLANK + _PUNCTUATION))
    letters = len(block.translate(None, _NO_LETTER))
    if symbols > _SYMBOLS_OF_CODE * len(block) or 2 * letters < len(block.translate(None, _BLANK)):
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
    if made_of is Stuff.CODE or structured:
        return max(12288, 6 * size)
    if channel is Channel.REASONING:
        return _reasoning_need(size)
    return _prose_need(size)


def _reasoning_need(size: int) -> int:
    """Nobody asks a model to repeat itself in its thoughts."""
    return max(LEAST, min(4 * size + 32, 4000), 3 * size + 32)


def _prose_need(size: int) -> int:
    """A sentence may be asked for 50 times, a text four times. From 100 characters on, a run that
    long must end before ten copies have come (what others wait for)."""
    if size < 100:
        return max(1536, 50 * size + 64)
    return max(1408, 4 * size + 32)


STALE_NEED = 262144
"""The last line: a text that says nothing new for so many bytes never ends, whatever it is."""


def drift_need(block: int, channel: Channel, *, listed: bool) -> int:
    """From how many bytes on copies of about `block` bytes that differ are a loop. Of prose only;
    a list may be as long as somebody asked for, in an answer much longer than in thoughts."""
    if channel is Channel.REASONING:
        return max(24576, 6 * block) if listed else max(6144, min(6 * block, 16384))
    return max(65536 if listed else 32768, 8 * block)
