"""Which instance of a model gets a request, and when there is to be one more, or one less.

One machine per model with replicas. Events are method calls with the time; what is to be done comes
back as actions. Rules, the first that holds:

- The instance that last served the conversation, if it has a free slot.
- The one with the fewest requests of those that have a free slot, in order of their numbers.
- All are busy: one more is started, if there may be one, and the request waits for whichever is
  first, that one or a slot that becomes free. Never are two started at a time.
- There cannot be one more: the one with the fewest requests.

A start that failed, or a replica that died, is not followed by another for a while. A replica that
has had nothing to do for so long is stopped; the first instance never is: it goes with its model.
"""

from collections import OrderedDict
from collections.abc import Collection, Sequence

import msgspec

from llmctl.proxy.affinity import Affinity, Keys

Ticket = int
FIRST = 1
AGAIN_AFTER_S = 30.0
"""How long no start is tried after one that came to nothing: what is free rarely changes sooner."""


class Seat(msgspec.Struct, frozen=True):
    """A request goes to this instance."""

    ticket: Ticket
    number: int


class StartReplica(msgspec.Struct, frozen=True):
    """Start this instance; `started` or `failed` says how it went."""

    number: int


class StopReplica(msgspec.Struct, frozen=True):
    """Stop this instance, which has nothing to do; `stopped` says that it is gone."""

    number: int


Action = Seat | StartReplica | StopReplica


class _One(msgspec.Struct):
    """An instance that answers."""

    since: float
    """When it last had nothing to do, as far as it has nothing to do now."""
    tickets: set[Ticket] = msgspec.field(default_factory=set)


class Instances:
    """The instances of one model. most: of them, the first counted. slots: requests that one works
    on at a time. idle_timeout: in seconds."""

    def __init__(self, *, most: int = 1, slots: int = 1, idle_timeout: float = 600.0) -> None:
        self.most, self.slots, self.idle_timeout = most, slots, idle_timeout
        self.starting: int | None = None
        """The one that we start."""
        self.coming: frozenset[int] = frozenset()
        """Those that load, by whomever they were started."""
        self.stopping: set[int] = set()
        """Those that we stop."""
        self.held: OrderedDict[Ticket, Keys] = OrderedDict()
        """Requests that wait for an instance."""
        self._up: dict[int, _One] = {FIRST: _One(0.0)}
        self._where: dict[Ticket, int] = {}
        self._affinity = Affinity()
        self._not_before = 0.0
        self.is_held = False
        """May none be started now? A member of a pool waits for the memory."""

    @property
    def busy(self) -> dict[int, int]:
        """Requests under way, per instance that answers."""
        return {number: len(one.tickets) for number, one in sorted(self._up.items())}

    # Requests

    def arrive(self, ticket: Ticket, keys: Keys, now: float) -> list[Action]:
        """Its model is ready: where does it go? keys: of its conversation. No Seat of it among the
        actions: it waits."""
        self.held[ticket] = keys
        return self._settle(now)

    def leave(self, ticket: Ticket, now: float) -> list[Action]:
        """It has ended, or needs no place any more."""
        self.held.pop(ticket, None)
        one = self._up.get(self._where.pop(ticket, 0))
        if one is not None and ticket in one.tickets:
            one.tickets.remove(ticket)
            if not one.tickets:
                one.since = now
        return self._settle(now)

    # Instances

    def observed(self, up: Collection[int], coming: Collection[int], now: float) -> list[Action]:
        """Which replicas answer, and which load. The first instance is not their business: no
        request comes here before it is ready. One that is gone and was not stopped has died."""
        self.coming = frozenset(coming)
        here = {FIRST, *up} - self.stopping
        for number in [one for one in self._up if one not in here]:
            self._dies(number, now)
        for number in here - self._up.keys():
            self._up[number] = _One(now)
        return self._settle(now)

    def doubt(self, number: int, now: float) -> None:
        """One that was to answer did not: it gets nothing until it has been seen again."""
        if number != FIRST and number in self._up:
            self._dies(number, now)

    def _dies(self, number: int, now: float) -> None:
        del self._up[number]
        self._not_before = now + AGAIN_AFTER_S

    def started(self, number: int, now: float) -> list[Action]:
        """Our start succeeded."""
        self.starting = None
        self.coming -= {number}
        self._up.setdefault(number, _One(now))
        return self._settle(now)

    def failed(self, number: int, now: float) -> list[Action]:
        """Our start came to nothing."""
        self.starting = None
        self.coming -= {number}
        self._not_before = now + AGAIN_AFTER_S
        return self._settle(now)

    def stopped(self, number: int) -> None:
        """Our stop has ended, be the instance gone or not: the next look tells."""
        self.stopping.discard(number)

    def rests(self, until: float) -> None:
        """No start before then."""
        self._not_before = max(self._not_before, until)

    def reset(self) -> None:
        """Somebody has changed the configuration: what came to nothing may do now."""
        self._not_before = 0.0

    def tick(self, now: float) -> list[Action]:
        """Time has passed."""
        actions = self._settle(now)
        if not self.held:
            for number in [one for one in self._up if self._is_idle(one, now)]:
                del self._up[number]
                self.stopping.add(number)
                actions.append(StopReplica(number))
        return actions

    @property
    def spare(self) -> list[int]:
        """Replicas that have nothing to do, while nobody waits for one."""
        idle = (number for number, one in self._up.items() if not one.tickets)
        return [] if self.held else [number for number in idle if number != FIRST]

    def trim(self) -> list[Action]:
        """Their memory is needed: the spare ones are stopped."""
        numbers = self.spare
        for number in numbers:
            del self._up[number]
            self.stopping.add(number)
        return [StopReplica(number) for number in numbers]

    def _is_idle(self, number: int, now: float) -> bool:
        """A replica with nothing to do for so long, or of which there are too many by now."""
        one = self._up[number]
        is_over = number > self.most or now - one.since >= self.idle_timeout
        return number != FIRST and not one.tickets and is_over

    # Deciding

    def _settle(self, now: float) -> list[Action]:
        """Give places to those that wait, in the order in which they came."""
        actions: list[Action] = []
        for ticket, keys in list(self.held.items()):
            number = self._free(keys)
            if number is None:
                if self._next_number(now) is not None:
                    self.starting = self._next_number(now)
                    assert self.starting is not None  # noqa: S101  # just looked at
                    actions.append(StartReplica(self.starting))
                if self.starting is not None or self.coming:
                    return actions
                number = self._least()
            actions.append(self._seat(ticket, keys, number))
        return actions

    def _seat(self, ticket: Ticket, keys: Keys, number: int) -> Seat:
        del self.held[ticket]
        self._up[number].tickets.add(ticket)
        self._where[ticket] = number
        self._affinity.note(keys, number)
        return Seat(ticket, number)

    def _free(self, keys: Keys) -> int | None:
        """The best one with a free slot."""
        free = [number for number, one in self._up.items() if len(one.tickets) < self.slots]
        known = self._affinity.find(keys)
        if known in free:
            return known
        return min(free, key=lambda one: (len(self._up[one].tickets), one), default=None)

    def _least(self) -> int:
        return min(self._up, key=lambda one: (len(self._up[one].tickets), one))

    def _next_number(self, now: float) -> int | None:
        """Of one that may be started now."""
        if self.is_held or self.starting is not None or self.coming or now < self._not_before:
            return None
        taken: Sequence[int] = (*self._up, *self.stopping)
        free = (number for number in range(FIRST + 1, self.most + 1) if number not in taken)
        return next(free, None)
