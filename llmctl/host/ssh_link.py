"""One SSH connection: the way to a box, and whether it is still there."""

import contextlib
import logging
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol, cast

import paramiko
from paramiko.ssh_exception import IncompatiblePeer

from llmctl.errors import HostError, UnreachableError
from llmctl.host.ssh_auth import Ask, log_in
from llmctl.host.ssh_config import Destination, resolve
from llmctl.host.ssh_known import check_key, known_types
from llmctl.host.ssh_transport import Transport

PING_AFTER_S = 3.0
"""Silence after which the other side is asked whether it is there."""
LOST_AFTER_S = 11.0
"""Silence after which it is not, whatever the kernel still hopes for."""
AUTH_TIMEOUT_S = 14.0
"""For the answer to a key. sshd may look up names and ask PAM before it answers, which takes more
than a connection; and a lost one is to be found out within 15 s."""
logging.getLogger("paramiko").setLevel(logging.CRITICAL + 1)  # what it has to say, its errors say


class _Stream(Protocol):
    def recv(self, size: int, /) -> bytes: ...
    def send(self, data: bytes, /) -> int: ...
    def settimeout(self, timeout: float | None, /) -> None: ...
    def close(self) -> None: ...


class Wire:
    """A byte stream that knows when it was last heard of."""

    def __init__(self, stream: _Stream, *, also: Callable[[], None] = lambda: None) -> None:
        """also: what else is to be undone when it is closed."""
        self._stream, self._also = stream, also
        self.heard = time.monotonic()
        self._closed = False  # paramiko looks at it, as at that of a socket

    def recv(self, size: int) -> bytes:
        """See socket."""
        data = self._stream.recv(size)
        self.heard = time.monotonic()
        return data

    def send(self, data: bytes) -> int:
        """See socket."""
        return self._stream.send(data)

    def settimeout(self, timeout: float | None) -> None:
        """See socket."""
        self._stream.settimeout(timeout)

    def close(self) -> None:
        """See socket."""
        self._stream.close()
        if not self._closed:
            self._closed = True
            self._also()


class Link:
    """A connection that is up until it is closed or lost."""

    def __init__(self, transport: Transport, wire: Wire, name: str) -> None:
        self.transport, self._wire, self._name = transport, wire, name
        self._ended = threading.Event()
        self._watch = threading.Thread(target=self._look, name=f"ssh {name}", daemon=True)
        self._watch.start()

    @property
    def is_up(self) -> bool:
        """Nothing is known against it."""
        return self.transport.is_active()

    def close(self) -> None:
        """End it; its threads are gone then."""
        self._ended.set()
        self.transport.close()
        for thread in (self._watch, self.transport):
            if thread is not threading.current_thread():
                thread.join(timeout=2.0)

    def _look(self) -> None:
        while not self._ended.wait(PING_AFTER_S) and self.transport.is_active():
            silent = time.monotonic() - self._wire.heard
            if silent > LOST_AFTER_S:
                self.transport.close()
            elif silent >= PING_AFTER_S:
                with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
                    self.transport.ping()


def connect(name: str, environ: Mapping[str, str], *, ask: Ask) -> Link:
    """Up to a logged-in connection. HostError: which step failed, and what to type."""
    destination = resolve(name, environ)
    return _connect(destination, environ, ask=ask)


def _connect(
    destination: Destination, environ: Mapping[str, str], *, ask: Ask, via: Link | None = None
) -> Link:
    wire = _wire(destination, environ, ask=ask, via=via)
    try:
        transport = _transport(destination, wire)
    except BaseException:
        wire.close()
        raise
    try:
        _start(transport, destination)
        check_key(destination, transport.get_remote_server_key())
        log_in(transport, destination, ask=ask)
    except (paramiko.SSHException, EOFError, OSError) as error:
        transport.close()
        wire.close()
        raise UnreachableError(
            f"the connection to {destination.name} was lost before it was made: {error}",
            hint=f"Does `ssh {destination.name} true` work?",
        ) from None
    except BaseException:
        transport.close()
        wire.close()
        transport.join(timeout=2.0)
        raise
    return Link(transport, wire, destination.name)


def _transport(destination: Destination, wire: Wire) -> Transport:
    transport = Transport(cast("Any", wire))
    transport.daemon = True
    transport.banner_timeout = transport.handshake_timeout = destination.timeout
    transport.auth_timeout = AUTH_TIMEOUT_S
    options = transport.get_security_options()
    wanted = [kind for known in known_types(destination) for kind in _algorithms(known)]
    first = [kind for kind in wanted if kind in options.key_types]
    options.key_types = (*first, *(kind for kind in options.key_types if kind not in first))
    return transport


def _algorithms(kind: str) -> tuple[str, ...]:
    """How a kind of key can sign: RFC 8332 has two for the keys that are called ssh-rsa."""
    return ("rsa-sha2-512", "rsa-sha2-256") if kind == "ssh-rsa" else (kind,)


def _start(transport: Transport, destination: Destination) -> None:
    """Agree on keys. paramiko ends this quietly when the time is up."""
    began = time.monotonic()
    try:
        transport.start_client(timeout=destination.timeout)
    except (EOFError, OSError):
        raise _mute(destination, hangs=False) from None
    except IncompatiblePeer as error:
        raise HostError(
            f"{destination.name} and llmctl have no way to encrypt in common: {error}",
            hint=f"Does `ssh {destination.name} true` work?",
        ) from None
    except paramiko.SSHException:
        hangs = time.monotonic() - began >= destination.timeout
        raise _mute(destination, hangs=hangs) from None
    if not transport.initial_kex_done:
        raise _mute(destination, hangs=True)


def _mute(destination: Destination, *, hangs: bool) -> UnreachableError:
    place = f"{destination.address}:{destination.port}"
    if hangs:
        return UnreachableError(
            f"{destination.name} takes connections on {place}, but nothing answered within "
            f"{destination.timeout:g} s: the box hangs.",
            hint="Look at its console, or turn it off and on.",
        )
    return UnreachableError(
        f"{destination.name} ended the connection before it began: {place} is no sshd, or one "
        "that takes no more connections.",
        hint=f"Does `ssh {destination.name} true` work?",
    )


# The way there


def _wire(
    destination: Destination, environ: Mapping[str, str], *, ask: Ask, via: Link | None
) -> Wire:
    if destination.command is not None:
        return _by_command(destination, environ)
    if via is None and destination.jumps:
        for jump in destination.jumps:
            via = _connect(resolve(jump, environ), environ, ask=ask, via=via)
    if via is not None:
        return _through(via, destination)
    return Wire(_dial(destination))


def _through(via: Link, destination: Destination) -> Wire:
    try:
        channel = via.transport.open_channel(
            "direct-tcpip",
            (destination.address, destination.port),
            ("127.0.0.1", 0),
            timeout=destination.timeout,
        )
    except paramiko.SSHException as error:
        via.close()
        raise UnreachableError(
            f"{destination.name} cannot be reached through its jump host: {error}",
            hint=f"Does `ssh {destination.name} true` work?",
        ) from None
    return Wire(channel, also=via.close)


def _by_command(destination: Destination, environ: Mapping[str, str]) -> Wire:
    ours, its = socket.socketpair()
    with its:
        process = subprocess.Popen(  # noqa: S602  # ProxyCommand is a line for the shell
            f"exec {destination.command}",
            shell=True,
            env=dict(environ),
            stdin=its.fileno(),
            stdout=its.fileno(),
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def end() -> None:
        process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=1.0)

    return Wire(ours, also=end)


def _dial(destination: Destination) -> socket.socket:
    deadline = time.monotonic() + destination.timeout
    error: OSError = TimeoutError()
    for family, kind, protocol, _, address in _addresses(destination):
        connection = socket.socket(family, kind, protocol)
        try:
            connection.settimeout(max(0.1, deadline - time.monotonic()))
            connection.connect(address)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as caught:
            connection.close()
            error = caught
            continue
        return connection
    raise _unreachable(destination, error)


def _addresses(destination: Destination) -> list[Any]:
    """All addresses of the name, in a thread: a resolver may think for as long as it likes."""
    found: list[Any] = []
    failed: list[str] = []

    def look() -> None:
        try:
            found.extend(
                socket.getaddrinfo(destination.address, destination.port, type=socket.SOCK_STREAM)
            )
        except OSError as error:
            failed.append(str(error.strerror))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    thread.join(timeout=destination.timeout)
    if not found:
        reason = failed[0] if failed else f"no answer within {destination.timeout:g} s"
        raise UnreachableError(
            f"{destination.address} does not resolve: {reason}.",
            hint=f"Check the name, or give it an address: Host {destination.name} and HostName in "
            "~/.ssh/config",
        )
    return found


def _unreachable(destination: Destination, error: OSError) -> UnreachableError:
    place = f"{destination.address}:{destination.port}"
    if isinstance(error, ConnectionRefusedError):
        return UnreachableError(
            f"{destination.name} refuses connections on {place}: no sshd listens there.",
            hint="On the box: sudo systemctl enable --now ssh (or sshd).",
        )
    if isinstance(error, TimeoutError):
        return UnreachableError(
            f"{destination.name} does not answer on {place} within {destination.timeout:g} s.",
            hint="Is it on, and on this network?",
        )
    return UnreachableError(
        f"{destination.name} cannot be reached on {place}: {error.strerror or error}.",
        hint="Is it on, and on this network?",
    )
