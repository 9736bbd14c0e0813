"""The line to a client: its transport, and what is done with it."""

import asyncio
from collections.abc import Callable

from llmctl.proxy.access import LOCAL, is_loopback
from llmctl.proxy.sockets import BUFFER, send_at_once, watch

_GONE = "unknown"
"""The address of a client that has gone before it was asked for."""


class Line(asyncio.BufferedProtocol):
    """A connection. peer, here: the addresses of both ends."""

    __slots__ = ("_is_closing", "_transport", "here", "peer")

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self.peer = self.here = ""
        self._is_closing = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  # a stream
        self._transport = transport
        send_at_once(transport.get_extra_info("socket"))
        self.peer = _host(transport.get_extra_info("peername"))
        self.here = _host(transport.get_extra_info("sockname"))
        if self.peer != LOCAL:
            watch(transport.get_extra_info("socket"), is_here=is_loopback(self.peer))

    def get_buffer(self, sizehint: int) -> memoryview:
        """See asyncio.BufferedProtocol."""
        del sizehint
        return BUFFER

    def send(self, data: bytes) -> None:
        """Write to the client."""
        if data and self._transport is not None:
            self._transport.write(data)

    @property
    def writer(self) -> Callable[[bytes], None] | None:
        """What writes to it, without a look whether there is anything to write; None: it has
        gone."""
        return self._transport.write if self._transport is not None else None

    def pause(self) -> None:
        """The server takes no more of the raw bytes now."""
        if self._transport is not None:
            self._transport.pause_reading()

    def resume(self) -> None:
        """It does again."""
        if self._transport is not None:
            self._transport.resume_reading()

    def close(self) -> None:
        """When what was written is out."""
        self._is_closing = True
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """At once, so that the client cannot take what it has for a whole answer."""
        self._is_closing = True
        if self._transport is not None:
            self._transport.abort()


def _host(address: object) -> str:
    """Of what the kernel says of a socket; None: it is not connected any more."""
    if address is None:
        return _GONE
    return str(address[0]) if isinstance(address, tuple) else LOCAL
