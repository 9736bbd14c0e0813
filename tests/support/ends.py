"""Both ends of real connections, under either of asyncio's transport and the proxy's Wire."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

from llmctl.proxy.connecting import accepted
from llmctl.proxy.loop import Loop

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

MORE = 8 << 20
"""Bytes that no socket of this machine takes at once."""


class Ear(asyncio.BufferedProtocol):
    """A protocol that notes what it is told.

    said: its callbacks; what came one after the other is one "data". does: what it does with what
    comes. stays: does it keep its own direction open when the other ends?
    """

    transport: asyncio.Transport

    def __init__(
        self, *, stays: bool = False, does: Callable[[bytes], object] | None = None
    ) -> None:
        self.said: list[str] = []
        self.heard = bytearray()
        self.errors: list[Exception | None] = []
        self._stays, self._does = stays, does
        self._buffer = bytearray(64 << 10)
        self._news = asyncio.Event()

    async def until(self, holds: Callable[[], object]) -> None:
        """Until it is so, after a callback."""
        while not holds():
            self._news.clear()
            await self._news.wait()

    async def hears(self, data: bytes) -> None:
        """Until all of it has come, and nothing else."""
        await self.until(lambda: len(self.heard) >= len(data))
        assert self.heard == data

    async def ends(self) -> Exception | None:
        """Until the connection is lost. Why."""
        await self.until(lambda: self.errors)
        return self.errors[0]

    def _note(self, what: str) -> None:
        if what != "data" or self.said[-1:] != ["data"]:
            self.said.append(what)
        self._news.set()

    # asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._note("made")

    def get_buffer(self, sizehint: int) -> bytearray:
        del sizehint
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        data = bytes(self._buffer[:nbytes])
        self.heard += data
        self._note("data")
        if self._does is not None:
            self._does(data)

    def eof_received(self) -> bool:
        self._note("eof")
        return self._stays

    def pause_writing(self) -> None:
        self._note("full")

    def resume_writing(self) -> None:
        self._note("drained")

    def connection_lost(self, exc: Exception | None) -> None:
        self.errors.append(exc)
        self._note("lost")


def unix() -> tuple[socket.socket, socket.socket]:
    """Two ends that do not block."""
    ends = socket.socketpair()
    for end in ends:
        end.setblocking(False)
    return ends


def tcp() -> tuple[socket.socket, socket.socket]:
    """As above, on loopback."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        theirs = socket.create_connection(door.getsockname())
        ours, _ = door.accept()
    for end in (ours, theirs):
        end.setblocking(False)
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for size in (socket.SO_SNDBUF, socket.SO_RCVBUF):  # else they grow with what is sent
            end.setsockopt(socket.SOL_SOCKET, size, 256 << 10)
    return ours, theirs


async def joined(connection: socket.socket, ear: Ear | None = None) -> Ear:
    """A protocol that has this connection."""
    ear = ear or Ear()
    await accepted(connection, ear)
    return ear


async def read(end: socket.socket, nbytes: int) -> bytes:
    """So many bytes of what has been sent, or all before its end."""
    got = bytearray()
    while len(got) < nbytes:
        data = await asyncio.get_running_loop().sock_recv(end, nbytes - len(got))
        if not data:
            break
        got += data
    return bytes(got)


async def rounds(count: int = 4) -> None:
    """Let the loop go round."""
    for _ in range(count):
        await asyncio.sleep(0)


def is_at_rest() -> bool:
    """Would the loop wait, were there nothing but connections?"""
    loop = asyncio.get_running_loop()
    selector: Any = loop._selector  # type: ignore[attr-defined]
    epoll = selector._epoll if isinstance(loop, Loop) else selector._selector
    return not epoll.poll(0)


def run(
    factory: Callable[[], asyncio.AbstractEventLoop], test: Callable[[], Awaitable[None]]
) -> None:
    """A test, on such a loop, within a bounded time."""

    async def bounded() -> None:
        await asyncio.wait_for(test(), 30)

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(bounded())
