"""Who we are: the keys that the user's own ssh would offer, in its order."""

import contextlib
import ipaddress
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import paramiko
from paramiko.agent import AgentKey, AgentSSH
from paramiko.pkey import PublicBlob

from llmctl.errors import HostError
from llmctl.host.ssh_config import Destination
from llmctl.host.ssh_transport import Transport

Ask = Callable[[str], str | None]
"""A question to the person who waits, e.g. for a passphrase; None: nobody is there."""
TAILNETS = tuple(map(ipaddress.ip_network, ("100.64.0.0/10", "fd7a:115c:a1e0::/48")))
"""Source: tailscale.com/kb/1015/100.x-addresses."""


def log_in(transport: Transport, destination: Destination, *, ask: Ask) -> None:
    """Be let in as the user. HostError: says what was tried, and what would help."""
    with contextlib.ExitStack() as agents:  # to be hung up afterwards
        _log_in(transport, destination, _Keys(destination, ask, agents))


def _log_in(transport: Transport, destination: Destination, keys: "_Keys") -> None:
    offered = 0
    allowed: list[str] = []
    for tried, key in enumerate(_offers(destination, keys)):
        offered += key is not None
        try:
            transport.log_in(destination.user, key, ahead=not tried)
        except paramiko.BadAuthenticationType as error:
            allowed = error.allowed_types
        except paramiko.SSHException:  # this one was not good enough, or the server has had enough
            if not transport.is_active():
                if tried or transport.said_goodbye:
                    break
                raise  # nothing was refused
        if transport.is_authenticated():
            return
    raise _refused(destination, offered, keys.locked, allowed)


def _offers(destination: Destination, keys: "_Keys") -> Iterator[paramiko.PKey | None]:
    """Keys, and nothing at all: Tailscale's own sshd knows from the network who asks."""
    tailnet = is_tailnet(destination.address)
    if tailnet:
        yield None
    yield from keys
    if not tailnet:
        yield None


def is_tailnet(address: str) -> bool:
    """An address, or a MagicDNS name, of a tailnet."""
    try:
        return any(ipaddress.ip_address(address) in one for one in TAILNETS)
    except ValueError:
        return address.endswith(".ts.net")


class _Keys:
    """The keys of a person, one after the other. locked: files that nobody unlocked."""

    def __init__(self, destination: Destination, ask: Ask, agents: contextlib.ExitStack) -> None:
        self._destination, self._ask, self._agents = destination, ask, agents
        self.locked: list[str] = []

    def __iter__(self) -> Iterator[paramiko.PKey]:
        """Those that the configuration names first, from the agent where it holds them; then the
        agent's others; then files, since their passphrases may have to be asked for."""
        held = {key.asbytes(): key for key in self._held()}
        named = {path: _public(path) for path in self._destination.identities}
        first = [public for public in named.values() if public is not None and public in held]
        yield from (held[public] for public in first)
        if not self._destination.identities_only:
            yield from (key for public, key in held.items() if public not in first)
        for path, public in named.items():
            if public not in held and (key := self._from_file(path)) is not None:
                yield key

    def _held(self) -> tuple[AgentKey, ...]:
        """The agent's. A dead agent is no reason not to use the keys on the disk."""
        path = self._destination.agent
        if path is None:
            return ()
        connection = self._agents.enter_context(socket.socket(socket.AF_UNIX))
        try:
            connection.connect(path)
            return _Agent(connection).get_keys()
        except (OSError, paramiko.SSHException):
            return ()

    def _from_file(self, path: str) -> paramiko.PKey | None:
        if not Path(path).is_file():
            return None
        try:
            key = _load(path, None)
            if key is None and (phrase := self._ask(f"Passphrase for {path}: ")) is not None:
                key = _load(path, phrase)
        except (OSError, paramiko.SSHException):
            return None  # a public key alone, or a kind that paramiko has not
        if key is None:
            self.locked.append(path)
            return None
        certificate = Path(f"{path}-cert.pub")
        if certificate.is_file():
            key.load_certificate(str(certificate))
        return key


class _Agent(AgentSSH):
    """The agent that listens at a path; paramiko's own class knows SSH_AUTH_SOCK only."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__()
        connect: Any = getattr(self, "_connect")  # noqa: B009  # not in the stubs
        connect(connection)


def _public(path: str) -> bytes | None:
    """The public half that lies beside a key, or is the named file itself."""
    for file in (Path(f"{path}.pub"), Path(path)):
        try:
            return bytes(PublicBlob.from_file(str(file)).key_blob)
        except (OSError, ValueError):
            continue
    return None


_KINDS = (paramiko.Ed25519Key, paramiko.ECDSAKey, paramiko.RSAKey)


def _load(path: str, phrase: str | None) -> paramiko.PKey | None:
    """A key; None: it is locked, and not with that passphrase. SSHException: it is no such key."""
    for kind in _KINDS:
        try:
            return kind.from_private_key_file(path, phrase)
        except paramiko.PasswordRequiredException:
            return None
        except (ValueError, paramiko.SSHException):
            continue
    if phrase is not None:
        return None
    raise paramiko.SSHException(f"{path} is no private key")


def _refused(
    destination: Destination, offered: int, locked: list[str], allowed: list[str]
) -> HostError:
    whom = f"{destination.name} lets nobody in as {destination.user}"
    if locked:
        files = ", ".join(locked)
        return HostError(
            f"{whom}: {files} is locked with a passphrase, and no agent holds it.",
            hint=f"Unlock it once: ssh-add {locked[0]}",
        )
    ways = f"; it takes: {', '.join(allowed)}" if allowed else ""
    keys = "there was no key to offer"
    if offered:
        keys = f"{offered} key{'s were' if offered > 1 else ' was'} not taken"
    return HostError(
        f"{whom}: {keys}{ways}.",
        hint=f"Let it know your key: ssh-copy-id {destination.name}; `ssh {destination.name} true` "
        "must work without a password.",
    )
