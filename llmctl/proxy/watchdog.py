"""Looks at the slots of servers that work, and has those restarted that get nowhere (stalls.py)."""

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from llmctl.core.state import State
from llmctl.proxy.dialect import OTHER, Endpoint
from llmctl.proxy.hangs import stalled
from llmctl.proxy.pool import Listener, Pool
from llmctl.proxy.stalls import Stalls, digest_of
from llmctl.proxy.tasks import spawn

if TYPE_CHECKING:
    from llmctl.proxy.routing import Served
    from llmctl.proxy.switchboard import Switchboard
    from llmctl.proxy.upstream import Upstream

LOOK_TIMEOUT_S = 5.0
SLOTS = "/slots"


class Working(Protocol):
    """A request. is_full: its client takes nothing, so a server may well have done with it."""

    served: "Served | None"
    is_waiting: bool
    is_full: bool
    endpoint: Endpoint


class Watchdog:
    """Of all servers."""

    def __init__(self, board: "Switchboard", requests: Mapping[int, Working]) -> None:
        self._board, self._requests = board, requests
        self._stalls = Stalls()
        self._looking: set[str] = set()

    def pulse(self, now: float) -> None:
        """Once a second."""
        busy = {
            one.served.label for one in self._requests.values()
            if one.served and not (one.is_waiting or one.is_full or one.endpoint is OTHER)
        }  # fmt: skip
        recovery = self._board.recovery
        if busy:
            recovery.gpus.works()
        for served in self._instances:
            name = served.label
            limit, _ = recovery.stall_limit(served)
            if name not in busy or served.state is not State.READY:
                self._stalls.rests(name, now)
            elif (
                self._stalls.works(name, served.pid, now, limit=limit) and name not in self._looking
            ):
                self._looking.add(name)
                spawn(self._look(served), name=f"look at the slots of {name}")

    @property
    def _instances(self) -> "list[Served]":
        return [*self._board.table.served.values(), *self._board.replicas]

    async def _look(self, served: "Served") -> None:
        try:
            digest = digest_of(*await told(self._board.pool(served), SLOTS))
        finally:
            self._looking.discard(served.label)
        recovery = self._board.recovery
        limit, in_words = recovery.stall_limit(served)
        now = next((one for one in self._instances if one.label == served.label), None)
        if now is None or now.pid != served.pid:
            return  # it was restarted meanwhile
        if self._stalls.looked(served.label, digest, limit=limit):
            self._stalls.forget(served.label)
            recovery.restart(served, stalled(served.label, in_words))
        elif self._stalls.stands_still(served.label):
            recovery.gpus.suspect()


async def told(pool: Pool, path: str, *, within: float = LOOK_TIMEOUT_S) -> tuple[int, bytes]:
    """What a server says at `path`, on a connection that is known to be its own: status and body.
    Status 0: no answer in time."""
    connected: asyncio.Future[Upstream] = asyncio.get_running_loop().create_future()

    def take(upstream: "Upstream") -> None:
        if connected.done():
            upstream.close()
        else:
            connected.set_result(upstream)

    def fail(why: str) -> None:
        if not connected.done():
            connected.set_exception(ConnectionError(why))

    upstream = None
    try:
        async with asyncio.timeout(within):
            pool.take(take, fail, fresh=True)
            upstream = await connected
            if not upstream.is_open:
                return 0, b""  # it was ended before this went on
            listener = Listener()
            upstream.send(pool.get(path), None, listener, keep=True)
            return await listener.heard
    except OSError:  # TimeoutError is one
        return 0, b""
    finally:
        if upstream is not None:
            upstream.close()
