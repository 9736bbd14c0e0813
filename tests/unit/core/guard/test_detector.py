"""llmctl/core/guard/detector.py: the same verdict however the text is cut, and early suspicion."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmctl.core.guard.detector import Detector
from llmctl.core.guard.verdict import Channel, Loop

WORDS = (
    "the of and a to in is you that it he was for on are as with his they at be this have from or "
    "one had by word but not what all were we when your can said there use an each which she do how"
).split()


def prose(size: int, seed: int) -> bytes:
    """So many bytes of words in no order: nothing in it is a loop."""
    draw = random.Random(seed)
    text = ""
    while len(text) < size:
        text += " ".join(draw.choices(WORDS, k=9)).capitalize() + ". "
    return text.encode()[:size]


def cut(text: bytes, at: list[int]) -> list[bytes]:
    edges = [0, *sorted(at), len(text)]
    return [text[a:b] for a, b in pairwise(edges)]


def told(pieces: list[bytes], channel: Channel = Channel.CONTENT) -> tuple[Loop | None, int]:
    detector = Detector(channel)
    for piece in pieces:
        detector.feed(piece)
    return detector.loop, detector.safe


@pytest.mark.parametrize("size", [1, 2, 3, 7, 10, 24, 50, 99, 100, 300, 1000, 4000])
@pytest.mark.parametrize("step", [1, 3, 4, 64, 5000])
def test_of_a_loop_at_most_two_copies_are_shown(size: int, step: int) -> None:
    block = prose(size, size) if size > 10 else b"!?-+abcdef"[:size]
    start = prose(777, 5) + b"\n"
    text = start + block * (60_000 // size)
    detector = Detector(Channel.CONTENT)
    for at in range(0, len(text), step):
        detector.feed(text[at : at + step])
        assert detector.safe <= len(start) + 2 * size
    assert detector.loop is not None
    assert detector.loop.block == size
    assert abs(detector.loop.start - len(start)) <= size
    assert detector.safe <= detector.loop.start + 2 * detector.loop.block


LOOPS = st.builds(
    lambda start, block, copies, end: (start + block * copies + end).encode(),
    st.text(max_size=40), st.text(min_size=1, max_size=30), st.integers(1, 400), st.text(max_size=9)
)  # fmt: skip


@given(LOOPS, st.lists(st.integers(0, 4000), max_size=30))
def test_the_verdict_is_the_same_for_every_cut(text: bytes, at: list[int]) -> None:
    whole, _ = told([text])
    assert told([text[i : i + 1] for i in range(len(text))])[0] == whole
    assert told(cut(text, [one for one in at if one < len(text)]))[0] == whole
