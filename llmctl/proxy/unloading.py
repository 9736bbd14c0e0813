"""Ends models that run: for others that need the room, and after idleness (`ttl`).

From the moment on at which it is decided, nothing new goes to such a model: who asks for it waits
until it has ended, and starts it again. So no request is lost to it.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec

from llmctl.errors import LlmctlError
from llmctl.proxy.routing import Served
from llmctl.proxy.tasks import spawn

if TYPE_CHECKING:
    from llmctl.proxy.keeper import Keeper
    from llmctl.proxy.parties import Told
    from llmctl.proxy.switchboard import Switchboard
    from llmctl.proxy.turns import Turns

ROOM, TTL = "room", "ttl"
"""Why a model is unloaded."""


class Unloaded(msgspec.Struct, frozen=True):
    """Why a model does not run. at: when that was decided."""

    why: str
    room_for: str | None
    at: float


class Unloading:
    """Of one box. changes: a number that is another one whenever something began or ended. last: of
    each model that does not run since we stopped it."""

    def __init__(
        self, board: "Switchboard", keeper: "Keeper", now: Callable[[], float], told: "Told"
    ) -> None:
        self._board, self._keeper, self._now, self._told = board, keeper, now, told
        self.changes = 0
        self._last: dict[str, Unloaded] = {}

    @property
    def last(self) -> dict[str, Unloaded]:
        """Of those that do not run, or are not about to."""
        served, loading = self._board.table.served, self._board.loading
        for name in list(self._last):
            queue = self._board.queues.get(served[name].queue) if name in served else None
            if queue is None or name in loading or name in (queue.ready, queue.coming):
                del self._last[name]
        return self._last

    def tick(self) -> None:
        """Time has passed: whoever has had nothing to do for its ttl goes."""
        for served in list(self._board.table.served.values()):
            turns = self._board.queues.get(served.queue)
            if turns is not None and _is_over(served, turns, self._now()):
                self.begin([served], why=TTL)

    def begin(
        self, those: Sequence[Served], *, why: str, room_for: str | None = None,
        then: Callable[[], None] | None = None,
    ) -> None:  # fmt: skip
        """Models that answer and have nothing to do are stopped. then: they are gone, or would not
        go, which the next look tells."""
        self.changes += 1
        for one in those:
            turns = self._board.turns(one.queue)
            idle_s = self._now() - turns.idle_since
            turns.goes()
            self._last[one.name] = Unloaded(why, room_for, self._now())
            self._board.is_gone(one)
            self._told.unloading(one.name, "began", why=why, room_for=room_for, idle_s=idle_s)
        names = ", ".join(one.name for one in those)
        spawn(self._stop(those, why, room_for, then), name=f"unload {names}")

    async def _stop(
        self, those: Sequence[Served], why: str, room_for: str | None,
        then: Callable[[], None] | None,
    ) -> None:  # fmt: skip
        began, outcome = self._now(), "failed"
        try:
            await asyncio.to_thread(self._keeper.unload, tuple(one.name for one in those))
            outcome = "ok"
        except LlmctlError as error:
            self._board.problem = error.message
        finally:
            self.changes += 1
            for one in those:
                self._told.unloading(
                    one.name, outcome, why=why, room_for=room_for, total_s=self._now() - began
                )
                self._board.act(one.queue, self._board.turns(one.queue).gone(self._now()))
            if then is not None:
                then()
            self._board.wake()


def _is_over(served: Served, turns: "Turns", now: float) -> bool:
    """Has it had nothing to do for as long as its profile says, and does nobody wait for anything
    of its group?"""
    if served.ttl_s is None or turns.ready != served.name or turns.switching is not None:
        return False
    return not turns.busy and not turns.waiting and now - turns.idle_since >= served.ttl_s
