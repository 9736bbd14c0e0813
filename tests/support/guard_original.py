"""The rule that the guard's detector is compared with: at each look, are the last bytes of the
window ten equal blocks? It is what a Z-function over the reversed window answers; here candidates
are found by a search, and compared, which says the same and is quicker in Python."""

from __future__ import annotations

COPIES = 10
WINDOW = 65536


def loops(text: bytes) -> int:
    """The shortest block whose ten copies end the text; 0: there is none."""
    end = len(text)
    text = text[max(end - WINDOW, 0) :]
    end = len(text)
    for block in (1, 2):
        if _equal(text, end, block):
            return block
    key = text[end - 3 * (COPIES - 1) :]  # so much of the last copies stands one block earlier
    at = text.rfind(key, 0, end - 3 + 1)
    while at >= 0:
        block = end - len(key) - at
        if block * COPIES > end:
            return 0
        if block > 2 and _equal(text, end, block):
            return block
        at = text.rfind(key, 0, at + len(key) - 1)
    return 0


def _equal(text: bytes, end: int, block: int) -> bool:
    rest = (COPIES - 1) * block
    return end >= COPIES * block and text[end - rest :] == text[end - rest - block : end - block]


def alarm(text: bytes, every: int, phase: int) -> bool:
    """Whether it trips on a text that is looked at each `every` bytes, first after `phase`."""
    first = phase % every or every
    return any(loops(text[:at]) > 0 for at in range(first, len(text) + 1, every))


def certain_after(block: int, every: int) -> float:
    """Bytes from the onset of equal blocks to the look that finds them, as a mean: ten copies, and
    half of what lies between two looks."""
    return COPIES * block + every / 2
