"""proxy/handover.py: connections go to systemd and come back."""

from __future__ import annotations

import array
import asyncio
import os
import socket
from typing import TYPE_CHECKING

import pytest

from llmctl.proxy.handover import Handover, Passed, passed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.mark.parametrize(
    ("environ", "given"),
    [
        ({}, Passed()),
        ({"LISTEN_PID": "8", "LISTEN_FDS": "1"}, Passed()),
        ({"LISTEN_PID": "7", "LISTEN_FDS": "0"}, Passed()),
        ({"LISTEN_PID": "7", "LISTEN_FDS": "2"}, Passed((3, 4))),
        ({"LISTEN_PID": "7", "LISTEN_FDS": "4",
          "LISTEN_FDNAMES": "llmctl-proxy.socket:llmctl-proxy.socket:client:client"},
         Passed((3, 4), (5, 6))),
        ({"LISTEN_PID": "7", "LISTEN_FDS": "2", "LISTEN_FDNAMES": "client:x:client"},
         Passed((4,), (3,))),
    ],
)  # fmt: skip
def test_what_was_passed_is_told_by_its_names(environ: dict[str, str], given: Passed) -> None:
    assert passed(environ, 7) == given


def test_what_is_for_this_process_is_not_for_its_children() -> None:
    environ = {"NOTIFY_SOCKET": "/x", "LISTEN_FDS": "1", "LISTEN_PID": "7", "HOME": "/h"}
    assert Handover.of(environ).is_possible
    assert environ == {"HOME": "/h"}
    assert not Handover.of(environ).is_possible


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind(f"{tmp_path}/notify")
        made.settimeout(10)
        yield made


def received(systemd: socket.socket) -> tuple[str, list[int]]:
    found = array.array("i")
    text, rights, _, _ = systemd.recvmsg(4096, socket.CMSG_SPACE(1024))
    for _, _, data in rights:
        found.frombytes(data)
    return text.decode(), found.tolist()


def test_a_connection_lives_on_in_systemds_hands(systemd: socket.socket) -> None:
    handover = Handover(systemd.getsockname())
    ours, theirs = socket.socketpair()
    with theirs:
        assert handover.give([ours.fileno()])
        text, (kept,) = received(systemd)
        assert text == "FDSTORE=1\nFDNAME=client"
        ours.close()
        theirs.sendall(b"GET / HTTP/1.1\r\n")
        with socket.socket(fileno=kept) as again:
            assert again.recv(100) == b"GET / HTTP/1.1\r\n"


def test_what_was_taken_is_no_longer_kept(systemd: socket.socket) -> None:
    Handover(systemd.getsockname()).took()
    assert received(systemd) == ("FDSTOREREMOVE=1\nFDNAME=client", [])


def test_an_abstract_address_is_understood() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind("")  # the kernel chooses one
        made.settimeout(10)
        Handover("@" + made.getsockname()[1:].decode()).took()
        assert received(made)[0].startswith("FDSTOREREMOVE")


def test_settling_ends_when_systemd_has_read_all(systemd: socket.socket) -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        settled = asyncio.ensure_future(Handover(systemd.getsockname()).settle())
        text, (pipe,) = await loop.run_in_executor(None, received, systemd)
        assert text == "BARRIER=1"
        assert not settled.done()
        os.close(pipe)
        await settled

    asyncio.run(asyncio.wait_for(run(), 30))


def test_nobody_there_is_no_error(tmp_path: Path) -> None:
    for handover in (Handover(None), Handover(f"{tmp_path}/none")):
        assert not handover.give([0])
        handover.took()
        asyncio.run(asyncio.wait_for(handover.settle(), 30))
