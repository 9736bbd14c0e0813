"""Why a box is not reached: each reason in its own words, within its time."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING

import paramiko
import pytest
from paramiko.common import (
    AUTH_FAILED,
    AUTH_SUCCESSFUL,
    OPEN_FAILED_RESOURCE_SHORTAGE,
    OPEN_SUCCEEDED,
)

from llmctl.errors import HostError
from llmctl.host.ssh import SSHHost
from llmctl.host.ssh_auth import is_tailnet
from llmctl.host.ssh_link import connect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ENDS = 5  # exit status


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    (tmp_path / ".ssh").mkdir()
    return {"HOME": str(tmp_path), "USER": "ana", "PATH": "/usr/bin:/bin"}


def configure(environ: dict[str, str], port: int, **more: object) -> None:
    words = {"HostName": "127.0.0.1", "Port": port, "ConnectTimeout": 1, "User": "ana", **more}
    lines = ["Host box", *(f"  {key} {value}" for key, value in words.items()), ""]
    place = f"{environ['HOME']}/.ssh/config"
    with open(place, "w", encoding="utf-8") as file:  # noqa: PTH123
        file.write("\n".join(lines))


def refusal(environ: dict[str, str], name: str = "box") -> HostError:
    with pytest.raises(HostError) as caught:
        SSHHost(name, environ=environ).run(["true"], timeout=5)
    assert caught.value.exit_status == ENDS
    assert caught.value.hint
    return caught.value


@contextlib.contextmanager
def listener(says: bytes | None = b"") -> Iterator[int]:
    """Somebody who takes connections and says something, then hangs up; None: says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server, contextlib.ExitStack() as stack:

        def serve() -> None:
            with contextlib.suppress(OSError):
                connection, _ = server.accept()
                stack.enter_context(connection)
                if says is not None:
                    connection.sendall(says)
                    connection.shutdown(socket.SHUT_WR)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield int(server.getsockname()[1])
        thread.join(timeout=5)


def test_a_name_that_leads_nowhere(environ: dict[str, str]) -> None:
    configure(environ, 22, HostName="no-such-host.invalid")
    assert "no-such-host.invalid does not resolve" in refusal(environ).message


@pytest.mark.parametrize("name", ["", "-oProxyCommand=id", "two words"])
def test_what_is_no_name(environ: dict[str, str], name: str) -> None:
    assert "names no box" in refusal(environ, name).message


def test_nobody_listens(environ: dict[str, str]) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        configure(environ, unused.getsockname()[1])
        assert "refuses connections on 127.0.0.1" in refusal(environ).message


def test_nobody_answers(environ: dict[str, str]) -> None:
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.socket())
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(3):  # a full queue: the kernel drops whoever comes next
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(server.getsockname())
        configure(environ, server.getsockname()[1])
        assert "does not answer on 127.0.0.1" in refusal(environ).message


def test_a_box_that_hangs(environ: dict[str, str]) -> None:
    with listener(None) as port:
        configure(environ, port)
        assert "nothing answered within 1 s: the box hangs" in refusal(environ).message


@pytest.mark.parametrize("says", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_what_is_no_sshd(environ: dict[str, str], says: bytes) -> None:
    with listener(says) as port:
        configure(environ, port)
        assert "is no sshd, or one that takes no more" in refusal(environ).message


def test_a_proxy_command_that_fails(environ: dict[str, str]) -> None:
    configure(environ, 22, ProxyCommand="exit 1")
    assert "ended the connection before it began" in refusal(environ).message


class Sshd(paramiko.ServerInterface):
    """An sshd in this process: takes a user without a key, or nobody."""

    def __init__(
        self, *, open_door: bool, before_answer: Callable[[], object] = lambda: None
    ) -> None:
        self.open_door = open_door
        self.before_answer = before_answer
        self.offered: list[str] = []
        self.refuses = 0  # so many sessions

    def get_allowed_auths(self, username: str) -> str:
        del username
        return "none,publickey" if self.open_door else "password"

    def check_auth_none(self, username: str) -> int:
        del username
        self.offered.append("none")
        self.before_answer()
        return AUTH_SUCCESSFUL if self.open_door else AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:
        del kind, chanid
        self.refuses -= 1
        return OPEN_SUCCEEDED if self.refuses < 0 else OPEN_FAILED_RESOURCE_SHORTAGE


@contextlib.contextmanager
def sshd(home: str, door: Sshd) -> Iterator[int]:
    key = paramiko.ECDSAKey.generate()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = int(server.getsockname()[1])
        made: list[paramiko.Transport] = []

        def serve() -> None:
            connection, _ = server.accept()
            transport = paramiko.Transport(connection)
            made.append(transport)
            transport.add_server_key(key)
            with contextlib.suppress(paramiko.SSHException, EOFError):
                transport.start_server(server=door)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        with open(f"{home}/.ssh/known_hosts", "w", encoding="ascii") as file:  # noqa: PTH123
            file.write(f"[127.0.0.1]:{port} {key.get_name()} {key.get_base64()}\n")
        yield port
        thread.join(timeout=5)
        for transport in made:
            transport.close()
            transport.join(timeout=5)


@contextlib.contextmanager
def relayed(port: int) -> Iterator[tuple[int, Callable[[], None]]]:
    """Another port that leads there, and what cuts it."""
    with socket.create_server(("127.0.0.1", 0)) as server, contextlib.ExitStack() as stack:
        ends: list[socket.socket] = []

        def carry(one: socket.socket, other: socket.socket) -> None:
            with contextlib.suppress(OSError):
                while data := one.recv(1 << 16):
                    other.sendall(data)

        def serve() -> None:
            near = stack.enter_context(server.accept()[0])
            far = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            ends.extend((near, far))
            threading.Thread(target=carry, args=(near, far), daemon=True).start()
            carry(far, near)

        def cut() -> None:
            for end in ends:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield int(server.getsockname()[1]), cut
        cut()
        thread.join(timeout=5)


def test_who_is_known_by_the_network_needs_no_key(environ: dict[str, str]) -> None:
    """As Tailscale's own sshd does it."""
    door = Sshd(open_door=True)
    with sshd(environ["HOME"], door) as port:
        configure(environ, port)
        link = connect("box", environ, ask=lambda _: None)
        assert link.is_up
        link.close()
    assert door.offered == ["none"]


def test_a_session_that_is_refused_for_a_while_is_asked_for_again(environ: dict[str, str]) -> None:
    """As under MaxSessions, until an earlier one has ended."""
    door = Sshd(open_door=True)
    door.refuses = 3
    with sshd(environ["HOME"], door) as port:
        configure(environ, port)
        link = connect("box", environ, ask=lambda _: None)
        assert not link.transport.session(timeout=30).closed
        link.close()


def test_an_sshd_that_opens_no_session_is_told(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmctl.host.ssh_transport.REFUSED_S", 0.1)
    door = Sshd(open_door=True)
    door.refuses = 1 << 20
    with sshd(environ["HOME"], door) as port:
        configure(environ, port)
        error = refusal(environ)
    assert error.message == "sshd on box opens no further session: true was not run."


def test_an_sshd_that_wants_a_password_is_told(environ: dict[str, str]) -> None:
    with sshd(environ["HOME"], Sshd(open_door=False)) as port:
        configure(environ, port)
        error = refusal(environ)
    assert error.message == (
        "box lets nobody in as ana: there was no key to offer; it takes: password."
    )
    assert "ssh-copy-id box" in str(error.hint)


def test_a_link_that_is_lost_at_the_login_is_no_refusal(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody answers: the key was not refused."""
    monkeypatch.setattr("llmctl.host.ssh_link.AUTH_TIMEOUT_S", 0.2)
    told = threading.Event()
    with sshd(environ["HOME"], Sshd(open_door=True, before_answer=told.wait)) as port:
        configure(environ, port)
        error = refusal(environ)
        told.set()
    assert error.message == (
        "the connection to box was lost before it was made: no answer to a key within 0.2 s"
    )


def test_who_hangs_up_at_the_login_has_refused_nothing(environ: dict[str, str]) -> None:
    door = Sshd(open_door=True)
    with sshd(environ["HOME"], door) as port:
        configure(environ, port)
        with relayed(port) as (near, cut):
            door.before_answer = cut
            configure(environ, near, HostKeyAlias=f"[127.0.0.1]:{port}")
            error = refusal(environ)
    assert error.message.startswith("the connection to box was lost before it was made")


def test_a_box_that_is_not_reached_is_not_tried_again(environ: dict[str, str]) -> None:
    """Several things are asked of it at once, and each would wait for its own time-out."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        configure(environ, server.getsockname()[1])
        host = SSHHost("box", environ=environ)
        errors = []
        for _ in range(2):
            with pytest.raises(HostError) as caught:
                host.run(["true"], timeout=5)
            errors.append(caught.value.message)
        assert errors[0] == errors[1]
        server.accept()[0].close()
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()


@pytest.mark.parametrize(
    ("address", "is_one"),
    [
        ("100.64.0.1", True),
        ("100.127.255.254", True),
        ("100.128.0.1", False),
        ("fd7a:115c:a1e0::1", True),
        ("192.168.1.4", False),
        ("gpu.tail1234.ts.net", True),
        ("gpu.example.net", False),
    ],
)
def test_a_tailnet_is_known_by_its_addresses(address: str, is_one: bool) -> None:
    assert is_tailnet(address) == is_one
