"""Connections to one model's server: idle ones are used again, the youngest first.

The models of a group share a port, one after the other. So a port says nothing of who listens, but
a connection does: it belongs to the process that accepted it, for good. The first one is asked for
its alias; later ones lead to the same model as long as the same socket takes them (see holder),
and when another does, it is asked again. Where the kernel does not tell, or several may listen at
once, each one is asked. So no answer can come from another model.
"""

import asyncio
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from llmctl.proxy.connecting import connected, connected_at_once
from llmctl.proxy.head import AnswerHead
from llmctl.proxy.port import holder, is_shared
from llmctl.proxy.tasks import spawn
from llmctl.proxy.upstream import Upstream

if TYPE_CHECKING:
    from llmctl.proxy.answer_reader import Known

CONNECT_TIMEOUT_S = 5.0
MOST_IDLE = 64
IDLE_S = 4.0
"""llama-server closes a connection that was idle for 5 s (`Keep-Alive: timeout=5`): one that is
about to be closed is not used again."""

_MOST_SPARE = 4
"""Idle ones, from which on none is opened beforehand."""
_SOON_S = 1.0
"""An end that comes later is that of a connection which nobody used."""
_MOST_TOLD = 1 << 20
"""Bytes of /v1/models that are read."""

Connected = Callable[[Upstream], None]
Failed = Callable[[str], None]


class Pool:
    """The connections to one instance. alias: as it must call itself; key: its API key.
    ends_streams: it ends its connection with each stream, as llama-server (0.7.0) does, whatever
    its head says."""

    def __init__(self, alias: str, port: int, key: str | None) -> None:
        self.alias, self.port, self.key = alias, port, key
        self._idle: list[tuple[float, Upstream]] = []
        self.ends_streams = self._is_wanted = False
        """_is_wanted: has somebody asked since all were to go?"""
        self._holder: bytes | None = None
        """The socket behind the port, when it was the right one's."""
        self._known: Known | None = None
        self._now = time.monotonic

    def take(self, connected: Connected, failed: Failed, *, fresh: bool = False) -> None:
        """An open connection, now if one is idle. fresh: no idle one, whose end may be near."""
        upstream = self._opened() if fresh else self.at_hand()
        if upstream is not None:
            connected(upstream)
            return
        spawn(self._connect(connected, failed), name=f"connect to {self.alias}")

    def at_hand(self) -> Upstream | None:
        """An open connection for which nothing has to be waited."""
        while self._idle:
            since, upstream = self._idle.pop()
            if upstream.is_open and self._now() - since < IDLE_S:
                return upstream
            upstream.close()
        return self._opened()

    def _opened(self) -> Upstream | None:
        """A new one, to the right one for sure. None: somebody else listens, or nobody does yet."""
        self._is_wanted = True
        if self._holder is None:
            return None
        upstream = Upstream(self, self._known)
        if not connected_at_once(upstream, self.port):
            return None
        if holder(self.port) == self._holder:
            return upstream
        upstream.close()
        self._holder = None
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
        """Connect. None: to the right one. OSError: to nobody. Whoever listened before is the right
        one, if it listens later, too: it has then done so all the while."""
        before = holder(self.port)
        await connected(upstream, self.port)
        wrong = await self._identify(upstream)
        if wrong is None and before != self._holder and not is_shared(self.port):
            self._holder, self.ends_streams = before, False
        return wrong

    async def _identify(self, upstream: Upstream) -> str | None:
        """Who answers on this connection? None: the right one."""
        asked = Listener()
        upstream.send(self.get("/v1/models"), None, asked, keep=True)
        status, body = await asked.heard
        upstream.served = 0
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

    def ended(self, upstream: Upstream) -> None:
        """See Releases."""
        since = next((since for since, one in self._idle if one is upstream), None)
        if since is not None and upstream.had_stream and self._now() - since < _SOON_S:
            self.ends_streams = True
            self.spent(upstream)

    def crossed(self, upstream: Upstream) -> None:
        """See Releases."""
        del upstream
        self.ends_streams = True

    def spent(self, upstream: Upstream) -> None:
        """See Releases. Another is there for the next request, before anybody waits."""
        self._known = upstream.known
        if self._is_wanted and len(self._idle) < _MOST_SPARE:
            spare = self._opened()
            if spare is not None:
                self.released(spare)

    def lost(self, upstream: Upstream) -> None:
        """See Releases."""
        self._idle = [one for one in self._idle if one[1] is not upstream]

    def close_idle(self) -> None:
        """Before the server is stopped: an open connection is nothing it should wait for."""
        idle, self._idle, self._is_wanted = self._idle, [], False
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
