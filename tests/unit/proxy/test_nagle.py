"""client.py: what is written goes out at once, however the listening socket was made."""

import asyncio
import socket

from support.wire import StillKeeper

from llmctl.proxy.client import Client
from llmctl.proxy.server import Proxy


def test_a_connection_has_no_nagle_though_its_listener_names_no_protocol() -> None:
    made: asyncio.Queue[int] = asyncio.Queue()

    class Seen(Client):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            connection = transport.get_extra_info("socket")
            made.put_nowait(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    async def scene() -> int:
        proxy = Proxy(StillKeeper())
        door = socket.create_server(("127.0.0.1", 0))
        assert door.proto == 0  # what asyncio goes by
        server = await asyncio.get_running_loop().create_server(lambda: Seen(proxy), sock=door)
        _, writer = await asyncio.open_connection(*door.getsockname())
        found = await made.get()
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()
        return found

    assert asyncio.run(scene()) != 0
