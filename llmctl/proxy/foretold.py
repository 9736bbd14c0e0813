"""How an answer begins, foretold from the last one.

A server begins each answer to the same kind of request with the same event, but for an id and a
time. So such an event goes out at once; then it is understood like any other, and what comes of
that must be what went out.
"""

from llmctl.proxy.guard.shape import VARIES
from llmctl.proxy.lane import is_whole_chunk


class Foretold:
    """One beginning: a chunk of whole events."""

    __slots__ = ("_lasting", "_nbytes")

    def __init__(self, chunk: bytes) -> None:
        self._nbytes, self._lasting = len(chunk), VARIES.sub(b"", chunk)

    @classmethod
    def of(cls, came: bytes, sent: bytes) -> "Foretold | None":
        """From what came of a server after its head, and what was sent for it to the client. None:
        it is not of that kind, or was changed."""
        return cls(came) if sent == came and is_whole_chunk(came) else None

    def is_like(self, came: bytes) -> bool:
        """Does another answer begin in the same way?"""
        return len(came) == self._nbytes and VARIES.sub(b"", came) == self._lasting
