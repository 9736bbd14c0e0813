"""A detector that knows a block: what it holds back of a text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from llmctl.proxy.guard.known import Knowing

if TYPE_CHECKING:
    from llmctl.core.guard.verdict import Loop


class Easy:
    """Nothing is suspicious to it."""

    loop: Loop | None = None
    safe = 0

    def feed(self, piece: bytes) -> int:
        self.safe += len(piece)
        return self.safe


def run(text: bytes, block: bytes) -> int:
    """How much of a text's end stands at the beginning of endless copies of the block, naively."""
    endless = block * (len(text) // len(block) + 1)
    return next(n for n in range(len(text), -1, -1) if text[len(text) - n :] == endless[:n])


@given(st.lists(st.sampled_from([b"a", b"b", b"ab", b"aab"]), max_size=40), st.sampled_from(
    [b"a", b"ab", b"aab", b"abaab", b"aabaaab"]))  # fmt: skip
def test_what_repeats_the_block_is_held(pieces: list[bytes], block: bytes) -> None:
    knowing, text, most = Knowing(Easy(), block), b"", 0
    for piece in pieces:
        text += piece
        most = max(most, len(text) - run(text, block))
        assert knowing.feed(piece) == most
