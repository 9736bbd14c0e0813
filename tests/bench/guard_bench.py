"""What the guard's detector costs, how soon it is certain, and how often it is wrong; beside the
rule of the program that it follows: ten exact copies of anything at the end of the last 64 KB,
looked for each 5 seconds, at 50 and at 150 tokens per second.

    PYTHONPATH=tests:. python tests/bench/guard_bench.py [speed] [delay] [alarms]

MB=100 of ordinary text are looked through for alarms (MB=... for another size).
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from support.guard_cases import DRIFTS, WORK, prose
from support.guard_corpus import generations, tables
from support.guard_original import alarm, certain_after
from support.guard_tokens import tokens

from llmctl.core.guard.detector import Detector
from llmctl.core.guard.verdict import Channel, Loop

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SPEEDS = (50, 150)
BYTES_A_TOKEN = 4.3
SIZES = (1, 2, 10, 30, 60, 99, 100, 150, 300, 600, 1000, 1300, 2000, 3000, 4000)
ROUNDS = 200
"""Of short texts, so that some round is not disturbed on a machine that others use too."""


def ticks(speed: int) -> int:
    """Bytes between two looks of the original."""
    return round(5 * speed * BYTES_A_TOKEN)


def fastest(pieces: list[bytes], channel: Channel | None) -> float:
    """Seconds of CPU time for all of them; with no channel, of a buffer that only grows."""
    best = float("inf")
    for _ in range(ROUNDS):
        feed = Detector(channel).feed if channel else bytearray().extend
        begun = time.process_time()
        for piece in pieces:
            feed(piece)
        best = min(best, time.process_time() - begun)
    return best


def speed() -> None:
    print("text | bytes a token | ns a byte | us a token | of a bytearray.extend, ns a byte")
    standard = Path(os.__file__).parent
    texts = {
        "code (argparse.py)": (standard / "argparse.py").read_bytes(),
        "code (typing.py)": (standard / "typing.py").read_bytes(),
        "prose (made up)": prose(65536).encode(),
        "prose (GPL-3)": Path("/usr/share/common-licenses/GPL-3").read_bytes(),
        "drift (2 changed of 300)": DRIFTS["2 changed of 300 characters"].encode()[:6000],
        "a table of numbers": WORK["300 rows of a table"].encode(),
        "equal rows, held": b"|      " * 1000,
    }
    for name, text in texts.items():
        pieces = tokens(text[8192:16384] or text)
        size = sum(map(len, pieces))
        for channel in (Channel.REASONING, Channel.CONTENT):
            took, floor = fastest(pieces, channel), fastest(pieces, None)
            print(
                f"{name}, {channel.value} | {size / len(pieces):.1f} | {1e9 * took / size:.0f}"
                f" | {1e6 * took / len(pieces):.2f} | {1e9 * floor / size:.0f}"
            )


def found(text: bytes, channel: Channel) -> tuple[Loop | None, int, int]:
    """The loop, after how many bytes it was certain, and how many were shown."""
    detector = Detector(channel)
    for at in range(0, len(text), 4):
        detector.feed(text[at : at + 4])
        if detector.loop is not None:
            return detector.loop, detector.loop.start + detector.loop.span, detector.safe
    return None, len(text), detector.safe


def delay() -> None:
    """Bytes generated from the onset until the verdict; the original's is the mean over where its
    looks fall."""
    before = prose(2000, 99).encode()
    print("block | reasoning | answer | in a fence | original at 50 | at 150 | answer to it")
    for size in SIZES:
        block = b"?!"[:size] if size < 3 else prose(size, size).encode()
        repeats = block * (100_000 // size)
        here = [
            found(before + start + repeats, channel)[1] - len(before + start)
            for channel, start in (
                (Channel.REASONING, b""), (Channel.CONTENT, b""), (Channel.CONTENT, b"\n```\n"),
            )
        ]  # fmt: skip
        theirs = [certain_after(size, ticks(one)) for one in SPEEDS]
        print(
            size, *here, *(round(one) for one in theirs), f"{100 * here[1] / theirs[0]:.0f} %",
            sep=" | ",
        )  # fmt: skip
    print("\ndrift, in reasoning | certain after | shown of it | original")
    for name, text in DRIFTS.items():
        loop, certain, shown = found(before + text.encode(), Channel.REASONING)
        start = len(before)
        what = certain - start if loop else "never"
        theirs_too = any(alarm(text.encode(), ticks(one), 0) for one in SPEEDS)
        print(name, what, shown - start, "found" if theirs_too else "never", sep=" | ")


def alarms() -> None:
    most = int(float(os.environ.get("MB", "100")) * 1e6)
    print("corpus | MB | texts | reasoning | answer | tool | original at 50 | at 150 tokens/s")
    _count("files of this machine", generations(most))
    _count("tables made up", tables())
    _count("work (guard_cases.py)", ((name, text.encode()) for name, text in WORK.items()))


def _count(name: str, texts: Iterable[tuple[str, bytes]]) -> None:
    size = count = 0
    ours = dict.fromkeys(Channel, 0)
    theirs = dict.fromkeys(SPEEDS, 0)
    listed: list[str] = []
    for where, text in texts:
        size += len(text)
        count += 1
        for channel in Channel:
            for line in _alarms_of(where, text, channel):
                ours[channel] += 1
                listed.append(line)
        for one in SPEEDS:
            theirs[one] += alarm(text, ticks(one), len(where) * 997)
    print(name, f"{size / 1e6:.1f}", count, *ours.values(), *theirs.values(), sep=" | ", flush=True)
    for line in listed:
        print("   ", line)


def _alarms_of(where: str, text: bytes, channel: Channel) -> Iterator[str]:
    detector = Detector(channel)
    for at in range(0, len(text), 512):
        detector.feed(text[at : at + 512])
        if detector.loop is not None:
            loop = detector.loop
            sample = text[loop.start : loop.start + min(loop.block, 70)]
            yield f"{channel.value}: {where}: {loop} {sample!r}"
            return


if __name__ == "__main__":
    for part in sys.argv[1:] or ["speed", "delay", "alarms"]:
        {"speed": speed, "delay": delay, "alarms": alarms}[part]()
        print()
