"""The proxy in memory: bytes in at a client's end, bytes out at a server's, and back.

    with Wire() as wire:
        client = wire.connect()
        client.sends(b"POST /v1/chat/completions HTTP/1.1 ...")
        server = wire.server()            # the connection that the request went to
        assert b"..." in server.heard
        server.says(b"HTTP/1.1 200 OK ...")
        assert client.heard.startswith(b"HTTP/1.1 200 OK")

No socket and no waiting: what one end writes, the other has. Closed connections report it at
`wire.settle()`, as asyncio does in its next round.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self

import h11
from support.alone import Alone

from llmctl.core.guard.settings import GuardSettings
from llmctl.core.proxy_settings import ProxySettings
from llmctl.core.state import State
from llmctl.proxy.client import Client
from llmctl.proxy.keeper import Seen
from llmctl.proxy.routing import Served
from llmctl.proxy.server import Proxy
from llmctl.proxy.upstream import Upstream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from llmctl.proxy.keeper import Progress


class MemoryTransport(asyncio.Transport):
    """One side of a connection. heard: what was written to it. capacity: how much it takes before
    it is full."""

    def __init__(self, protocol: asyncio.BufferedProtocol, *, capacity: int | None = None) -> None:
        super().__init__()
        self._protocol, self._capacity = protocol, capacity
        self._room = capacity
        self.is_full = False
        self.heard = bytearray()
        self.is_shut = self.is_aborted = self.is_paused = self.has_eof = False
        self.unsent = 0
        self._lost = False
        protocol.connection_made(self)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert data, "an empty write"
        assert not self.has_eof, "written after the end"
        if not self.is_shut:
            self.heard += data
            self._fill(len(data))

    def _fill(self, nbytes: int) -> None:
        if self._room is not None:
            self._room -= nbytes
            if self._room < 0 and not self.is_full:
                self.fills()

    def write_eof(self) -> None:
        self.has_eof = True

    def can_write_eof(self) -> bool:
        return True

    def close(self) -> None:
        self.is_shut = True

    def abort(self) -> None:
        self.is_shut = self.is_aborted = True

    def is_closing(self) -> bool:
        return self.is_shut

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        ends = {"peername": ("127.0.0.1", 40000), "sockname": ("127.0.0.1", 1234)}
        return ends.get(name, default)

    # The other side

    def sends(self, data: bytes, *, sizes: Iterable[int] = ()) -> None:
        """The other side writes it, in pieces of these sizes, the rest at once."""
        at = 0
        for size in sizes:
            self._give(data[at : at + size])
            at += size
        self._give(data[at:])

    says = sends

    def _give(self, data: bytes) -> None:
        if not data or self.is_shut:
            return
        while data:
            buffer = memoryview(self._protocol.get_buffer(-1))
            took = len(data[: len(buffer)])
            buffer[:took] = data[:took]
            data = data[took:]
            self._protocol.buffer_updated(took)

    def fills(self) -> None:
        """The other side does not read."""
        self.is_full = True
        self._protocol.pause_writing()

    def drains(self) -> None:
        """It does again."""
        self.is_full, self._room = False, self._capacity
        self._protocol.resume_writing()

    def ends(self) -> None:
        """The other side has no more to say."""
        if not self.is_shut and not self._protocol.eof_received():
            self.close()
        self.settle()

    def dies(self, error: Exception | None = None) -> None:
        """The connection is reset."""
        self.is_shut = True
        self.settle(error)

    def settle(self, error: Exception | None = None) -> None:
        """Report a closed connection."""
        if self.is_shut and not self._lost:
            self._lost = True
            self._protocol.connection_lost(error)


class MemoryPool:
    """A Pool whose connections are in memory. opened: all of them, in order."""

    def __init__(self) -> None:
        self.opened: list[MemoryTransport] = []
        self.idle: list[Upstream] = []
        self.refuses: str | None = None
        self.ends_streams = False
        self.capacity: int | None = None

    def take(
        self, connected: Callable[[Upstream], None], failed: Callable[[str], None], *,
        fresh: bool = False,
    ) -> None:  # fmt: skip
        if self.refuses is not None:
            failed(self.refuses)
        elif self.idle and not fresh:
            connected(self.idle.pop())
        else:
            upstream = Upstream(self)
            self.opened.append(MemoryTransport(upstream, capacity=self.capacity))
            connected(upstream)

    def at_hand(self) -> Upstream | None:
        return self.idle.pop() if self.idle and self.refuses is None else None

    def released(self, upstream: Upstream) -> None:
        self.idle.append(upstream)

    def ended(self, upstream: Upstream) -> None:
        pass

    crossed = spent = ended

    def lost(self, upstream: Upstream) -> None:
        self.idle = [one for one in self.idle if one is not upstream]

    def close_idle(self) -> None:
        self.idle = []


def served(
    name: str = "coder", port: int = 12340, guard: GuardSettings | None = None
) -> Served:  # fmt: skip
    """Its guard is off, unless a test is about it: bytes pass as they come."""
    guard = guard or GuardSettings(mode="off")
    return Served(name=name, group="gpu", port=port, state=State.READY, pid=1, guard=guard)


class StillKeeper(Alone):
    """A box on which one model is ready, for ever."""

    def __init__(
        self, *, settings: ProxySettings | None = None, port: int = 12340,
        guard: GuardSettings | None = None,
    ) -> None:  # fmt: skip
        self.settings = settings or ProxySettings()
        self.port, self.guard = port, guard

    def look(self) -> Seen:
        return Seen(
            (served(port=self.port, guard=self.guard),), {"gpu": "coder"}, {}, self.settings
        )

    def switch(self, name: str, *, timeout: float, progress: Progress) -> None:
        raise AssertionError(f"nobody switches to {name} here: {timeout}, {progress}")

    def restart(self, name: str) -> None:
        raise AssertionError(f"{name} does not hang")


class Wire:
    """A proxy with one model that is ready, whatever it does, and everything in memory."""

    def __init__(self, *, guard: GuardSettings | None = None, **settings: Any) -> None:
        self._runner = asyncio.Runner()
        self.keeper = StillKeeper(settings=ProxySettings(**settings), guard=guard)
        self.pool = MemoryPool()
        self._clients: list[MemoryTransport] = []

    def __enter__(self) -> Self:
        self.proxy = self._runner.run(self._made())
        return self

    async def _made(self) -> Proxy:
        proxy = Proxy(self.keeper)
        await proxy.board.look()
        proxy.board.pool = lambda _: self.pool  # type: ignore[method-assign,assignment,return-value]
        proxy.board.doubt = lambda _: None  # type: ignore[method-assign,assignment]
        return proxy

    def __exit__(self, *error: object) -> None:
        self._runner.close()

    def connect(self) -> MemoryTransport:
        """A client's connection."""
        self.client = Client(self.proxy)
        self._clients.append(MemoryTransport(self.client))
        return self._clients[-1]

    def server(self, number: int = -1) -> MemoryTransport:
        """A connection to the server; the last one."""
        assert self.pool.opened, "nothing was sent on"
        return self.pool.opened[number]

    def settle(self) -> None:
        """Whatever was closed reports it."""
        for transport in (*self._clients, *self.pool.opened):
            transport.settle()


# What was said, by a second parser


def requests_in(data: bytes) -> list[tuple[h11.Request, bytes]]:
    """The requests in these bytes, by h11, which must be whole; its error otherwise."""
    connection, found, body = h11.Connection(h11.SERVER, 1 << 20), [], b""
    connection.receive_data(data)
    request: h11.Request | None = None
    while True:
        event = connection.next_event()
        match event:
            case h11.Request():
                request, body = event, b""
            case h11.Data():
                body += bytes(event.data)
            case h11.EndOfMessage():
                assert request is not None
                found.append((request, body))
                request = None
                rest, _ = connection.trailing_data
                connection = h11.Connection(h11.SERVER, 1 << 20)
                connection.receive_data(rest)
                if not rest:
                    return found
            case _:
                assert request is None, "a request is cut short"
                return found


def answers_in(
    data: bytes, *, method: str = "POST", ended: bool = False
) -> list[tuple[h11.Response, bytes]]:
    """The answers in these bytes, by h11. ended: the connection was closed after them."""
    found: list[tuple[h11.Response, bytes]] = []
    rest = data
    while rest:
        connection = h11.Connection(h11.CLIENT, 1 << 20)
        connection.send(h11.Request(method=method, target="/", headers=[("host", "x")]))
        connection.send(h11.EndOfMessage())
        connection.receive_data(rest)
        if ended:
            connection.receive_data(b"")
        response, body = None, b""
        while not isinstance(event := connection.next_event(), h11.EndOfMessage):
            assert not isinstance(event, type(h11.NEED_DATA)), f"an answer is cut short: {data!r}"
            if isinstance(event, h11.Response):
                response = event
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
        assert response is not None
        found.append((response, body))
        rest, _ = connection.trailing_data
    return found
