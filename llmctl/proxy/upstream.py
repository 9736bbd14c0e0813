"""The end of the wire at a llama-server: one connection, one request at a time."""

import asyncio
from collections.abc import Callable, Iterator

from llmctl.proxy.answer_reader import AnswerReader, GarbledError, Known
from llmctl.proxy.lane import END_OF_BOTH, MOST
from llmctl.proxy.loop import at_leisure
from llmctl.proxy.receiver import Receiver, Releases
from llmctl.proxy.sockets import BUFFER
from llmctl.proxy.spool import Piece, Spool

_PIECE_LEAST = 16 << 10


def _sent(head: bytes, body: Spool) -> Iterator[Piece]:
    """A request in the pieces that are written."""
    yield head
    yield from body.pieces()


def _nowhere(data: bytes) -> None:
    """There is no connection."""


Take = Callable[[bytes], bool]
"""Gets up to MOST bytes that have come, before they are understood. True: nothing is left to do."""


class Upstream(asyncio.BufferedProtocol):
    """A connection. served: requests that it has carried, but the one for its alias. had_stream:
    was its last answer a stream? is_open: can a request be sent?"""

    __slots__ = (
        "_after", "_at_hand", "_body", "_is_full", "_keep", "_pool", "_reader", "_receiver",
        "_take", "_transport", "had_stream", "is_open", "served", "write",
    )  # fmt: skip

    def __init__(self, pool: Releases, known: Known | None = None) -> None:
        self._pool = pool
        self._receiver: Receiver | None = None
        self._transport: asyncio.Transport | None = None
        self._reader = AnswerReader(known=known)
        self.had_stream = False
        self._body: Iterator[Piece] | None = None
        self._is_full = self._keep = False
        self._take: Take | None = None
        self._after = b""
        self._at_hand: Take | None = None
        """Who gets what comes next: _take, where what came last ended with _after."""
        self.served = 0
        self.is_open = False
        self.write: Callable[[bytes], None] = _nowhere
        """Send a request that is whole, or what follows a 101."""

    # What the relay does

    def send(
        self, head: bytes, body: Spool | None, receiver: Receiver, *, is_head: bool = False,
        may_switch: bool = False, keep: bool = False,
    ) -> None:  # fmt: skip
        """Carry a request. is_head: its answer has no body, whatever it says; may_switch: it asks
        for another protocol. keep: who sends it has a further one to send, so the pool does not get
        the connection back."""
        assert self._transport is not None  # noqa: S101  # pools give out open connections
        if body is None:
            self._transport.write(head)
        elif body.is_in_memory and not self._is_full:
            self._transport.writelines([head, *body.pieces()])
        else:
            self._body = _sent(head, body)
            self._more()
        self.carries(receiver, is_head=is_head, may_switch=may_switch, keep=keep)

    def carries(
        self, receiver: Receiver, *, is_head: bool = False, may_switch: bool = False,
        keep: bool = False,
    ) -> None:  # fmt: skip
        """A request has gone out, and this one gets the answer. What the server says is read when
        this has returned."""
        self._receiver, self._keep = receiver, keep
        self.served += 1
        reader = self._reader
        if is_head or may_switch or reader.is_used:
            reader = AnswerReader(is_head=is_head, may_switch=may_switch, known=reader.known)
            self._reader = reader

    def _more(self) -> None:
        """As much of the body as the connection takes now."""
        try:
            while self._body is not None and self._transport is not None and not self._is_full:
                piece = next(self._body, None)
                if piece is None:
                    self._body = None
                else:
                    self._transport.write(piece)
        except OSError as error:
            self._lose(f"the request could not be sent: {error}")

    def hurry(self, take: Take | None, after: bytes = END_OF_BOTH) -> None:
        """What comes next of this answer goes there first, where what came before ended so, and a
        chunk with it."""
        self._take, self._after, self._at_hand = take, after, None

    def pause(self) -> None:
        """The client reads too slowly."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        """It reads again."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    @property
    def known(self) -> Known | None:
        """A head that may come again."""
        return self._reader.known

    @property
    def was_used(self) -> bool:
        """Has it carried a request before this one?"""
        return self.served > 1

    def give_back(self) -> None:
        """It was not needed after all."""
        self._pool.released(self)

    def close(self) -> None:
        """Give it up. llama-server (0.7.0) ends a stream for a closed connection at once. For a
        plain answer it looks only after a second in which none of its tasks had a result: beside
        other streams it generates to the end, for nobody."""
        self._receiver = None
        self.hurry(None)
        self._abort()

    def _abort(self) -> None:
        self.is_open = False
        if self._transport is not None:
            self._transport.abort()

    # asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  # TCP
        self._transport, self.is_open = transport, True
        self.write = transport.write
        transport.set_write_buffer_limits(high=4 * _PIECE_LEAST)

    def pause_writing(self) -> None:
        """See asyncio.Protocol."""
        self._is_full = True
        if self._receiver is not None and self._reader.is_raw:
            self._receiver.upstream_full()

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        self._is_full = False
        self._more()
        if self._receiver is not None and self._reader.is_raw:
            self._receiver.upstream_drained()

    def get_buffer(self, sizehint: int) -> memoryview:
        """See asyncio.BufferedProtocol."""
        del sizehint
        return BUFFER

    def buffer_updated(self, nbytes: int) -> None:
        """See asyncio.BufferedProtocol."""
        take = self._at_hand
        if take is not None and nbytes <= MOST and take(BUFFER[:nbytes].tobytes()):
            return
        receiver, reader, data = self._receiver, self._reader, BUFFER[:nbytes]
        if receiver is None:
            self.close()  # it speaks out of turn
        elif reader.is_raw:
            receiver.upstream_raw(bytes(data))
        else:
            self._at_hand = None
            self._read(data, receiver, reader)
            if self._take is not None and reader.is_between and bytes(data[-4:]) == self._after:
                self._at_hand = self._take

    def _read(self, data: memoryview, receiver: Receiver, reader: AnswerReader) -> None:
        had_head, wrong = reader.head is not None, ""
        try:
            reader.feed(data)
        except GarbledError as error:
            wrong = str(error)
        if not had_head and reader.head is not None:
            receiver.upstream_head(reader.head)
        if reader.is_raw:
            receiver.upstream_raw(reader.taken())
        elif had_head or reader.head is not None:
            receiver.upstream_data(reader.taken(), is_last=reader.is_whole)
        if self._receiver is not receiver:
            return  # it had enough
        if wrong:
            self._lose(wrong)
        elif reader.is_whole:
            self._finish()

    def eof_received(self) -> bool:
        """See asyncio.Protocol."""
        self.is_open = False
        if self._receiver is None:
            self._pool.ended(self)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._transport, self.is_open, self.write = None, False, _nowhere
        self._pool.lost(self)
        if self._receiver is None:
            self._reader.release()
        elif exc is None and self._reader.close():
            self._finish()
        else:
            self._lose("the connection was closed" if exc is None else f"{exc}")

    # Ends

    def _finish(self) -> None:
        receiver, self._receiver = self._receiver, None
        self.hurry(None)
        reader, pool = self._reader, self._pool
        reader.release()
        self.had_stream = reader.is_stream
        may_stay, self._body = reader.is_clean and self._has_sent_all, None
        is_spent = self.had_stream and pool.ends_streams and not self._keep
        if not may_stay:
            self._abort()
        elif not (self._keep or is_spent):
            pool.released(self)
        if receiver is not None:
            receiver.upstream_end()
        if is_spent:
            at_leisure(self._spend)
        elif self.is_open and self._reader is reader:  # for the next answer, while nobody waits
            self._reader = AnswerReader(known=reader.known)

    def _spend(self) -> None:
        """Its server has ended it by now, or will at once."""
        self._abort()
        self._pool.spent(self)

    @property
    def _has_sent_all(self) -> bool:
        """A server may answer before it has read the whole request."""
        if self._body is not None or self._transport is None or not self.is_open:
            return False
        return self._transport.get_write_buffer_size() == 0

    def _lose(self, why: str) -> None:
        receiver, self._receiver = self._receiver, None
        if self.had_stream and not self._reader.is_used:
            self._pool.crossed(self)
        self.hurry(None)
        self._reader.release()
        self._body = None
        self._abort()
        if receiver is not None:
            receiver.upstream_lost(why=why)
