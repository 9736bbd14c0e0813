"""The proxy on real sockets, in this process, in front of a server that does as it is told.

async with Liar(says=[b"HTTP/1.1 200 OK...", DIES]) as liar, proxied(liar) as url: ...
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import socket
import struct
from typing import TYPE_CHECKING, Self

from support.wire import StillKeeper

from llmctl.proxy.client import Client
from llmctl.proxy.server import Proxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from llmctl.core.guard.settings import GuardSettings

MODELS = b'{"object":"list","data":[{"id":"coder"}]}'
NAMED = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(MODELS)
) + MODELS


class Then(enum.Enum):
    """What a server does besides speaking."""

    DIES = "its connection is reset"
    ENDS = "its connection is closed"
    HANGS = "nothing more comes"


DIES, ENDS, HANGS = Then.DIES, Then.ENDS, Then.HANGS


class Liar:
    """A server. says: to each request in turn, the last one for ever. named: how it answers who
    asks for its alias, and asked: how often. heard: the requests, head and body. open: connections
    that are. is_shared: may another listen on its port?"""

    def __init__(
        self, *says: Sequence[bytes | Then], named: Sequence[bytes | Then] = (NAMED,),
        port: int = 0, is_shared: bool = False,
    ) -> None:  # fmt: skip
        self.says, self.named, self._is_shared = list(says), named, is_shared
        self.heard: list[tuple[bytes, bytes]] = []
        self.open: set[asyncio.StreamWriter] = set()
        self.connections = self.asked = 0
        self.port = port

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", self.port, limit=1 << 20, reuse_port=self._is_shared
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *error: object) -> None:
        self._server.close()
        for writer in self.open:
            writer.transport.abort()
        await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open.add(writer)
        self.connections += 1
        try:
            while await self._answer(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.open.discard(writer)
            writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            (
                int(line[15:])
                for line in head.split(b"\r\n")
                if line.lower().startswith(b"content-length:")
            ),
            0,
        )
        body = await reader.readexactly(length)
        if head.startswith(b"GET /v1/models "):
            self.asked += 1
            script = self.named
        else:
            self.heard.append((head, body))
            script = self.says.pop(0) if len(self.says) > 1 else self.says[0]
        for step in script:
            if isinstance(step, bytes):
                writer.write(step)
                await writer.drain()
            elif step is HANGS:
                await reader.read()
                return False
            elif step is ENDS:
                writer.close()
                await writer.wait_closed()
                return False
            else:
                peer = writer.get_extra_info("socket")
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return False
        return True


@contextlib.asynccontextmanager
async def proxied(
    liar: Liar, *, guard: GuardSettings | None = None
) -> AsyncIterator[tuple[Proxy, int]]:
    """A proxy whose one model is there, and its port."""
    proxy = Proxy(StillKeeper(port=liar.port, guard=guard))
    await proxy.board.look()
    proxy.board.doubt = lambda _: None  # type: ignore[method-assign,assignment]
    server = await asyncio.get_running_loop().create_server(lambda: Client(proxy), "127.0.0.1", 0)
    try:
        yield proxy, server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for client in list(proxy.clients):
            client.abort()
        for pool in proxy.board.pools._pools.values():
            pool.close_idle()
        await asyncio.sleep(0)
