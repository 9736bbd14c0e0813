"""What a further attempt says that the one before had said for ever.

A model that was interrupted may begin with other words and fall into the same loop. For a detector
that is a new one, of which two copies may be seen; but the client has two, of the attempt before.
"""

from typing import TYPE_CHECKING

from llmctl.core.guard.verdict import Loop

if TYPE_CHECKING:
    from llmctl.proxy.guard.texts import Watching


class Knowing:
    """A detector that holds back, besides, what repeats a known block from its beginning on. See
    Watching."""

    def __init__(self, detector: "Watching", block: bytes) -> None:
        self._detector = detector
        self._pattern, self._period = 2 * block, len(block)
        self._falls = _falls(self._pattern)
        self._state = self._run = self._total = 0
        self.safe = 0

    @property
    def loop(self) -> Loop | None:
        """See Watching."""
        return self._detector.loop

    def feed(self, piece: bytes) -> int:
        """See Watching."""
        for byte in piece:
            self._step(byte)
        self._total += len(piece)
        self.safe = max(self.safe, min(self._detector.feed(piece), self._total - self._run))
        return self.safe

    def _step(self, byte: int) -> None:
        """Of the text's end, how much stands at the beginning of endless copies of the block?"""
        pattern, state = self._pattern, self._state
        while state and pattern[state] != byte:
            state = self._run = self._falls[state - 1]
        if pattern[state] == byte:
            state, self._run = state + 1, self._run + 1
        self._state = self._period if state == len(pattern) else state


def _falls(pattern: bytes) -> list[int]:
    """Of each beginning, the longest shorter one that it ends with (Knuth, Morris, Pratt)."""
    found, state = [0] * len(pattern), 0
    for at in range(1, len(pattern)):
        while state and pattern[state] != pattern[at]:
            state = found[state - 1]
        state += pattern[state] == pattern[at]
        found[at] = state
    return found
