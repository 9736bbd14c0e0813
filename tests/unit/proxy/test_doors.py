"""proxy/doors.py: what was accepted is served, and what was not waits for the next process."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from typing import TYPE_CHECKING

from llmctl.proxy.doors import Doors

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import pytest


class Greeter(asyncio.BufferedProtocol):
    def get_buffer(self, sizehint: int) -> bytearray:
        return bytearray(sizehint if sizehint > 0 else 100)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(b"hello")
        transport.close()


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        await asyncio.wait_for(test(), 30)

    asyncio.run(bounded())


def listening() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0), backlog=64)


async def greeted(client: socket.socket) -> bytes:
    client.setblocking(False)
    return await asyncio.get_running_loop().sock_recv(client, 100)


def test_each_that_comes_is_let_in() -> None:
    async def test() -> None:
        with listening() as door, listening() as other:
            doors = Doors([door, other], Greeter)
            doors.open()
            for address in [door.getsockname(), other.getsockname()] * 40:
                with socket.create_connection(address) as client:
                    assert await greeted(client) == b"hello"
            doors.close()

    run(test)


class Noted(Doors):
    """Says when it has accepted what came."""

    accepted: asyncio.Event

    def open(self) -> None:
        self.accepted = asyncio.Event()
        super().open()

    def let_in(self, connection: socket.socket) -> None:
        super().let_in(connection)
        self.accepted.set()


def test_what_was_accepted_just_before_the_end_is_still_served() -> None:
    async def test() -> None:
        with listening() as door:
            doors = Noted([door], Greeter)
            doors.open()
            clients = [socket.create_connection(door.getsockname()) for _ in range(5)]
            await doors.accepted.wait()
            assert not doors.is_quiet
            doors.close()  # accepted, and no protocol has it yet
            for client in clients:
                assert await greeted(client) == b"hello"
                client.close()
            assert doors.is_quiet

    run(test)


def test_what_was_not_accepted_waits_for_the_next_process() -> None:
    async def test() -> None:
        with listening() as door:
            first = Doors([door], Greeter)
            first.open()
            first.close()
            with socket.create_connection(door.getsockname()) as client:
                second = Doors([door], Greeter)
                second.open()
                assert await greeted(client) == b"hello"
                second.close()

    run(test)


def test_a_connection_of_the_process_before_is_let_in() -> None:
    async def test() -> None:
        ours, theirs = socket.socketpair()
        doors = Doors([], Greeter)
        doors.let_in(ours)
        with theirs:
            assert await greeted(theirs) == b"hello"
        assert doors.is_quiet

    run(test)


class Exhausted(socket.socket):
    """Has no descriptors for the first that comes."""

    is_first = True

    def accept(self) -> tuple[socket.socket, object]:
        if self.is_first:
            self.is_first = False
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return super().accept()


def test_without_descriptors_it_pauses_and_goes_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmctl.proxy.doors._PAUSE_S", 0.0)

    async def test() -> None:
        with Exhausted() as door:
            door.bind(("127.0.0.1", 0))
            door.listen()
            doors = Doors([door], Greeter)
            doors.open()
            with socket.create_connection(door.getsockname()) as client:
                assert await greeted(client) == b"hello"
            doors.close()

    run(test)
    assert "no connection can be accepted: Too many open files" in capsys.readouterr().err
