"""proxy/wire.py: whatever both ends do, they hear the same as from asyncio's own transport."""

from __future__ import annotations

import asyncio
import itertools
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hypothesis import event, example, given, settings
from hypothesis import strategies as st
from support import ends
from support.ends import Ear, is_at_rest, joined, rounds, run

from llmctl.proxy.loop import Loop

if TYPE_CHECKING:
    from collections.abc import Sequence

MUCH = 200_000
"""More than the kernel and the limit for what waits hold."""
SENDING = ("full", "drained", "lost")
RECEIVING = ("data", "eof", "lost")
SIZES = st.sampled_from([1, 1000, MUCH])
ENDS = ("write_eof", "close", "abort")
ACTS = ("write", "pause_reading", "resume_reading")
Act = tuple[int, str, int]
"""Of which end; what; and how many bytes."""
BATCHES = st.lists(
    st.lists(
        st.tuples(
            st.integers(0, 1),
            # ends are rare, or all examples are short
            st.sampled_from([*ACTS * 4, *ENDS]), SIZES,
        ),
        min_size=1, max_size=4,
    ),
    max_size=8,
)  # fmt: skip


@dataclass(frozen=True)
class Told:
    """What one end heard. The order between what it sends and what it receives is the kernel's."""

    heard: bytes
    receiving: tuple[str, ...]
    sending: tuple[str, ...]
    errors: tuple[str, ...]


def told(ear: Ear) -> Told:
    receiving = [one for one in ear.said if one in RECEIVING]
    return Told(
        bytes(ear.heard), tuple(one for one, _ in itertools.groupby(receiving)),
        tuple(one for one in ear.said if one in SENDING), tuple(repr(one) for one in ear.errors),
    )  # fmt: skip


def do(ear: Ear, act: str, data: bytes) -> bytes:
    """What of it is written; without what asyncio's own transport does not bear, or does twice."""
    transport = ear.transport
    if ear.errors or (act == "pause_reading" and "eof" in ear.said):
        return b""
    if act == "write":
        transport.write(data)
        return data
    getattr(transport, act)()
    return b""


async def settled() -> None:
    """All that can be heard has been."""
    await rounds()
    while not is_at_rest():
        await rounds()
    await rounds()


async def played(batches: Sequence[Sequence[Act]], *, stay: tuple[bool, bool]) -> list[Told]:
    sockets = ends.unix()
    for one in sockets:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16 << 10)
    ears = [await joined(sockets[end], Ear(stays=stay[end])) for end in (0, 1)]
    written, shut, alphabet = [b"", b""], [False, False], itertools.cycle(range(1, 251))
    for batch in batches:
        for end, act, size in batch:
            if act == "write" and shut[end]:  # asyncio's raises
                continue
            if act in ENDS:  # alone: it is a reset, where the other's bytes have not been read
                await settled()
            shut[end] |= act == "write_eof"
            written[end] += do(ears[end], act, bytes([next(alphabet)]) * size)
            if act in ENDS:
                await settled()
        await settled()
    for act in ("resume_reading", "close", "abort"):  # both may wait for the other to read
        for ear in ears:
            do(ear, act, b"")
            await settled()
    for ear in ears:
        assert ear.said.count("lost") == 1
        assert ear.said.count("eof") <= 1
        assert ear.said[-1] == "lost"
        assert ear.transport.get_extra_info("socket").fileno() == -1
    for ear, other in zip(ears, reversed(written), strict=True):
        assert other.startswith(bytes(ear.heard))
    return [told(ear) for ear in ears]


@settings(max_examples=300)
@given(batches=BATCHES, stay=st.tuples(st.booleans(), st.booleans()))
@example(batches=[[(0, "write", MUCH), (0, "close", 0)]], stay=(False, False))
@example(
    batches=[[(1, "pause_reading", 0), (0, "write", MUCH)], [(1, "write", 1), (1, "close", 0)]],
    stay=(False, False),
)
@example(
    batches=[[(1, "pause_reading", 0)],
             [(0, "write", MUCH), (0, "close", 0), (1, "write", MUCH), (1, "close", 0)]],
    stay=(False, False),
)  # fmt: skip
def test_both_ends_hear_the_same(batches: list[list[Act]], stay: tuple[bool, bool]) -> None:
    found: list[list[Told]] = []

    async def test() -> None:
        found.append(await played(batches, stay=stay))

    for factory in (asyncio.SelectorEventLoop, Loop):
        run(factory, test)
    expected, got = found
    assert got == expected
    event(" ".join(sorted({*expected[0].sending, *expected[0].receiving})))
