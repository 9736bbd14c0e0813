"""Which models there are, which of them answers, and whose turn is next.

It looks at the box when something may have changed, keeps one `Turns` per group, and carries out
what they say: requests go ahead, are refused or cut, and switches are made, in threads, through the
Keeper. A switch by hand is seen by the next look, like anything else that happens to a model.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from llmctl.core.proxy_settings import ProxySettings
from llmctl.errors import DisplacedError, LlmctlError, TakenDownError
from llmctl.proxy.dialect import Trouble
from llmctl.proxy.failures import CUT, Failures
from llmctl.proxy.fallback import Rests
from llmctl.proxy.keeper import Keeper, Seen
from llmctl.proxy.loading import Loading
from llmctl.proxy.moving import move
from llmctl.proxy.parties import Told, Waiting
from llmctl.proxy.pool import Pool
from llmctl.proxy.pools import Pools
from llmctl.proxy.recovery import Recovery
from llmctl.proxy.replicas import Replicas
from llmctl.proxy.routing import Served, Table
from llmctl.proxy.sharing import Sharing
from llmctl.proxy.tasks import log, spawn
from llmctl.proxy.turns import Action, Admit, Cut, Refuse, StartSwitch, Turns
from llmctl.proxy.unloading import Unloading

if TYPE_CHECKING:
    from llmctl.proxy.keys import Keyring

LOOK_EVERY_S = 5.0
LOOK_WHILE_LOADING_S = 0.25


class Switchboard:
    """The models of one box. problem: why the last look gave nothing. is_known: one gave something,
    so that the settings are those that somebody wrote. keys: None, where there are to be none."""

    def __init__(
        self, keeper: Keeper, requests: Mapping[int, Waiting], now: Callable[[], float], told: Told
    ) -> None:
        self._keeper, self._requests, self._now, self._told = keeper, requests, now, told
        self.is_known = False
        self.keys: Keyring | None = None
        self.settings = ProxySettings()
        self.table = Table()
        self.problem: str | None = None
        self.problems: tuple[str, ...] = ()
        self.loading: dict[str, Loading] = {}
        self.queues: dict[str, Turns] = {}
        self.pools = Pools()
        self._failures, self.rests = Failures(), Rests()
        self._wake = asyncio.Event()
        self.replicas = Replicas(self, keeper, requests, now, told)
        self.recovery = Recovery(self, keeper, now, told)
        self.unloading = Unloading(self, keeper, now, told)
        self.sharing = Sharing(self, keeper, now)

    # Looking at the box

    async def watch(self) -> None:
        """For ever: look when something happens, often while something loads, else now and then."""
        while True:
            self._wake.clear()
            await self.look()
            is_loading = any(turns.coming for turns in self.queues.values())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_WHILE_LOADING_S if is_loading else LOOK_EVERY_S):
                    await self._wake.wait()

    def wake(self) -> None:
        """Something has changed, or may have."""
        self._wake.set()

    def reload(self) -> None:
        """Somebody says that the configuration has changed: what failed may do now."""
        for known in (self._failures, self.rests):
            known.clear()
        self.replicas.reset()
        self.recovery.reset()
        self._wake.set()

    async def look(self) -> None:
        """One look; what it cannot see stays as it was, and what it saw before a switch of ours
        began or ended is not believed."""
        changes = self._changes
        try:
            seen = await asyncio.to_thread(self._keeper.look)
        except LlmctlError as error:
            self._note(error.message, self.problems)
            return
        self._note(None, seen.problems)
        if changes == self._changes:
            self._observe(seen)

    @property
    def _changes(self) -> tuple[object, ...]:
        switches = [(one.switches, one.switching is None) for one in self.queues.values()]
        return switches, self.replicas.changes, self.unloading.changes

    def _note(self, problem: str | None, problems: tuple[str, ...]) -> None:
        """What is wrong is said once, and that all is well again is, too."""
        before = {self.problem, *self.problems} - {None}
        now = {problem, *problems} - {None}
        for text in sorted(map(str, now - before)):
            log(f"{text}\nWhat was right before that stays in force.")
        if before and not now:
            log("All is well again.")
        self.problem, self.problems = problem, problems

    def _observe(self, seen: Seen) -> None:
        self.settings, self.keys, self.is_known = seen.settings, seen.keys, True
        self.sharing.looks(seen.served)
        move(self.table, seen.served, self._requests.values(), self.turns)
        self.table = Table.of(seen.served, self.sharing.by_use(seen.ready), seen.coming)
        for queue in {one.queue for one in seen.served} | set(self.queues):
            turns = self.turns(queue)
            if turns.switching is None and not turns.is_going:
                ready, coming = seen.ready.get(queue), seen.coming.get(queue)
                leaving = self._is_left(queue, seen)
                self.act(queue, turns.observed(
                    ready, coming, self._now(), leaving=leaving, stopped=seen.stopped
                ))  # fmt: skip
        self.replicas.observe(seen.served, seen.replicas)
        self.recovery.observe(seen)
        for name in seen.stopping:
            self._part(name)
        self.sharing.looked((*seen.served, *seen.replicas))

    def _is_left(self, queue: str, seen: Seen) -> bool:
        """Is a model of that queue about to end?"""
        return any(one.name in seen.stopping and one.queue == queue for one in seen.served)

    def _part(self, name: str) -> None:
        """A model is told to stop. Nothing may hold it: llama-server ends only when its streams
        have, and notices a closed one at once, but not that nobody wants more of an open one."""
        self.pools.close_idle(name)
        for request in self._under_way(name):
            request.lost("it was stopped")

    def gives_up(self, served: Served, trouble: Trouble, until: float) -> None:
        """It is not to be started for requests before then; who waits for it is told so."""
        self._failures.hold(served.name, trouble, until)
        turns = self.turns(served.queue)
        if turns.switching is None:
            self.act(served.queue, turns.failed(served.name, trouble, self._now(), ready=None))

    def end_all(self, model: str, trouble: Trouble) -> None:
        """What a model works on is lost."""
        for request in self._under_way(model):
            request.refuse(trouble)

    def _under_way(self, model: str) -> list[Waiting]:
        """The requests that a model works on."""
        return [
            one for one in self._requests.values()
            if one.served is not None and one.served.name == model and not one.is_waiting
        ]  # fmt: skip

    def turns(self, queue: str) -> Turns:
        """The machine of a queue, with the settings of now."""
        found = self.queues.get(queue)
        if found is None:
            found = self.queues[queue] = Turns(max_wait=0, drain_timeout=0)
        found.max_wait = self.settings.max_wait_s
        found.drain_timeout = self.settings.drain_timeout_s
        found.autoswitch = self.settings.autoswitch
        return found

    def pool(self, served: Served) -> Pool:
        """The connections to an instance."""
        return self.pools.of(served)

    @property
    def routes(self) -> Table:
        """The table for requests: while nothing is active, those that name no model are for the one
        that is about to start."""
        if self.table.default is not None:
            return self.table
        found = (one for one in (*self.loading, *self.sharing.starts) if one in self.table.served)
        return self.table.with_coming(next(found, None))

    # Requests

    def arrive(self, request: Waiting, served: Served, *, since: float | None) -> None:
        """It wants its model. since: it has waited before, and keeps its place."""
        queue, now = served.queue, self._now()
        turns = self.turns(queue)
        trouble = self._failures.keeps_out(turns, served.name, self.settings, now)
        if trouble is not None:
            request.refuse(trouble)
            return
        self.act(queue, turns.arrive(request.ticket, served.name, now, since=since))

    def leave(self, request: Waiting, served: Served) -> None:
        """It waits no longer."""
        queue = served.queue
        self.act(queue, self.turns(queue).leave(request.ticket, self._now()))

    def done(self, served: Served, ticket: int) -> None:
        """A server has no more work for a request of it."""
        if served.most > 1 or served.number > 1:
            self.replicas.left(served, ticket)
        queue = served.queue  # it is there: a request of it was under way
        self.act(queue, self.queues[queue].done(served.name, self._now()))

    def doubt(self, served: Served) -> None:
        """A model that was ready did not answer: it is not ready until it has been seen again."""
        if served.far is not None:
            return  # it has no queue here, and no look sees it
        if served.number > 1:
            self.replicas.doubt(served)
        else:
            self.turns(served.queue).doubt(served.name)
        self.wake()

    def tick(self) -> None:
        """Time has passed."""
        for queue, turns in list(self.queues.items()):
            self.act(queue, turns.tick(self._now()))
        self.replicas.tick()
        self.unloading.tick()
        self.sharing.tick()

    # Doing what the machines say

    def act(self, queue: str, actions: Sequence[Action]) -> None:
        """Carry it out. A request that has ended meanwhile is not there any more."""
        for action in actions:
            match action:
                case Admit(ticket):
                    if ticket in self._requests:
                        self._requests[ticket].admitted()
                case Refuse(ticket, trouble):
                    if ticket in self._requests:
                        self._requests[ticket].refuse(trouble)
                case StartSwitch(model):
                    spawn(self._switch(queue, model), name=f"switch to {model}")
                case Cut(model):
                    self.end_all(model, CUT)
        self.sharing.after(queue)

    async def _switch(self, queue: str, model: str) -> None:
        turns = self.turns(queue)
        if turns.ready is not None:
            self.pools.close_idle(turns.ready)
        loading, began = self.loading.setdefault(model, Loading(model)), self._now()
        self._told.switching(model)
        try:
            await asyncio.to_thread(
                self._keeper.switch, model, timeout=self.settings.switch_timeout_s,
                progress=loading.see,
            )  # fmt: skip
        except LlmctlError as error:
            self._told.switched(model, self._now() - began, why=error.message)
            await self._failed(queue, model, error)
            return
        finally:
            del self.loading[model]
        self._told.switched(model, self._now() - began)
        self._failures.forget(model)
        self.table = self.table.with_active(queue, model)
        self.act(queue, turns.switched(model, self._now()))
        self.wake()

    def is_gone(self, served: Served) -> None:
        """It is told to end by us, and has nothing to do."""
        self.pools.close_idle(served.name)
        self.table = self.table.without(served.queue)

    def denied(self, served: Served, error: LlmctlError) -> None:
        """It cannot be started now: who waits for it is told why."""
        trouble = self._failures.note(served.name, error, self._now())
        turns = self.turns(served.queue)
        self.act(served.queue, turns.failed(served.name, trouble, self._now(), ready=None))

    async def _failed(self, queue: str, model: str, error: LlmctlError) -> None:
        """What runs instead is what systemd says. A model that had to make way for somebody's
        switch has not failed."""
        ready = coming = None
        stopped = (model,) if isinstance(error, TakenDownError) else ()
        try:
            seen = await asyncio.to_thread(self._keeper.look)
            move(self.table, seen.served, self._requests.values(), self.turns)
            self.table = Table.of(seen.served, seen.ready, seen.coming)
            ready, coming = seen.ready.get(queue), seen.coming.get(queue)
        except LlmctlError as blind:
            self.problem = blind.message
        turns = self.turns(queue)
        if isinstance(error, DisplacedError) and (ready or coming):
            self.act(queue, turns.displaced(ready, coming, self._now()))
        else:
            trouble = self._failures.note(model, error, self._now())
            self.act(queue, turns.failed(model, trouble, self._now(), ready=ready, stopped=stopped))
        self.wake()
