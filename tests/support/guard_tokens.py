"""Text cut as a tokenizer would, roughly: words with the blank before them, runs of blanks, few
digits or symbols at once; 4 bytes a piece on the average."""

from __future__ import annotations

import re

_TOKEN = re.compile(
    rb"\n+[ \t]*(?=[ \t])|\n+| ?[A-Za-z]{1,6}| ?[\x80-\xff]{1,6}| ?[0-9]{1,3}"
    rb"| ?[^\sA-Za-z0-9\x80-\xff]{1,4}|\s+(?=\s)|\s",
)


def tokens(text: bytes) -> list[bytes]:
    """The pieces; together they are the text."""
    return _TOKEN.findall(text)
