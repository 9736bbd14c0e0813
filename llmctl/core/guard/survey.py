"""All loops of a whole text, and what a client would have been shown of it: for people who want to
know what the guard makes of a text. Pure."""

import msgspec

from llmctl.core.guard.detector import Detector
from llmctl.core.guard.verdict import Channel, Loop

_PIECE = 4
"""Bytes of a token, about: what is held is what would be held of a stream."""
_SAMPLE = 200
_STEP = 64 << 10
"""Bytes that are compared at once, where a loop is long."""


class Sighting(msgspec.Struct, frozen=True):
    """One loop. Offsets are in bytes from the start of the text, lines count from 1."""

    loop: Loop
    line: int
    end: int
    """Where it ended, if the text went on; of copies that differ, where it was last certain."""
    shown: int
    """So many bytes of it a client would have been shown."""
    sample: str
    """The first copy, or how it begins."""

    @property
    def copies(self) -> float:
        """How many copies there are in all."""
        return (self.end - self.loop.start) / self.loop.block


class Survey(msgspec.Struct, frozen=True):
    """What is in a text."""

    sightings: tuple[Sighting, ...]
    held_most: int
    """The most bytes that were held back at once, of what turned out to be no loop."""


def survey(text: bytes, channel: Channel, *, window: int = 65536) -> Survey:
    """Look through a text. After a loop it begins anew, as if another text began there."""
    sightings: list[Sighting] = []
    start = held_most = 0
    while start < len(text):
        detector = Detector(channel, window=window)
        held = _feed(detector, text, start)
        loop = detector.loop
        if loop is None:
            held_most = max(held_most, held)
            break
        moved = msgspec.structs.replace(loop, start=start + loop.start)
        sighting = _sighting(text, moved, start + detector.safe)
        start = sighting.end
        if sightings and _same(sightings[-1], sighting):
            sighting = msgspec.structs.replace(sightings.pop(), end=sighting.end)
        sightings.append(sighting)
    return Survey(tuple(sightings), held_most)


def _same(before: Sighting, after: Sighting) -> bool:
    """Whether the second is the first that goes on: of copies that differ, no end is known."""
    if before.loop.kind == "exact" or after.loop.kind != before.loop.kind:
        return False
    return after.loop.start <= before.end + 2 * before.loop.block


def _feed(detector: Detector, text: bytes, start: int) -> int:
    """Until it is certain of a loop. The most that was held at once."""
    held = 0
    for at in range(start, len(text), _PIECE):
        safe = detector.feed(text[at : at + _PIECE])
        if detector.total - safe > held:
            held = detector.total - safe
        if detector.loop is not None:
            break
    return held


def _sighting(text: bytes, loop: Loop, shown: int) -> Sighting:
    end = loop.start + loop.span
    if loop.kind == "exact":
        before = end - loop.block
        while end + _STEP <= len(text) and text[end : end + _STEP] == text[before : before + _STEP]:
            end, before = end + _STEP, before + _STEP
        while end < len(text) and text[end] == text[end - loop.block]:
            end += 1
    block = text[loop.start : loop.start + min(loop.block, _SAMPLE)]
    line = text.count(b"\n", 0, loop.start) + 1
    shown = max(shown - loop.start, 0)
    return Sighting(loop, line, end, shown, block.decode("utf-8", "ignore"))
