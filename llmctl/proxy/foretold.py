"""How an answer begins, foretold from the last one.

A server begins each answer to the same kind of request with the same bytes, but for an id and a
time. What the client got for them is known, so it goes out at once; then the bytes are understood
like any others, and what comes of that must be what went out.
"""

from llmctl.proxy.guard.shape import VARIES
from llmctl.proxy.lane import is_whole_chunk

_END = b"\r\n\r\n"


class Foretold:
    """One beginning: a head, and one chunk of whole events. given: the head that the client got."""

    __slots__ = ("_chunk", "_head", "_nbytes", "_start", "given")

    def __init__(self, head: bytes, chunk: bytes, given: bytes) -> None:
        self._head, self.given = head, given
        self._start, self._nbytes = len(head), len(head) + len(chunk)
        self._chunk = VARIES.sub(b"", chunk)

    @classmethod
    def of(cls, came: bytes, sent: bytes) -> "Foretold | None":
        """From what came of a server in its first read, and what was sent for it to the client.
        None: it is not of that kind, or was changed."""
        head, end, chunk = came.partition(_END)
        if not end or not is_whole_chunk(chunk) or not sent.endswith(_END + chunk):
            return None
        return cls(head + end, chunk, sent[: -len(chunk)])

    def sent_for(self, came: bytes) -> bytes:
        """What is to be sent for that, after the head (given); nothing: it is another beginning."""
        if len(came) != self._nbytes or not came.startswith(self._head):
            return b""
        chunk = came[self._start :]
        return chunk if VARIES.sub(b"", chunk) == self._chunk else b""
