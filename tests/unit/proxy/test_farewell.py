"""proxy/server.py, client.py: how a proxy that stops parts with its clients."""

from __future__ import annotations

import array
import asyncio
import socket
from typing import TYPE_CHECKING

import pytest
from support.alone import Alone

from llmctl.core.proxy_settings import ProxySettings
from llmctl.proxy.client import Client
from llmctl.proxy.doors import Doors
from llmctl.proxy.handover import Handover
from llmctl.proxy.keeper import Progress, Seen
from llmctl.proxy.server import Proxy

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

ASK = b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n"


class Nothing(Alone):
    """A Keeper of a box without models."""

    def look(self) -> Seen:
        return Seen((), {}, {}, ProxySettings(stop_timeout="20s"))

    def switch(self, name: str, *, timeout: float, progress: Progress) -> None:
        raise AssertionError((name, timeout, progress))

    def restart(self, name: str) -> None:
        raise AssertionError(name)


class Scene:
    """A proxy that listens, with a client on a connection of its own."""

    def __init__(self, handover: Handover) -> None:
        self.proxy = Proxy(Nothing(), handover)
        self.door = socket.create_server(("127.0.0.1", 0))
        self.doors = Doors([self.door], lambda: Client(self.proxy))
        self.doors.open()

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        await self.proxy.board.look()
        reader, writer = await asyncio.open_connection(*self.door.getsockname())
        writer.write(ASK)
        await answer(reader)
        return reader, writer

    async def stop(self) -> None:
        self.doors.close()
        await self.proxy.stop(self.doors)
        self.door.close()


async def answer(reader: asyncio.StreamReader) -> bytes:
    """One answer's head; its body is read, too."""
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    length = next(line for line in lines if line.startswith(b"content-length:"))
    await reader.readexactly(int(length.split()[1]))
    return head


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        await asyncio.wait_for(test(), 30)

    asyncio.run(bounded())


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind(f"{tmp_path}/notify")
        made.settimeout(0)
        yield made


def kept(systemd: socket.socket) -> list[socket.socket]:
    """The connections that systemd was given."""
    found = array.array("i")
    while True:
        try:
            text, rights, _, _ = systemd.recvmsg(4096, socket.CMSG_SPACE(1024))
        except BlockingIOError:
            return [socket.socket(fileno=one) for one in found]
        for _, _, data in rights if text.startswith(b"FDSTORE=1") else ():
            found.frombytes(data)
        for _, _, data in rights if text.startswith(b"BARRIER") else ():
            socket.close(array.array("i", data)[0])


async def stopped(scene: Scene, systemd: socket.socket) -> list[socket.socket]:
    """What systemd holds once the proxy has stopped; it reads as it comes."""
    stopping = asyncio.ensure_future(scene.stop())
    found: list[socket.socket] = []
    loop = asyncio.get_running_loop()
    loop.add_reader(systemd, lambda: found.extend(kept(systemd)))
    await stopping
    loop.remove_reader(systemd)
    return found


def test_a_quiet_connection_is_handed_over_and_not_closed(systemd: socket.socket) -> None:
    async def test() -> None:
        scene = Scene(Handover(systemd.getsockname()))
        _, writer = await scene.connect()
        (one,) = await stopped(scene, systemd)
        writer.write(ASK)
        await writer.drain()
        one.settimeout(20)
        with one:
            assert await asyncio.to_thread(one.recv, 4096) == ASK
        writer.close()

    run(test)


def test_what_came_in_one_piece_is_answered_before_the_connection_goes(
    systemd: socket.socket,
) -> None:
    async def test() -> None:
        scene = Scene(Handover(systemd.getsockname()))
        reader, writer = await scene.connect()
        scene.proxy.is_stopping = True  # and the piece below is in the midst of being read
        writer.write(ASK * 3)
        for _ in range(3):
            assert b"connection: close" not in (await answer(reader)).lower()
        (one,) = await stopped(scene, systemd)
        one.close()
        writer.close()

    run(test)


def test_half_a_request_is_waited_for(systemd: socket.socket) -> None:
    async def test() -> None:
        scene = Scene(Handover(systemd.getsockname()))
        reader, writer = await scene.connect()
        writer.write(ASK[:10])
        await writer.drain()
        client = next(iter(scene.proxy.clients))
        while client.descriptor is not None:  # noqa: ASYNC110  # until it has been read
            await asyncio.sleep(0)
        stopping = asyncio.ensure_future(stopped(scene, systemd))
        writer.write(ASK[10:])
        assert (await answer(reader)).startswith(b"HTTP/1.1 200")
        (one,) = await stopping
        one.close()
        writer.close()

    run(test)


def test_many_are_handed_over_at_once(systemd: socket.socket) -> None:
    async def test() -> None:
        scene = Scene(Handover(systemd.getsockname()))
        writers = [(await scene.connect())[1] for _ in range(300)]
        found = await stopped(scene, systemd)
        assert len(found) == 300
        for one in found:
            one.close()
        for writer in writers:
            writer.close()

    run(test)


def test_where_nobody_takes_it_the_last_answer_says_that_it_ends() -> None:
    async def test() -> None:
        scene = Scene(Handover(None))
        reader, writer = await scene.connect()
        stopping = asyncio.ensure_future(scene.stop())
        while not scene.proxy.is_stopping:  # noqa: ASYNC110  # a step of the loop
            await asyncio.sleep(0)
        writer.write(ASK)
        assert b"connection: close" in (await answer(reader)).lower()
        assert await reader.read() == b""
        await stopping
        writer.close()

    run(test)


def test_where_nobody_takes_it_a_quiet_connection_is_closed() -> None:
    async def test() -> None:
        scene = Scene(Handover(None))
        reader, writer = await scene.connect()
        await scene.stop()
        assert await reader.read() == b""
        writer.close()

    run(test)
