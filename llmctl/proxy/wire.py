"""A TCP connection with as little as possible between the kernel and the protocol.

asyncio's transport asks the protocol for a buffer, and runs through ten calls of Python's for each
read and write; this one through three (see Loop). In all that the proxy's protocols use of it, it
is one of asyncio's transports, so that they need not know which one they have.
"""

import asyncio
import socket
from collections.abc import Callable, Iterable
from typing import Any

from llmctl.proxy.loop import BUGS, READ, WRITE, Loop

_HIGH = 64 << 10
"""Bytes that wait to be sent, from which on the protocol is told to pause."""

Bytes = bytes | bytearray | memoryview
Pieces = Iterable[Bytes]


class Wire(asyncio.Transport):
    """A connected socket that does not block, and its protocol. The protocol's buffer is asked for
    once, and read anew with each read."""

    __slots__ = (
        "_buffer", "_descriptor", "_has_ended", "_has_eof", "_heard", "_high",
        "_is_closing", "_is_full", "_is_lost", "_loop", "_low", "_protocol", "_reads",
        "_recv_into", "_send", "_socket", "_unsent", "_watched",
    )  # fmt: skip

    def __init__(
        self, loop: Loop, connection: socket.socket, protocol: asyncio.BufferedProtocol
    ) -> None:
        super().__init__()
        self._loop, self._socket, self._protocol = loop, connection, protocol
        self._descriptor, self._watched = connection.fileno(), 0
        self._recv_into, self._send = connection.recv_into, connection.send
        self._buffer, self._heard = protocol.get_buffer(-1), protocol.buffer_updated
        self._unsent = bytearray()
        self._high, self._low = _HIGH, _HIGH // 4
        self._reads = True
        self._is_closing = self._is_full = self._is_lost = False
        self._has_eof = self._has_ended = False
        try:
            protocol.connection_made(self)
        except BUGS as error:
            self._wrong(error)
        self._watch()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """See asyncio.BaseTransport: socket, peername and sockname are known."""
        if name == "socket":
            return self._socket
        known: dict[str, Callable[[], Any]] = {
            "peername": self._socket.getpeername, "sockname": self._socket.getsockname,
        }  # fmt: skip
        try:
            return known[name]()
        except (KeyError, OSError):  # it is closed already
            return default

    # Reading

    def _watch(self) -> None:
        """For what there is to do."""
        events = (READ if self._reads else 0) | (WRITE if self._unsent else 0)
        if events != self._watched:
            self._watched = events
            ready = self._ready if events & WRITE else self._read
            self._loop.watch(self._descriptor, events, ready)

    def _ready(self, events: int) -> None:
        """Part of what was written waits. Reading comes first: it is what the other side sent
        before it went, and to write to it then is an error."""
        if events & ~WRITE and self._reads:
            self._read(events)
        if events & ~READ and self._unsent:
            self._flush()

    def _read(self, events: int) -> None:
        del events  # errors and ends are read, too
        try:
            nbytes = self._recv_into(self._buffer)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._fail(error)
            return
        try:
            if nbytes:
                self._heard(nbytes)
            else:
                self._ended()
        except BUGS as error:
            self._wrong(error)

    def _ended(self) -> None:
        """The other side sends no more."""
        if self._protocol.eof_received():
            self._reads, self._has_ended = False, True
            self._watch()
        else:
            self.close()

    def pause_reading(self) -> None:
        """See asyncio.ReadTransport."""
        self._reads = False
        self._watch()

    def resume_reading(self) -> None:
        """See asyncio.ReadTransport."""
        if not (self._is_closing or self._has_ended):
            self._reads = True
            self._watch()

    def is_reading(self) -> bool:
        """See asyncio.ReadTransport."""
        return self._reads

    # Writing

    def write(self, data: Bytes) -> None:
        """See asyncio.WriteTransport."""
        if self._is_lost or self._has_eof:
            return
        if not self._unsent:
            try:
                sent = self._send(data)
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError as error:
                self._fail(error)
                return
            if sent == len(data):
                return
            data = memoryview(data)[sent:]
        self._unsent += data
        self._watch()
        if len(self._unsent) > self._high and not self._is_full:
            self._tell(is_full=True)

    def writelines(self, list_of_data: Pieces) -> None:
        """See asyncio.WriteTransport: a head and a long body go out without being joined."""
        pieces = list(list_of_data)
        if self._unsent or self._is_lost or self._has_eof:
            self.write(b"".join(pieces))
            return
        try:
            sent = self._socket.sendmsg(pieces)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as error:
            self._fail(error)
            return
        if sent < sum(map(len, pieces)):
            self.write(memoryview(b"".join(pieces))[sent:])

    def _tell(self, *, is_full: bool) -> None:
        """The protocol. Who writes is another, as a rule: it does not hear that this one failed."""
        self._is_full = is_full
        try:
            (self._protocol.pause_writing if is_full else self._protocol.resume_writing)()
        except BUGS as error:
            self._wrong(error)

    def _flush(self) -> None:
        """As much as the kernel takes now."""
        try:
            sent = self._send(self._unsent)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._fail(error)
            return
        del self._unsent[:sent]
        if self._is_full and len(self._unsent) <= self._low:
            self._tell(is_full=False)
        if not self._unsent:
            self._is_out()

    def _is_out(self) -> None:
        """All that was written has been sent."""
        self._watch()
        if self._is_closing:
            self._end(None)
        elif self._has_eof:
            self._shut()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """See asyncio.WriteTransport."""
        self._high = _HIGH if high is None else high
        self._low = self._high // 4 if low is None else low
        if len(self._unsent) > self._high and not self._is_full:
            self._tell(is_full=True)

    def get_write_buffer_size(self) -> int:
        """See asyncio.WriteTransport."""
        return len(self._unsent)

    def can_write_eof(self) -> bool:
        """See asyncio.WriteTransport."""
        return True

    def write_eof(self) -> None:
        """See asyncio.WriteTransport."""
        if not (self._has_eof or self._is_closing):
            self._has_eof = True
            if not self._unsent:
                self._shut()

    def _shut(self) -> None:
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError as error:  # the other side is gone
            self._fail(error)

    # The end

    def is_closing(self) -> bool:
        """See asyncio.BaseTransport."""
        return self._is_closing

    def close(self) -> None:
        """See asyncio.BaseTransport: what was written is sent first."""
        if not self._is_closing:
            self._is_closing, self._reads = True, False
            self._watch()
            if not self._unsent:
                self._end(None)

    def abort(self) -> None:
        """See asyncio.WriteTransport."""
        self._fail(None)

    def _wrong(self, error: BaseException) -> None:
        """The protocol raised."""
        self._loop.call_exception_handler({
            "message": "a protocol failed", "exception": error, "transport": self,
            "protocol": self._protocol,
        })  # fmt: skip
        self._fail(error)

    def _fail(self, error: BaseException | None) -> None:
        """It ends now; what was not sent is lost."""
        if not self._is_lost:
            self._is_closing, self._reads = True, False
            self._unsent.clear()
            self._watch()
            self._end(error)

    def _end(self, error: BaseException | None) -> None:
        if not self._is_lost:
            self._is_lost = True
            self._loop.soon(lambda: self._lost(error))

    def _lost(self, error: BaseException | None) -> None:
        try:
            self._protocol.connection_lost(error)  # type: ignore[arg-type]  # as asyncio
        finally:
            self._socket.close()
