"""Connections to one model's server: idle ones are used again, the youngest first.

The models of a group share a port, one after the other. So a port says nothing of who listens, but
a connection does: it belongs to the process that accepted it, for good. Each new one is asked once
for its alias, and from then on no answer on it can come from another model.
"""

import asyncio
import os
import time
from collections.abc import Callable

import msgspec

from llmctl.proxy.head import AnswerHead
from llmctl.proxy.tasks import spawn
from llmctl.proxy.upstream import Upstream
from llmctl.proxy.wire import connected

CONNECT_TIMEOUT_S = 5.0
MOST_IDLE = 64
IDLE_S = 4.0
"""llama-server closes a connection that was idle for 5 s (`Keep-Alive: timeout=5`): one that is
about to be closed is not used again."""

_SOON_S = 1.0
"""An end that comes later is that of a connection which nobody used."""
_MOST_TOLD = 1 << 20
"""Bytes of /v1/models that are read."""

Connected = Callable[[Upstream], None]
Failed = Callable[[str], None]


def _nothing(why: str) -> None:
    """Whoever needs a connection asks again, and is told."""
    del why


class Pool:
    """The connections to one instance. alias: as it must call itself; key: its API key."""

    def __init__(self, alias: str, port: int, key: str | None) -> None:
        self.alias, self.port, self.key = alias, port, key
        self._idle: list[tuple[float, Upstream]] = []
        self._is_opening, self._parted = False, 0
        self._now = time.monotonic

    def take(self, connected: Connected, failed: Failed, *, fresh: bool = False) -> None:
        """An open connection, now if one is idle. fresh: no idle one, whose end may be near."""
        upstream = None if fresh else self.at_hand()
        if upstream is not None:
            connected(upstream)
            return
        spawn(self._connect(connected, failed), name=f"connect to {self.alias}")

    def at_hand(self) -> Upstream | None:
        """An open connection that is there already."""
        while self._idle:
            since, upstream = self._idle.pop()
            if upstream.is_open and self._now() - since < IDLE_S:
                return upstream
            upstream.close()
        return None

    async def _connect(self, connected: Connected, failed: Failed) -> None:
        upstream = Upstream(self)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                wrong = await self.open(upstream)
        except OSError as error:  # TimeoutError is one
            wrong = os.strerror(error.errno) if error.errno else "no answer in time"
        if wrong or not upstream.is_open:
            upstream.close()
            failed(wrong or "the connection was closed")
        else:
            connected(upstream)

    async def open(self, upstream: Upstream) -> str | None:
        """Connect. None: to the right one. OSError: to nobody."""
        await connected(upstream, self.port)
        return await self._identify(upstream)

    async def _identify(self, upstream: Upstream) -> str | None:
        """Who answers on this connection? None: the right one."""
        listener = Listener()
        upstream.send(self.get("/v1/models"), None, listener, keep=True)
        status, body = await listener.heard
        if status == 0:
            return body.decode()
        if status != 200:
            return "it is loading" if status == 503 else f"/v1/models gave {status}"
        try:
            alias = msgspec.json.decode(body)["data"][0]["id"]
        except (msgspec.DecodeError, KeyError, IndexError, TypeError):
            return "it does not say who it is"
        return None if alias == self.alias else f"port {self.port} is {alias}'s now"

    def get(self, path: str) -> bytes:
        """A question of our own."""
        secret = f"Authorization: Bearer {self.key}\r\n" if self.key else ""
        return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n{secret}\r\n".encode()

    def released(self, upstream: Upstream) -> None:
        """See Releases."""
        if len(self._idle) < MOST_IDLE:
            self._idle.append((self._now(), upstream))
        else:
            upstream.close()

    def spent(self, upstream: Upstream) -> None:
        """See Releases. llama-server (0.7.0) ends a connection with each answer that is a stream,
        whatever its head says: another is there for the next request, before anybody waits."""
        ended = [since for since, one in self._idle if one is upstream]
        is_soon = bool(ended) and self._now() - ended[0] < _SOON_S
        if is_soon and len(self._idle) == 1 and not self._is_opening:
            self._is_opening = True
            spawn(self._open_another(self._parted), name=f"another connection to {self.alias}")

    async def _open_another(self, parted: int) -> None:
        """parted: how often all were to go, until now."""

        def connected(upstream: Upstream) -> None:
            if parted == self._parted:
                self.released(upstream)
            else:
                upstream.close()

        try:
            await self._connect(connected, _nothing)
        finally:
            self._is_opening = False

    def lost(self, upstream: Upstream) -> None:
        """See Releases."""
        self._idle = [one for one in self._idle if one[1] is not upstream]

    def close_idle(self) -> None:
        """Before the server is stopped: an open connection is nothing it should wait for."""
        idle, self._idle = self._idle, []
        self._parted += 1
        for _, upstream in idle:
            upstream.close()


class Listener:
    """A Receiver that collects one short answer. heard: its status and body; or 0, and why none
    came."""

    def __init__(self) -> None:
        self.heard: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()
        self._status, self._body = 0, b""

    def upstream_head(self, head: AnswerHead) -> None:
        """See Receiver."""
        self._status = head.status

    def upstream_data(self, data: bytes, *, is_last: bool = False) -> None:
        """See Receiver."""
        del is_last
        if len(self._body) < _MOST_TOLD:
            self._body += data

    def upstream_end(self) -> None:
        """See Receiver."""
        if not self.heard.done():
            self.heard.set_result((self._status, self._body))

    def upstream_lost(self, *, why: str) -> None:
        """See Receiver."""
        if not self.heard.done():
            self.heard.set_result((0, why.encode()))

    def upstream_raw(self, data: bytes) -> None:
        """See Receiver: nobody asked for it."""

    def upstream_full(self) -> None:
        """See Receiver."""

    def upstream_drained(self) -> None:
        """See Receiver."""
