"""A pool of models on a box in memory, for tests of what its machine decides."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from llmctl.core.eviction import Ledger
from llmctl.proxy.dialect import Trouble
from llmctl.proxy.shared import Cut, Deny, Evict, Open, Shared, Trim, Weigh
from llmctl.proxy.turns import Admit, Refuse, StartSwitch, Turns
from llmctl.proxy.turns import Cut as CutTurn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmctl.proxy.shared import Action
    from llmctl.proxy.turns import Action as TurnAction

MIB = 1 << 20
MAX_WAIT, DRAIN = 30.0, 300.0
FAILED = Trouble(503, "switch_failed", "It could not be started.")


class SharedPool:
    """Models with a size each on one device, in MiB. `now` is the test's; starts and stops end when
    it says so. told: what was begun, in order. lag: MiB that are not free, though nobody holds
    them."""

    def __init__(self, capacity: int = 2, **sizes: int) -> None:
        self.sizes = sizes or {"a": 1, "b": 1, "c": 1}
        self.capacity, self.now, self.lag = capacity, 0.0, 0
        self.shared = Shared()
        self.shared.max_wait, self.shared.drain_timeout = MAX_WAIT, DRAIN
        self.turns = {name: Turns(max_wait=MAX_WAIT, drain_timeout=DRAIN) for name in self.sizes}
        self.shared.turns = self.turns
        for one in self.turns.values():
            one.is_held = True
        self.running: set[str] = set()
        self.admitted: dict[int, float] = {}
        self.refused: dict[int, str] = {}
        self.told: list[str] = []
        self._tickets = itertools.count(1)
        self._of: dict[int, str] = {}
        self._for = ""

    # What the test does

    def pins(self, name: str) -> SharedPool:
        """Its profile says that it stays."""
        self.shared.pinned |= {name}
        return self

    def asks(self, name: str, *, since: float | None = None) -> int:
        """A request; its ticket. since: it has waited for another model before."""
        ticket = next(self._tickets)
        self._of[ticket] = name
        self._do(name, self.turns[name].arrive(ticket, name, self.now, since=since))
        return ticket

    def leaves(self, ticket: int) -> None:
        """Its client goes while it waits."""
        name = self._of[ticket]
        self._do(name, self.turns[name].leave(ticket, self.now))

    def done(self, ticket: int) -> None:
        """It has its answer."""
        name = self._of[ticket]
        self._do(name, self.turns[name].done(name, self.now))

    def passes(self, seconds: float) -> None:
        """Time, looked at once a second as the proxy does."""
        end = self.now + seconds
        while self.now < end:
            self.now += min(1.0, end - self.now)
            self.settle()

    def ready(self, name: str) -> None:
        """The start under way has come to its end."""
        assert self.starting == {name}
        self._do(name, self.turns[name].switched(name, self.now))

    def fails(self, name: str) -> None:
        """The same, badly."""
        self.running.remove(name)
        self._do(name, self.turns[name].failed(name, FAILED, self.now, ready=None))

    def gone(self) -> tuple[str, ...]:
        """Those that had to go have gone."""
        names = self.shared.evicting
        assert names
        self.running -= set(names)
        for name in names:
            self._do(name, self.turns[name].gone(self.now))
        self.shared.evicted(self._for, self.now)
        self.settle()
        return names

    def runs(self, name: str) -> None:
        """It is asked for, answers, and has nothing more to do."""
        ticket = self.asks(name)
        while ticket not in self.admitted:
            assert ticket not in self.refused
            self.goes_on()
        self.done(ticket)

    def goes_on(self) -> None:
        """Whatever is under way ends; else a second passes."""
        if self.shared.evicting:
            self.gone()
        elif self.starting:
            self.ready(*self.starting)
        else:
            self.passes(1)

    @property
    def used(self) -> int:
        return sum(self.sizes[name] for name in self.running)

    @property
    def starting(self) -> set[str]:
        return {name for name, one in self.turns.items() if one.switching is not None}

    # What the machines say

    def settle(self) -> None:
        actions = self.shared.settle(self.now)
        for name, one in self.turns.items():
            was, one.is_closed = one.is_closed, name in self.shared.closed
            if was and not one.is_closed:
                self._do(name, one.tick(self.now))
        for action in actions:
            self._act(action)

    def _act(self, action: Action) -> None:
        match action:
            case Weigh(model):
                self.shared.weighed(model, self._ledger(model), self.now)
                self.settle()
            case Open(model):
                self.told.append(f"start {model}")
                one = self.turns[model]
                one.is_held = False
                actions = one.tick(self.now)
                one.is_held = True
                self._do(model, actions)
            case Evict(model, names):
                self._evict(model, names)
            case Deny(model, why):
                trouble = Trouble(503, "does_not_fit", why)
                actions = self.turns[model].failed(model, trouble, self.now, ready=None)
                self._do(model, actions)
            case Cut(model):
                self.told.append(f"cut {model}")
            case Trim(model):
                self.told.append(f"trim {model}")
                self.shared.is_held_up = True

    def _evict(self, model: str, names: Sequence[str]) -> None:
        self.told.append(f"stop {','.join(names)} for {model}")
        self._for = model
        for name in names:
            assert name in self.running
            assert not self.turns[name].busy
            self.turns[name].goes()

    def _ledger(self, model: str) -> Ledger:
        free = max(self.capacity - self.used - self.lag, 0)
        holds = {name: {"gpu": self.sizes[name] * MIB} for name in self.running}
        return Ledger({"gpu": self.sizes[model] * MIB}, {"gpu": free * MIB}, holds)

    def _do(self, name: str, actions: Sequence[TurnAction]) -> None:
        for action in actions:
            match action:
                case Admit(ticket):
                    self.admitted[ticket] = self.now
                case Refuse(ticket, trouble):
                    self.refused[ticket] = trouble.message
                case StartSwitch(model):
                    self._starts(name, model)
                case CutTurn():
                    raise AssertionError(action)
        self.settle()

    def _starts(self, name: str, model: str) -> None:
        assert model == name
        assert self.starting == {model}, "one start at a time"
        self.running.add(model)
        assert self.used + self.lag <= self.capacity, "only what fits is started"
