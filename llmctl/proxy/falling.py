"""One request's fallback: what its Walk says, done. It stands beside a Relay, which tells it what
went wrong, and goes where it says."""

import re
from typing import TYPE_CHECKING

from llmctl.core.state import State
from llmctl.proxy.delivery import Recipient
from llmctl.proxy.dialect import OTHER, Trouble
from llmctl.proxy.fallback import Failure, Walk, chain, of_trouble
from llmctl.proxy.far import ctx_of
from llmctl.proxy.guard_mode import settings_for
from llmctl.proxy.head import AnswerHead
from llmctl.proxy.opening import Held, Opening
from llmctl.proxy.pages import state_of
from llmctl.proxy.routing import Served
from llmctl.proxy.tasks import spawn

if TYPE_CHECKING:
    from llmctl.proxy.relay import Relay
    from llmctl.proxy.server import Proxy

_LOADING = 503
_INSTANCE = re.compile(rb"[a-z0-9][a-z0-9._-]{0,63}(?:@\d{1,3})?")
"""What another box's proxy calls who answered."""


def falling(relay: "Relay", proxy: "Proxy", served: Served) -> "Falling | None":
    """None: nobody else may answer this request. Whoever asks by /upstream/NAME wants this model or
    an error, and so does another box in whose stead we are to answer: it has a chain of its own."""
    is_fit = relay.forced is None and relay.endpoint is not OTHER and relay.is_repeatable
    if not served.fallback or not is_fit or relay.request.method != b"POST":
        return None
    steps = chain(proxy.table, served.name, proxy.models_of(relay.key))
    return Falling(relay, proxy, steps) if len(steps) > 1 else None


class Falling:
    """A Judge. kept: the answer of the model that was asked for, where it was an error."""

    def __init__(self, relay: "Relay", proxy: "Proxy", steps: tuple[Served, ...]) -> None:
        self._relay, self._proxy = relay, proxy
        self._walk = Walk(steps, self._rests)
        self._first: Trouble | None = None
        self._kept: tuple[Served, tuple[str, ...], Held] | None = None
        self._heard_at = proxy.now()
        self._has_ended = False
        if not self._walk.is_first:
            self._tell(*self._walk.tried[0])
        self._note()

    def _rests(self, served: Served) -> bool:
        proxy = self._proxy
        is_ready = state_of(proxy, served) is State.READY
        return proxy.board.rests.is_resting(served.name, proxy.now(), is_ready=is_ready)

    @property
    def target(self) -> Served:
        """Where it goes now, as its profile says by now."""
        at = self._walk.at
        return self._proxy.table.served.get(at.name, at)

    @property
    def is_far(self) -> bool:
        """See Judge."""
        return self._walk.at.far is not None

    @property
    def hides_progress(self) -> bool:
        """See Judge."""
        guard = self._relay.answer.guard
        return guard is not None and guard.plan.hides_progress

    def opening(self) -> Recipient:
        """Who gets the next attempt's answer."""
        self._heard_at = self._proxy.now()
        return Opening(self._relay, self) if not self._is_closed else self._relay

    # What happens

    def retries(self, head: AnswerHead) -> bool:
        """See Judge."""
        return head.status == _LOADING and not self.is_far and self._relay.may_try_again

    def leaves(self) -> bool:
        """It went away without a word: is somebody else asked at once, instead of waiting for it to
        come back? Where that costs nobody his model, and it was not one of several instances."""
        after, served = self._walk.next, self._relay.served
        if self._is_closed or after is None or (served is not None and served.number > 1):
            return False
        if self.is_far or after.far is not None:
            return True
        return state_of(self._proxy, after) is State.READY

    @property
    def _is_closed(self) -> bool:
        """Is it too late for anybody else?"""
        return self._has_ended or self._relay.answer.has_answer

    def began(self, head: AnswerHead) -> None:
        """See Judge."""
        relay, far = self._relay, self._walk.at.far
        relay.answer.may_fall = False
        if head.status < 400 and relay.served is not None:
            self._proxy.board.rests.well(relay.served.label)
        there = next((v for k, v in head.headers if k.lower() == b"x-served-by"), b"")
        if far is not None and _INSTANCE.fullmatch(there):
            relay.answer.served_by = f"{far.box}/{there.decode()}"

    def heard(self) -> None:
        """See Judge."""
        self._heard_at = self._proxy.now()

    def refused(self, trouble: Trouble) -> Trouble | None:
        """An error of ours is to go to the client. None: it is not, somebody else is asked; else
        what it gets."""
        if self._is_closed:
            return trouble
        failure = of_trouble(trouble, is_first=self._is_first)
        if failure is None:
            return trouble
        if self._is_first or self._is_asked:
            self._first, self._kept = trouble, None
        if not self._fails(failure):
            self._ends()
        return None

    def failed(self, failure: Failure, held: Held | None) -> bool:
        """See Judge."""
        is_first, served = self._is_first, self._walk.at
        is_heard = is_first or self._is_asked
        if is_heard and held is not None:
            self._kept, self._first = (served, self._walk.passed, held), None
        elif is_heard:
            told = f"{served.name} failed: {failure.told}"
            self._first, self._kept = Trouble(502, "server_error", told), None
        if self._fails(failure):
            return True
        if is_first:
            self._has_ended = True
            return False
        self._ends()
        return True

    @property
    def _is_first(self) -> bool:
        """Has nobody failed yet?"""
        return self._first is None and self._kept is None

    @property
    def _is_asked(self) -> bool:
        """Is it the model that was asked for? If all fail, it is heard, also where it rested and
        so was asked last."""
        return self._walk.at.name == self._walk.asked

    def _fails(self, failure: Failure) -> bool:
        """Somebody is left. Does somebody follow?"""
        relay, proxy = self._relay, self._proxy
        name = relay.served.label if relay.served is not None else self._walk.at.name
        rest_s = proxy.board.rests.failed(name, failure.why, proxy.now())
        if rest_s:
            proxy.journal.rests(name, rest_s, failure.why)
        if failure.why == "crash" and relay.served is not None and not self.is_far:
            proxy.board.doubt(relay.served)
        self._walk.failed(failure)
        if self._walk.next is None:
            return False
        relay.leaves()
        self._goes_on()
        return True

    def _goes_on(self) -> None:
        """To the next; of another box its context is asked first, where that matters."""
        left, failure = self._walk.tried[-1]
        found = self._walk.goes_on()
        if found is None:
            self._ends()
            return
        self._tell(left, failure)
        self._note()
        if self._walk.need and found.far is not None:
            spawn(self._ask(found), name=f"ask for the context of {found.name}")
        else:
            self._relay.falls(found, settings_for(self._relay.request, found.guard))

    async def _ask(self, served: Served) -> None:
        ctx = await ctx_of(self._proxy.board.pool(served))
        relay = self._relay
        if relay.is_over or self._walk.at is not served:
            return
        if (ctx or 0) > self._walk.need:
            relay.falls(served, served.guard)
            return
        self._walk.failed(Failure("refused", "its context is no larger, as far as is known"))
        self._goes_on()

    def _ends(self) -> None:
        """Nobody is left: the client gets what it would have got without a chain, and of an error
        of ours also what became of the others."""
        self._has_ended, relay = True, self._relay
        if self._kept is not None:
            served, passed, held = self._kept
            relay.leaves()
            relay.answer.may_fall = False
            relay.answer.fallback_from = relay.record.fallback_from = passed
            relay.answers_as(served)
            held.goes_to(relay)
        elif self._first is not None:
            relay.refuse(self._walk.told(self._first))

    def _note(self) -> None:
        """On the answer and in the log: who was passed over; and that it is not known yet who will
        have answered."""
        relay, passed = self._relay, self._walk.passed
        relay.answer.fallback_from = relay.record.fallback_from = passed
        relay.answer.may_fall = self._walk.next is not None

    def _tell(self, left: str, failure: Failure) -> None:
        relay = self._relay
        self._proxy.journal.fell(relay.ticket, left, self._walk.at.name, failure.why)

    # Time

    def look(self, now: float) -> None:
        """Once a second: another box speaks to who reads a stream, at least each 10 s."""
        relay, settings = self._relay, self._proxy.settings
        if not (self.is_far and relay.answer.wants_stream) or self._is_closed:
            return
        if now - self._heard_at >= settings.hang_timeout_s:
            relay.refuse(Trouble(
                504, "no_answer",
                f"{self._walk.at.name} has not answered for {settings.hang_timeout}.",
            ))  # fmt: skip
