"""The sockets that the proxy listens on, and the moment when it stops to.

Not asyncio's Server: when that is closed, a connection that it has accepted a moment ago but not
yet given to a protocol dies (Server._attach). Here what has been accepted is served, and what has
not stays in the backlog of the socket, which is systemd's, for the next process.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Sequence

from llmctl.proxy.connecting import accepted
from llmctl.proxy.tasks import log, spawn

_AT_ONCE = 64
_PAUSE_S = 0.5


class Doors:
    """Accepts what comes on some sockets, and gives each connection to a protocol of `make`.

    is_quiet: nothing has been accepted that no protocol has yet.
    """

    def __init__(
        self, sockets: Sequence[socket.socket], make: Callable[[], asyncio.BufferedProtocol]
    ) -> None:
        self._sockets, self._make = sockets, make
        self._loop = asyncio.get_running_loop()
        self._coming = 0
        self._is_open = False

    @property
    def is_quiet(self) -> bool:
        """See the class."""
        return self._coming == 0

    def open(self) -> None:
        """From now on."""
        self._is_open = True
        for one in self._sockets:
            one.settimeout(0)
            self._loop.add_reader(one.fileno(), self._ready, one)

    def close(self) -> None:
        """No more. The sockets themselves stay open until the process ends: closing the last hold
        on one would reset what waits in its backlog."""
        self._is_open = False
        for one in self._sockets:
            self._loop.remove_reader(one.fileno())

    def _ready(self, door: socket.socket) -> None:
        for _ in range(_AT_ONCE):
            try:
                connection, _ = door.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionAbortedError:
                continue
            except OSError as error:  # no descriptors, no memory: accept(2)
                self._pause(door, error)
                return
            self.let_in(connection)

    def let_in(self, connection: socket.socket) -> None:
        """A connection, accepted here or by the process before."""
        connection.settimeout(0)
        self._coming += 1
        spawn(self._come_in(connection), name="accept")

    async def _come_in(self, connection: socket.socket) -> None:
        try:
            with contextlib.suppress(OSError):  # it has gone already
                await accepted(connection, self._make())
        finally:
            self._coming -= 1

    def _pause(self, door: socket.socket, error: OSError) -> None:
        """Trying again at once would only burn; what comes meanwhile waits in the backlog."""
        log(f"no connection can be accepted: {error.strerror}")
        self._loop.remove_reader(door.fileno())
        self._loop.call_later(_PAUSE_S, self._resume, door)

    def _resume(self, door: socket.socket) -> None:
        if self._is_open:
            self._loop.add_reader(door.fileno(), self._ready, door)
