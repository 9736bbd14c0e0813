"""The pools of a box: what their machines say (shared.py) is done here, through the Keeper."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llmctl.core.holding import ALONE, device_of, planned
from llmctl.errors import DoesNotFitError, LlmctlError
from llmctl.proxy.routing import Served
from llmctl.proxy.shared import Action, Cut, Deny, Evict, Open, Shared, Trim, Weigh
from llmctl.proxy.tasks import spawn
from llmctl.proxy.turns import Cut as CutModel
from llmctl.proxy.unloading import ROOM

if TYPE_CHECKING:
    from llmctl.core.eviction import Ledger
    from llmctl.proxy.keeper import Keeper
    from llmctl.proxy.switchboard import Switchboard


class Sharing:
    """Of one box. pools: by the name of the group."""

    def __init__(self, board: "Switchboard", keeper: "Keeper", now: Callable[[], float]) -> None:
        self._board, self._keeper, self._now = board, keeper, now
        self.pools: dict[str, Shared] = {}
        self._pool_of: dict[str, str] = {}
        """By queue."""
        self._members: dict[str, Served] = {}
        self._running: dict[str, set[tuple[str, int]]] = {}
        self._is_looking = self._is_held = False

    # What a look saw

    def looks(self, served: Sequence[Served]) -> None:
        """Before anything of a look is acted on: which pools there are, and of whom."""
        self._is_looking = True
        mine = [one for one in served if one.pool is not None]
        before, self._members = set(self._pool_of), {one.name: one for one in mine}
        self._pool_of = {one.queue: one.pool for one in mine if one.pool is not None}
        for queue in before - set(self._pool_of):  # what still waits there is not kept waiting
            self._board.queues[queue].is_held = self._board.queues[queue].is_closed = False
        for name in list(self.pools):
            if name not in self._pool_of.values():
                del self.pools[name]
        for group in dict.fromkeys(self._pool_of.values()):
            shared = self.pools.setdefault(group, Shared())
            members = [one for one in mine if one.pool == group]
            shared.pinned = frozenset(one.name for one in members if one.pinned)
            shared.turns = {one.name: self._board.turns(one.queue) for one in members}
            for turns in shared.turns.values():
                turns.is_held = True

    def by_use(self, ready: Mapping[str, str]) -> dict[str, str]:
        """What is ready, by queue; of each pool the one that was used last comes first: that is the
        one for requests that name no model."""
        last = {queue: self._last_use(queue) for queue in ready if queue in self._pool_of}
        places: dict[str, int] = {}
        for queue in ready:
            places.setdefault(self._pool_of.get(queue, queue), len(places))

        def place(queue: str) -> tuple[int, float]:
            return places[self._pool_of.get(queue, queue)], -last.get(queue, 0.0)

        return {queue: ready[queue] for queue in sorted(ready, key=place)}

    def _last_use(self, queue: str) -> float:
        turns = self._board.turns(queue)
        return self._now() if turns.busy else turns.idle_since

    def looked(self, instances: Sequence[Served]) -> None:
        """All of it has been acted on. instances: all there are, of whatever group."""
        self._is_looking = False
        running = {(one.label, one.pid) for one in instances if one.pid}
        for group, shared in self.pools.items():
            if self._running.get(group) != running:
                self._running[group] = running
                shared.changed()
            self._settle(shared)
        self._hold()

    # What else happens

    def after(self, queue: str) -> None:
        """Something in this queue may have changed."""
        group = self._pool_of.get(queue)
        if group is None or self._is_looking:
            return
        shared, turns = self.pools[group], self._board.turns(queue)
        if turns.busy and not turns.waiting and shared.starting is None:
            return  # nothing of what one that works does makes it go, or makes it start
        if self._is_held or not shared.is_quiet:
            self._settle(shared)

    def tick(self) -> None:
        """Time has passed."""
        for shared in list(self.pools.values()):
            self._settle(shared)

    def changed(self) -> None:
        """A replica has started or ended."""
        for shared in self.pools.values():
            shared.changed()

    @property
    def starts(self) -> list[str]:
        """Members that are about to start, or for which others go."""
        found = (one.starting or one.weighing or one.room_for for one in self.pools.values())
        return [name for name in found if name is not None]

    # Doing what the machines say

    def _settle(self, shared: Shared) -> None:
        settings = self._board.settings
        shared.max_wait, shared.drain_timeout = settings.max_wait_s, settings.drain_timeout_s
        replicas = self._board.replicas
        shared.is_held_up = replicas.is_changing
        shared.spare = frozenset(name for name in shared.turns if replicas.spare(name))
        actions = shared.settle(self._now())
        self._close(shared)
        self._hold()
        for action in actions:
            self._act(shared, action)

    def _hold(self) -> None:
        """No replica is started while a member of a pool wants memory."""
        self._is_held = any(one.is_wanted for one in self.pools.values())
        self._board.replicas.hold(is_held=self._is_held)

    def _close(self, shared: Shared) -> None:
        """Who takes no requests, and who takes some again."""
        for name, turns in shared.turns.items():
            was, turns.is_closed = turns.is_closed, name in shared.closed
            if was and not turns.is_closed:
                self._board.act(self._queue(name), turns.tick(self._now()))

    def _queue(self, name: str) -> str:
        return self._members[name].queue

    def _act(self, shared: Shared, action: Action) -> None:
        match action:
            case Weigh(model):
                spawn(self._weigh(shared, model), name=f"weigh {model}")
            case Open(model):
                turns = shared.turns[model]
                turns.is_held = False
                started = turns.tick(self._now())
                turns.is_held = True
                self._board.act(self._queue(model), started)
            case Evict(model, names):
                served = [self._members[name] for name in names]
                self._board.unloading.begin(
                    served, why=ROOM, room_for=model,
                    then=lambda: self._evicted(shared, model),
                )  # fmt: skip
            case Trim(model):
                self._board.replicas.trim(model)
            case Deny(model, why):
                self._deny(model, DoesNotFitError(why))
            case Cut(model):
                self._board.act(self._queue(model), [CutModel(model)])

    def _evicted(self, shared: Shared, model: str) -> None:
        shared.evicted(model, self._now())
        self._settle(shared)

    async def _weigh(self, shared: Shared, model: str) -> None:
        ledger: Ledger | None = None
        try:
            ledger = await asyncio.to_thread(self._keeper.ledger, model)
            shared.weighed(model, ledger, self._now())
        except LlmctlError as error:
            self._deny(model, error)
        finally:
            if ledger is None:
                shared.refused()
        self._settle(shared)

    def _deny(self, model: str, error: LlmctlError) -> None:
        """It cannot start, and who waits is told why. Somebody may have started it by now."""
        served = self._members.get(model)
        if served is None:
            return
        turns = self._board.turns(served.queue)
        if turns.ready is None and turns.coming is None and turns.switching is None:
            self._board.denied(served, error)

    # For who looks on

    def facts(self) -> dict[str, Any]:
        """For /llmctl/status."""
        return {name: _facts(shared, self._now()) for name, shared in self.pools.items()}


def _sizes(held: Mapping[str, int]) -> dict[str, int]:
    """By device, as its plan says, where there is one."""
    found = {device_of(name): size for name, size in held.items() if name != ALONE}
    return found | {
        device_of(name): size for name, size in held.items() if name == planned(device_of(name))
    }


def _facts(shared: Shared, now: float) -> dict[str, Any]:
    return {
        "members": {
            name: {
                "ready": turns.ready == name, "in_flight": turns.busy.get(name, 0),
                "waiting": len(turns.waiting), "pinned": name in shared.pinned,
                "idle_s": None if turns.busy or turns.ready is None
                else round(now - turns.idle_since, 3),
                "load_s": shared.loads_s.get(name),
                "holds_bytes": _sizes(shared.holds.get(name, {})),
            }
            for name, turns in shared.turns.items()
        },
        "starting": shared.starting or shared.weighing, "evicting": list(shared.evicting),
        "closed": sorted(shared.closed), "evictions": shared.evictions,
    }  # fmt: skip
