"""The short way of the usual event of a stream: a read that is one whole chunk with whole events.

A server sends one for each token, and each wakes the proxy for itself; what is called then, no
matter how little it does, costs microseconds, since none of it is in the caches any more. So what
stays as it is while an answer streams is looked at once, when its first event has gone out, and of
the rest as little as possible is done. Whatever is unusual goes the general way.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from llmctl.proxy.head import chunk

if TYPE_CHECKING:
    from llmctl.proxy.answer import Answer
    from llmctl.proxy.sse import Events

MOST = 4102
"""Bytes of the largest chunk whose size has three digits."""
_LEAST, _NONE = 22, 262
"""Bytes of the smallest whose size has two, and how many no chunk has."""
END_OF_BOTH = b"\n\n\r\n"
"""Of an event and of its chunk."""


def is_whole_chunk(data: bytes) -> bool:
    """Is it one chunk, of whole events, as a Lane takes it?"""
    nbytes = len(data)
    size = nbytes - 6 if nbytes < _NONE else nbytes - 7
    is_one = data.startswith(b"%x\r\n" % size) and data.endswith(END_OF_BOTH)
    return is_one and _LEAST <= nbytes <= MOST and nbytes != _NONE


class Lane:
    """One answer's. write: to the client; heed: the guard may want something."""

    __slots__ = ("_answer", "_events", "_feed", "_heed", "_is_wary", "_last", "_write")

    def __init__(
        self, answer: "Answer", events: "Events", write: Callable[[bytes], None],
        heed: Callable[[], None],
    ) -> None:  # fmt: skip
        self._answer, self._events, self._write, self._heed = answer, events, write, heed
        self._last, self._is_wary = events.last.append, events.translates
        self._feed = answer.guard.feed if answer.guard is not None else None

    def take(self, data: bytes) -> bool:
        """Pass it on, if it is one whole chunk of whole events. False: nothing has been done.
        data: up to MOST bytes, before which a chunk and an event ended."""
        nbytes = len(data)
        size, at = (nbytes - 6, 4) if nbytes < _NONE else (nbytes - 7, 5)
        if not (data.startswith(b"%x\r\n" % size) and data.endswith(END_OF_BOTH)):
            return False
        if nbytes < _LEAST or nbytes == _NONE:
            return False
        event = data[at:-2]
        if self._is_wary and b"event: error" in event:
            return False
        self._last(event)
        if self._feed is not None:
            out = self._feed(event)
            if out is not event:
                self._send_instead(out)
                return True
        self._answer.sent_bytes += nbytes
        self._write(data)
        return True

    def _send_instead(self, out: bytes) -> None:
        """What the guard lets go in place of the last event."""
        self._events.sent_instead(out)
        if out:
            sent = chunk(out)
            self._answer.sent_bytes += len(sent)
            self._write(sent)
        self._heed()
