"""Sizes of memory as people write them."""

import functools
import re

_SIZE = re.compile(r"([0-9]{1,20}(?:\.[0-9]{1,20})?) ?([KMGT]iB)", re.IGNORECASE)
_UNITS = {"kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40}

MOST_BYTES = 1 << 60
"""More than any box has."""

_FEWEST_BYTES = 1 << 20


@functools.lru_cache(maxsize=64)  # the proxy asks several times for each request
def parse_size(given: str | int) -> int:
    """`24GiB`, `15.9GiB`, `16000MiB`, or whole bytes (`17179869184`) -> bytes, rounded down.

    ValueError, with what was expected, for anything else. `24GB` and `24G` are refused, since they
    mean 24e9 bytes to some and 24 GiB to others: a difference of 1.6 GiB. So is a bare `24`.
    """
    text = str(given).strip()
    match = _SIZE.fullmatch(text)
    if match:
        size = int(float(match[1]) * _UNITS[match[2].lower()])
    elif re.fullmatch("[0-9]{1,20}", text):
        size = int(text)
        if 0 < size < _FEWEST_BYTES:
            raise ValueError(f"{text} without a unit is bytes; expected {text}GiB or {text}MiB")
    else:
        text = text if len(text) <= 40 else f"{text[:37]}..."
        raise ValueError(f'expected a size such as 24GiB, 16000MiB or whole bytes, got "{text}"')
    if size > MOST_BYTES:
        raise ValueError(f"{text} is more than any box has")
    return size
