"""What is a loop and what is work: tables in support/guard_cases.py, to which one can add."""

from __future__ import annotations

import pytest
from support.guard_cases import BLOCKS, DRIFTS, FOUR_TIMES, WORK, fenced, loop, prose

from llmctl.core.guard.detector import Detector
from llmctl.core.guard.verdict import Channel, Loop

BEFORE, AFTER = prose(400, 11) + "\n\n", "\n\n" + prose(400, 12)


def fed(text: str, channel: Channel) -> Detector:
    detector = Detector(channel)
    data = text.encode()
    for at in range(0, len(data), 5):
        detector.feed(data[at : at + 5])
        if detector.loop is not None:
            break
    return detector


@pytest.mark.parametrize("channel", Channel)
@pytest.mark.parametrize("name", WORK)
def test_work_is_no_loop(name: str, channel: Channel) -> None:
    for text in (WORK[name], BEFORE + WORK[name] + AFTER, fenced(WORK[name])):
        detector = fed(text, channel)
        assert detector.loop is None


@pytest.mark.parametrize("name", WORK)
def test_work_is_shown_as_soon_as_the_text_moves_on(name: str) -> None:
    detector = fed(WORK[name] + AFTER, Channel.CONTENT)
    assert detector.safe == detector.total


@pytest.mark.parametrize("channel", Channel)
@pytest.mark.parametrize("name", BLOCKS)
def test_a_loop_is_found_and_two_copies_shown(name: str, channel: Channel) -> None:
    for before in ("", BEFORE):
        detector = fed(before + loop(BLOCKS[name]), channel)
        found, size = detector.loop, len(BLOCKS[name].encode())
        assert isinstance(found, Loop)
        assert found.kind == "exact"
        assert size % found.block == 0  # the block itself may repeat something
        assert abs(found.start - len(before.encode())) <= size + 2  # what went before may be part
        assert detector.safe <= found.start + 2 * found.block


@pytest.mark.parametrize(
    ("name", "channel"),
    [
        (name, channel)
        for name, block in FOUR_TIMES.items()
        for channel in Channel
        if channel is not Channel.TOOL or 4 * len(block) > 4200  # there 4,096 bytes must come
    ],
)
def test_forty_lines_four_times_are_a_loop(name: str, channel: Channel) -> None:
    block = FOUR_TIMES[name]
    detector = fed(BEFORE + block * 4, channel)
    assert detector.loop is not None
    assert detector.loop.block == len(block)
    assert detector.safe <= detector.loop.start + 2 * len(block)


@pytest.mark.parametrize("name", DRIFTS)
def test_drift_in_thoughts_is_found(name: str) -> None:
    detector = fed(BEFORE + DRIFTS[name], Channel.REASONING)
    assert detector.loop is not None
    assert detector.loop.span <= 16384 + 2 * detector.loop.block


@pytest.mark.parametrize("name", DRIFTS)
def test_drift_in_an_answer_is_left_alone_for_long(name: str) -> None:
    text = (BEFORE + DRIFTS[name]).encode()[:16384].decode(errors="ignore")
    detector = fed(text, Channel.CONTENT)
    assert detector.loop is None
    assert detector.total - detector.safe < 400  # two equal ones in a row may have come just now
