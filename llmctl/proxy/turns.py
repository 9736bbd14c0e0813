"""Whose turn it is: which model of a group runs next, and which requests wait for it.

One machine per group. Events are method calls with the time; what is to be done comes back as
actions. Rules:

- A request for the model that is ready goes ahead at once.
- Others wait, collated by model: one switch serves all that wait for the same one, so six requests
  ABABAB cost at most two switches.
- The model whose first request has waited longest comes next, when nothing is under way any more.
- Nobody starves: once somebody has waited `max_wait` seconds, no further request for the running
  model goes ahead; what is under way has `drain_timeout` seconds to end, and is then cut.
- A switch by hand is an observation like any other: what waits for the new model goes ahead. One
  that is wanted is joined, since the engine can tell how far it is; another is waited for, within
  bounds.
"""

from collections import OrderedDict
from collections.abc import Collection

import msgspec

from llmctl.proxy.dialect import Trouble

Ticket = int


class Admit(msgspec.Struct, frozen=True):
    """A waiting request may go ahead."""

    ticket: Ticket


class Refuse(msgspec.Struct, frozen=True):
    """A waiting request cannot be served."""

    ticket: Ticket
    trouble: Trouble


class StartSwitch(msgspec.Struct, frozen=True):
    """Make this model the running one; `switched` or `failed` says how it went."""

    model: str


class Cut(msgspec.Struct, frozen=True):
    """The time to end is over: cut what is under way on this model."""

    model: str


Action = Admit | Refuse | StartSwitch | Cut


class _Waiter(msgspec.Struct):
    model: str
    since: float


def stopped_by_hand(model: str, asked: str) -> Trouble:
    """What is told to whom waited for `asked` when somebody stopped `model`. Who would ask again by
    himself (an SDK) is told not to: that would undo the stop within a second."""
    return Trouble(
        503, "stopped",
        f"{model} was stopped by hand, and what waited does not start a model again. "
        f"Type: llmctl switch {asked}",
        is_final=True,
    )  # fmt: skip


class Turns:
    """The requests of one group."""

    def __init__(self, *, max_wait: float, drain_timeout: float, autoswitch: bool = True) -> None:
        self.max_wait, self.drain_timeout, self.autoswitch = max_wait, drain_timeout, autoswitch
        self.ready: str | None = None
        """The model that answers now."""
        self.coming: str | None = None
        """The model that is loading, by whomever it was started."""
        self.leaving = False
        """Is one that ran about to end?"""
        self.switching: str | None = None
        """The model that we are switching to."""
        self.busy: dict[str, int] = {}
        """Requests under way, per model."""
        self.waiting: OrderedDict[Ticket, _Waiter] = OrderedDict()
        self.switches = 0
        self.idle_since = 0.0
        """When the last request under way ended."""
        self.is_held = False
        """May no switch begin now? In a pool its members take turns with that (shared.py)."""
        self.is_going = False
        """Is the model being stopped by us?"""
        self.is_closed = False
        """Do requests wait although the model is ready? It is to go, or going."""
        self._draining_since: float | None = None
        self._has_cut = False
        self._running: str | None = None
        """The model that ran or came when it was last looked at."""
        self._off: tuple[str, float] | None = None
        """The model that was stopped by hand, and when, until another one runs."""

    # Requests

    def arrive(
        self, ticket: Ticket, model: str, now: float, *, since: float | None = None
    ) -> list[Action]:
        """A request came. An Admit of it among the actions: it need not wait.

        since: it has waited before, and keeps its place.
        """
        if self.lets_ahead(model, now):
            self.goes_ahead(model)
            return [Admit(ticket)]
        if since is not None and self._off is not None and since <= self._off[1]:
            return [Refuse(ticket, stopped_by_hand(self._off[0], model))]
        waiter = _Waiter(model, now if since is None else since)
        self.waiting[ticket] = waiter
        if since is not None:
            self.waiting.move_to_end(ticket, last=False)
        return self._next(now)

    def lets_ahead(self, model: str, now: float) -> bool:
        """Need a request that comes now not wait?"""
        return model == self.ready and self._is_open(now)

    @property
    def is_open(self) -> bool:
        """Does nobody wait, and is nothing changing? Then all that is asked of the ready model goes
        ahead."""
        return not self.waiting and self.switching is None and not self.is_closed

    def goes_ahead(self, model: str) -> None:
        """One that need not wait is under way from now on."""
        self.busy[model] = self.busy.get(model, 0) + 1

    def leave(self, ticket: Ticket, now: float) -> list[Action]:
        """A waiting request's client has gone."""
        self.waiting.pop(ticket, None)
        return self._next(now)

    def done(self, model: str, now: float) -> list[Action]:
        """A request that was under way has ended."""
        left = self.busy.get(model, 0) - 1
        if left > 0:
            self.busy[model] = left
        else:
            self.busy.pop(model, None)
            self.idle_since = now
        return self._next(now)

    # What happens to models

    def observed(
        self, ready: str | None, coming: str | None, now: float, *, leaving: bool = False,
        stopped: Collection[str] = (),
    ) -> list[Action]:  # fmt: skip
        """What systemd and the server say: which model is ready, which one is on its way. leaving:
        one is about to end, and is not started again before it has: that would undo the stop
        half-way. stopped: those that somebody stopped, and that did not fail."""
        is_new = ready is not None and ready != self.ready
        if is_new:
            self.idle_since = now
        self.ready, self.coming, self.leaving = ready, coming, leaving
        ended, self._running = (
            self._running,
            ready or coming or (self._running if leaving else None),
        )
        if ended is not None and self._running is None and ended in stopped:
            return self._turned_off(ended, now)
        if ready or coming:
            self._off = None
        # Who waited for it goes ahead, however long others have waited: else two models could take
        # turns for ever without serving anybody.
        admitted = self._admitted() if is_new and self.switching is None else []
        return admitted + self._next(now)

    def _turned_off(self, model: str, now: float) -> list[Action]:
        self._off = model, now
        told: list[Action] = [
            Refuse(ticket, stopped_by_hand(model, one.model))
            for ticket, one in self.waiting.items()
        ]
        self.waiting.clear()
        return told + self._next(now)

    def doubt(self, model: str) -> None:
        """The model that was ready did not answer. Whether it is to be started again is known when
        it has been looked at: somebody may have stopped it."""
        if self.ready == model:
            self.ready, self.coming, self.leaving = None, model, True

    def goes(self) -> None:
        """The model is told to stop by us: it is neither there nor stopped by hand. `gone` says
        that it has ended."""
        self.is_going = self.leaving = True
        self.ready = self.coming = self._running = None

    def gone(self, now: float) -> list[Action]:
        """It has. Who asks for it waits for it to be started again."""
        self.is_going = self.leaving = False
        return self._next(now)

    def switched(self, model: str, now: float) -> list[Action]:
        """Our switch succeeded."""
        self.switching = self._draining_since = None
        return self.observed(model, None, now)

    def failed(
        self, model: str, trouble: Trouble, now: float, *, ready: str | None,
        stopped: Collection[str] = (),
    ) -> list[Action]:  # fmt: skip
        """Our switch failed: who waits for the model is told so. ready: what runs instead. stopped:
        see `observed`."""
        self.switching = self._draining_since = None
        self._running = model
        refused = [ticket for ticket, one in self.waiting.items() if one.model == model]
        for ticket in refused:
            del self.waiting[ticket]
        told = (Refuse(ticket, trouble) for ticket in refused)
        return [*told, *self.observed(ready, None, now, stopped=stopped)]

    def displaced(self, ready: str | None, coming: str | None, now: float) -> list[Action]:
        """Somebody switched to another model while ours was loading: who waits goes on waiting, for
        theirs to end as for any switch by hand."""
        self.switching = self._draining_since = None
        return self.observed(ready, coming, now)

    def tick(self, now: float) -> list[Action]:
        """Time has passed."""
        return self._next(now)

    # Deciding

    def _is_open(self, now: float) -> bool:
        """Do further requests for the ready model go ahead? Not when somebody has waited long."""
        if self.switching is not None or self.is_closed:
            return False
        if not self.waiting:
            return True
        oldest = self._oldest()
        return oldest is None or not self.autoswitch or now - oldest.since < self.max_wait

    def _oldest(self) -> _Waiter | None:
        """Of those that wait for another model than the one that is ready, who came first."""
        if not self.waiting:
            return None
        others = (one for one in self.waiting.values() if one.model != self.ready)
        return min(others, key=lambda one: one.since, default=None)

    def _next(self, now: float) -> list[Action]:
        actions: list[Action] = []
        if self.switching is not None:
            return actions
        if not self.waiting:
            self._draining_since, self._has_cut = None, False
            return actions
        oldest = self._oldest()
        if self.ready is not None and self._is_open(now):
            actions += self._admitted()
        if oldest is None or not self.autoswitch:
            self._draining_since, self._has_cut = None, False
            return actions
        return actions + self._towards(oldest, now)

    def _admitted(self) -> list[Action]:
        """All that wait for the ready model."""
        assert self.ready is not None  # noqa: S101  # the caller looked
        mine = [ticket for ticket, one in self.waiting.items() if one.model == self.ready]
        for ticket in mine:
            del self.waiting[ticket]
        if mine:
            self.busy[self.ready] = self.busy.get(self.ready, 0) + len(mine)
        return [Admit(ticket) for ticket in mine]

    def _towards(self, oldest: _Waiter, now: float) -> list[Action]:
        """The switch to the model that has been waited for longest, or a step towards it."""
        if self.is_held:
            return []
        under_way, waited = sum(self.busy.values()), now - oldest.since
        is_theirs = self.leaving or self.coming not in (None, oldest.model)
        if is_theirs and waited < self.max_wait + self.drain_timeout:
            return []  # somebody else's switch ends as it ends, and is observed
        if not under_way:
            self.switching, self._draining_since, self._has_cut = oldest.model, None, False
            self.switches += 1
            return [StartSwitch(oldest.model)]
        if waited < self.max_wait:
            return []
        if self._draining_since is None:
            self._draining_since = now
        if self._has_cut or now - self._draining_since < self.drain_timeout:
            return []
        self._has_cut = True
        return [Cut(model) for model in self.busy]
