"""core/wake.py: the packet, and that other machines' programs send just that."""

from __future__ import annotations

import contextlib
import shutil
import socket
from typing import TYPE_CHECKING

import pytest

from llmctl.core.wake import magic_packet, senders
from llmctl.errors import HostError
from llmctl.host.broadcast import broadcast
from llmctl.host.local import LocalHost

if TYPE_CHECKING:
    from collections.abc import Iterator

MAC = "a8:A1:59:00:12:34"
PACKET = bytes.fromhex("ffffffffffff" + "a8a159001234" * 16)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as made:
        made.bind(("127.0.0.1", 0))
        made.settimeout(20)
        yield made


@pytest.mark.parametrize("mac", [MAC, MAC.replace(":", "-"), MAC.lower()])
def test_a_packet_is_six_ones_and_the_address_sixteen_times(mac: str) -> None:
    assert magic_packet(mac) == PACKET


@pytest.mark.parametrize("mac", ["", "a8:a1:59:00:12", f"{MAC}:56", "a8a159001234", "x" * 17])
def test_what_is_no_address_is_refused(mac: str) -> None:
    with pytest.raises(ValueError, match="no address of a network card"):
        magic_packet(mac)


@pytest.mark.parametrize("program", ["python3", "perl"])
def test_a_machine_without_llmctl_sends_it(program: str, listener: socket.socket) -> None:
    assert shutil.which(program)
    port = listener.getsockname()[1]
    argv = next(one for one in senders(PACKET, "127.0.0.1", port=port) if one[0] == program)
    done = LocalHost().run(argv, timeout=20)
    assert (done.status, done.stderr) == (0, "")
    assert listener.recv(2000) == PACKET


@pytest.mark.parametrize("program", ["python3", "perl"])
def test_a_machine_that_cannot_send_says_why(program: str) -> None:
    argv = next(one for one in senders(PACKET, "127.0.0.1", port=0) if one[0] == program)
    done = LocalHost().run(argv, timeout=20)
    assert not done.ok
    assert done.stderr.strip().splitlines()[-1].endswith("Invalid argument")


def test_this_machine_sends_it(listener: socket.socket) -> None:
    broadcast(PACKET, "127.0.0.1", listener.getsockname()[1])
    assert listener.recv(2000) == PACKET


def test_a_network_that_is_not_there_is_told() -> None:
    with pytest.raises(HostError, match=r"nothing can be sent to 127\.0\.0\.1 from here: Invalid"):
        broadcast(PACKET, "127.0.0.1", 0)
