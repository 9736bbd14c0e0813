"""llmctl/core/guard/detector.py: the same verdict however the text is cut, and early suspicion."""

from __future__ import annotations

import sysconfig
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.guard_cases import DRIFTS, prose
from support.guard_corpus import files, generations, tables

from llmctl.core.guard.detector import Detector
from llmctl.core.guard.verdict import Channel, Loop


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
    block = prose(size, size).encode() if size > 10 else b"!?-+abcdef"[:size]
    start = prose(777, 5).encode() + b"\n"
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


@settings(deadline=None)
@given(LOOPS, st.lists(st.integers(0, 4000), max_size=30))
def test_the_verdict_is_the_same_for_every_cut(text: bytes, at: list[int]) -> None:
    whole, _ = told([text])
    assert told([text[i : i + 1] for i in range(len(text))])[0] == whole
    assert told(cut(text, [one for one in at if one < len(text)]))[0] == whole


TEXTS = {
    "a loop of many kinds of characters": "Ünïcode: " + "a + 😀好é. " * 90,
    "work": prose(900) + "0x00, " * 150 + prose(500, 1),
    "a loop that ends in time": prose(300) + "Again and again. " * 40 + prose(700, 2),
}


@pytest.mark.parametrize("name", TEXTS)
def test_the_verdict_is_the_same_for_a_cut_at_every_byte(name: str) -> None:
    text = TEXTS[name].encode()
    whole = told([text])[0]
    assert all(told([text[:at], text[at:]])[0] == whole for at in range(len(text)))


@pytest.mark.parametrize(
    "name", ["a counter", "1 changed of 300 characters", "a number, in Chinese"]
)
@settings(deadline=None, max_examples=15)
@given(step=st.integers(1, 900), first=st.integers(0, 900))
def test_drift_is_judged_the_same_for_every_cut(name: str, step: int, first: int) -> None:
    text = DRIFTS[name].encode()[:14_000]
    whole = told([text], Channel.REASONING)[0]
    assert whole is not None
    pieces = [text[:first], *(text[at : at + step] for at in range(first, len(text), step))]
    assert told(pieces, Channel.REASONING)[0] == whole


@settings(deadline=None)
@given(st.lists(st.binary(max_size=9) | st.sampled_from([b"  ", b"-", b"ab", b"\n"]), max_size=300))
def test_what_may_be_shown_never_falls_and_all_is_counted(pieces: list[bytes]) -> None:
    detector = Detector(Channel.CONTENT)
    shown = fed = 0
    for piece in pieces:
        fed += len(piece)
        safe = detector.feed(piece)
        assert shown <= safe == detector.safe <= detector.total == fed
        shown = safe


@pytest.mark.parametrize("before", ["©", "x\u0169", "好" * 9000 + "©"])
def test_a_loop_begins_with_a_character(before: str) -> None:
    """© and é end in the same byte."""
    text = (before + "ä wé" * 20_000).encode()
    detector = Detector(Channel.CONTENT, window=4096)
    for at in range(0, len(text), 3):
        detector.feed(text[at : at + 3])
    assert detector.loop is not None
    for place in (detector.loop.start, detector.loop.cut, detector.safe):
        text[:place].decode()  # raises where it ends within a character


def test_after_the_verdict_nothing_changes() -> None:
    detector = Detector(Channel.CONTENT)
    detector.feed(b"Again. " * 1000)
    loop, safe = detector.loop, detector.safe
    assert loop == Loop("exact", 0, 7, 1536)
    for _ in range(100):
        assert detector.feed(b"Now something else, at last. ") == safe == 14
    assert detector.loop is loop
    assert detector.total == 7000 + 2900


def memory(detector: Detector) -> int:
    """Bytes of text that it keeps."""
    return sum(
        len(part)
        for owner in (detector, detector._drift)
        for name in owner.__slots__
        if isinstance(part := getattr(owner, name), bytes | bytearray)
    )


@pytest.mark.parametrize("window", [1, 4096, 65536])
def test_memory_is_bounded_by_the_window(window: int) -> None:
    detector = Detector(Channel.REASONING, window=window)
    most = 0
    for seed in range(12):
        for piece in cut(prose(40_000, seed).encode(), list(range(0, 40_000, 37))):
            detector.feed(piece)
            most = max(most, memory(detector))
        detector.feed(prose(30_000, 100 + seed).encode())
        most = max(most, memory(detector))
    assert detector.loop is None
    assert most <= max(window, 4096) + 30_000


@pytest.mark.parametrize("window", [4096, 16384])
def test_a_small_window_finds_what_fits_into_half_of_it(window: int) -> None:
    block = prose(window // 2 - 100, 3).encode()
    detector = Detector(Channel.CONTENT, window=window)
    text = block * 10
    for at in range(0, len(text), 50):
        detector.feed(text[at : at + 50])
    assert detector.loop is not None
    assert detector.loop.block == len(block)
    assert detector.safe <= 2 * len(block)


def test_a_count_that_never_ends_is_ended_at_last() -> None:
    detector = Detector(Channel.CONTENT)
    for number in range(200_000):
        detector.feed(b"%d\n" % number)
        if detector.loop is not None:
            break
    assert detector.loop is not None
    assert detector.loop.kind == "endless"
    assert 262_144 <= detector.loop.span < 270_000


def test_ordinary_text_raises_no_alarm() -> None:
    """A slice of what the bench looks through; there all 100 MB are, and each alarm is judged."""
    count = 0
    standard = files([sysconfig.get_path("stdlib")])  # the rest differs from machine to machine
    for texts in (generations(2_000_000, standard), tables()):
        for name, text in texts:
            count += 1
            for channel in Channel:
                assert told([text], channel)[0] is None, name
    assert count > 50
