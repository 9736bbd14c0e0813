"""connecting.py: connections to this machine's servers, at once where that can be."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from pathlib import Path

import pytest
from support.ends import Ear, run

from llmctl.proxy.connecting import connected, connected_at_once
from llmctl.proxy.loop import Loop


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_it_is_there_when_it_is_asked_for() -> None:
    async def test() -> None:
        with socket.create_server(("127.0.0.1", 0)) as door:
            ear = Ear()
            assert connected_at_once(ear, door.getsockname()[1])
            assert ear.said == ["made"]
            ear.transport.write(b"hello")
            there, _ = door.accept()
            with there:
                assert there.recv(9) == b"hello"
                there.sendall(b"good day")
                await ear.hears(b"good day")
            assert ear.transport.get_extra_info("socket").getsockopt(
                socket.IPPROTO_TCP, socket.TCP_NODELAY
            )
            await ear.ends()

    run(Loop, test)


@pytest.mark.parametrize("factory", [Loop, asyncio.SelectorEventLoop])
def test_where_nobody_listens_there_is_none(factory: type[asyncio.SelectorEventLoop]) -> None:
    async def test() -> None:
        with socket.create_server(("127.0.0.1", 0)) as door:
            port = door.getsockname()[1]
        before = descriptors()
        assert not connected_at_once(Ear(), port)
        with pytest.raises(ConnectionRefusedError):
            await connected(Ear(), port)
        assert descriptors() == before

    run(factory, test)


def test_who_is_not_let_in_yet_has_to_wait() -> None:
    async def test() -> None:
        with socket.socket() as door:
            door.bind(("127.0.0.1", 0))
            door.listen(0)
            port, before = door.getsockname()[1], descriptors()
            ears = [Ear() for _ in range(8)]
            let_in = [connected_at_once(ear, port) for ear in ears]
            assert let_in[0]
            assert not let_in[-1]
            assert descriptors() == before + sum(let_in)
            for ear in ears[: sum(let_in)]:
                ear.transport.abort()
            await asyncio.sleep(0)

    run(Loop, test)


def test_where_no_more_can_be_opened_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks goes on, and is told by the other way."""

    class Full(socket.socket):
        def __init__(self) -> None:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    async def test() -> None:
        with socket.create_server(("127.0.0.1", 0)) as door:
            port = door.getsockname()[1]
            monkeypatch.setattr(socket, "socket", Full)
            assert not connected_at_once(Ear(), port)
            with pytest.raises(OSError, match="Too many open files"):
                await connected(Ear(), port)
            monkeypatch.undo()

    run(Loop, test)


def test_another_loop_has_no_such_way() -> None:
    async def test() -> None:
        with socket.create_server(("127.0.0.1", 0)) as door:
            assert not connected_at_once(Ear(), door.getsockname()[1])

    run(asyncio.SelectorEventLoop, test)
