"""When are two results of a tool the same, but for what changes by itself?"""

import re

SHORT_BYTES = 512
"""Results up to this length are compared word by word; in longer ones every sign that numbers,
times, dates and hex ids are made of is set aside, which takes a fiftieth of the time."""

_UNIT = (
    rb"(?:[nmu]s|s|m|h|d|%|[kKMGT]?i?B|(?:nano|micro|milli)?sec(?:ond)?s?|min(?:ute)?s?|hours?"
    rb"|days?|weeks?|bytes?)\b"
)
_CHANGING = re.compile(
    rb"\b(?:"
    rb"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\b"  # a UUID
    rb"|(?=[A-Za-z_-]*\d)[A-Za-z0-9_-]{16,}"  # a made-up id
    rb"|(?:0x)?(?=[a-fA-F]*\d)[0-9a-fA-F]{6,}\b"  # a hash, an address
    rb"|(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun|Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]{0,6}\b"
    rb"|[AP]M\b"
    rb")|\d+(?:[.,:/-]\d+)*(?:\s?" + _UNIT + rb")?"
)
_SIGNS = b"0123456789abcdefABCDEF-+:.,/_TZ \t"


def shape(result: bytes) -> bytes:
    """What is left of a result when digits, times, dates, durations and ids are set aside. Two
    results are alike where this is equal."""
    if len(result) > SHORT_BYTES:
        return result.translate(None, _SIGNS)
    return b" ".join(_CHANGING.sub(b"#", result).split())
