"""Connections outlive the process: systemd keeps them for the next one.

Whoever closes a connection that a client keeps may close it in the very moment in which the client
sends its next request, and that request is lost; no header and no waiting mends it. So a proxy
that is restarted closes none: each connection without a request under way is given to systemd
(sd_notify(3), FDSTORE=1), and what the client sends meanwhile waits in it for the next process.
After a stop that is no restart systemd closes them.
"""

import array
import asyncio
import os
import socket
from collections.abc import Mapping, MutableMapping, Sequence

import msgspec

FIRST_FD = 3
"""sd_listen_fds(3): SD_LISTEN_FDS_START."""
NAME = "client"
MOST_AT_ONCE = 250
"""Descriptors in one message: unix(7), SCM_RIGHTS, has 253."""
BARRIER_TIMEOUT_S = 2.0


class Passed(msgspec.Struct, frozen=True):
    """Numbers of descriptors: what to listen on, and connections of the process before."""

    doors: tuple[int, ...] = ()
    clients: tuple[int, ...] = ()


def passed(environ: Mapping[str, str], pid: int) -> Passed:
    """What systemd passed to this process (sd_listen_fds(3)); nothing where it was not systemd."""
    if environ.get("LISTEN_PID") != str(pid):
        return Passed()
    count = int(environ.get("LISTEN_FDS", "0"))
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    kept = {FIRST_FD + n for n, name in enumerate(names[:count]) if name == NAME}
    every = range(FIRST_FD, FIRST_FD + count)
    return Passed(tuple(one for one in every if one not in kept), tuple(sorted(kept)))


class Handover:
    """Speaks to systemd. Where nobody listens, `give` gives nothing."""

    def __init__(self, address: str | None) -> None:
        self._address = address and ("\0" + address[1:] if address[0] == "@" else address)

    @classmethod
    def of(cls, environ: MutableMapping[str, str]) -> "Handover":
        """As the environment says; what is for this process alone is taken out of it."""
        found = cls(environ.pop("NOTIFY_SOCKET", None))
        for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
            environ.pop(name, None)
        return found

    @property
    def is_possible(self) -> bool:
        """Does systemd take connections?"""
        return self._address is not None

    def ready(self) -> None:
        """Clients are served: whoever asked for a start, or a restart, has it."""
        self._send("READY=1")

    def give(self, descriptors: Sequence[int]) -> bool:
        """Have systemd keep these connections: at most MOST_AT_ONCE. False: not now."""
        return self._send(f"FDSTORE=1\nFDNAME={NAME}", descriptors)

    def took(self) -> None:
        """What was kept is here now: systemd's own hold on it would keep it open for ever."""
        self._send(f"FDSTOREREMOVE=1\nFDNAME={NAME}")

    async def settle(self) -> None:
        """Until systemd has read all that was sent: of a process that has ended it takes nothing
        (sd_notify(3), BARRIER=1)."""
        here, there = os.pipe()
        try:
            sent = self._send("BARRIER=1", [there])
        finally:
            os.close(there)
        try:
            if sent:
                await asyncio.wait_for(_ended(here), BARRIER_TIMEOUT_S)
        except TimeoutError:
            pass
        finally:
            os.close(here)

    def _send(self, text: str, descriptors: Sequence[int] = ()) -> bool:
        if self._address is None:
            return False
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
                out.settimeout(0)
                out.connect(self._address)
                out.sendmsg([text.encode()], rights if descriptors else [])
        except OSError:  # its queue is full, or it is gone
            return False
        return True


async def _ended(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    done = asyncio.Event()
    loop.add_reader(descriptor, done.set)
    try:
        await done.wait()
    finally:
        loop.remove_reader(descriptor)
