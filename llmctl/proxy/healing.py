"""The guard's steps of one request, taken: the server is told to end its reasoning, is asked again,
or left. What the steps are is decided in guard/session.py."""

import asyncio
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from llmctl.core.guard.budget import Act, Over
from llmctl.core.guard.detector import Detector
from llmctl.core.guard.settings import GuardSettings
from llmctl.proxy.dialect import Endpoint, Trouble
from llmctl.proxy.guard.event import GUARDED
from llmctl.proxy.guard.plan import Plan, amended, plan
from llmctl.proxy.guard.session import Session
from llmctl.proxy.guard.spending import Spending
from llmctl.proxy.guard.steps import Found, Step
from llmctl.proxy.guard_mode import settings_for
from llmctl.proxy.guard_record import Did, Finding, Outcome
from llmctl.proxy.head import AnswerHead, Request, forwarded
from llmctl.proxy.pool import Listener
from llmctl.proxy.routing import Served
from llmctl.proxy.spool import Amended, Spool
from llmctl.proxy.tasks import spawn

if TYPE_CHECKING:
    from llmctl.proxy.server import Proxy
    from llmctl.proxy.upstream import Upstream

CONTROL = b"/v1/chat/completions/control"
CONTROL_TIMEOUT_S = 5.0
_MOST_END = 4 << 10
"""Bytes at the end of a body, in which its last brace is."""


class Guarded(Protocol):
    """A request whose answer is guarded (Relay). guard: how; None: its model is not known."""

    endpoint: Endpoint
    served: Served | None
    guard: GuardSettings | None

    def found(self, finding: Finding) -> None:
        """Say what was found."""
        ...

    def pass_on(self, data: bytes) -> None:
        """Events of ours, into the client's stream."""
        ...

    def ask_again(self, body: Spool) -> None:
        """Leave the server, and ask it again with this body."""
        ...

    def stop(self) -> None:
        """Leave the server: the client has all that it gets."""
        ...

    def refuse(self, trouble: Trouble) -> None:
        """It cannot go on."""
        ...


class Healing:
    """One attempt of the relay's, with all that the guard makes of it. sent: the body that goes to
    the server."""

    def __init__(
        self, guarded: Guarded, plan: Plan, body: Spool, proxy: "Proxy",
        session: Session | None = None,
    ) -> None:  # fmt: skip
        self._guarded, self._proxy = guarded, proxy
        self.session = session or Session(plan, Detector)
        self._body = self.sent = body
        self._again: Spool | None = None
        self._began = proxy.now()
        self.is_limited = plan.settings.is_limited
        self._spending = Spending(self.session, proxy.now) if self.is_limited else None
        self._overs: list[tuple[Over, Did]] = []
        self._ends_for_budget = self.is_over = self._is_told = False

    @classmethod
    def of(
        cls, guarded: Guarded, request: Request, body: Spool | None, proxy: "Proxy"
    ) -> "Healing | None":
        """None: this request is not guarded."""
        served, settings = guarded.served, guarded.guard
        if body is None or request.method != b"POST" or served is None or settings is None:
            return None
        found = planned(guarded.endpoint, body.whole(), served, settings)
        if found is None:
            return None
        plan, (cut, end) = found
        made = cls(guarded, plan, body, proxy)
        if end:
            made.sent = Amended(body, cut, end)
        return made

    @property
    def is_again(self) -> bool:
        """Is this a further attempt at an answer?"""
        return self.session.attempt > 0

    def heard(self) -> None:
        """Events have come: take the step that the session wants, if any; else look at budgets."""
        if self.session.wants is not None:
            self._step()
        elif self._spending is not None:
            self._judge(self._spending.over())

    def look(self) -> None:
        """Once a second: budgets of time."""
        if self._spending is not None and not self.session.is_over:
            self._judge(self._spending.over())

    def _step(self) -> None:
        wants, self.session.wants = self.session.wants, None
        if wants is Step.END_REASONING:
            spawn(self._end_reasoning(), name="end the reasoning")
        elif wants is Step.RETRY:
            self._retry()
        elif wants is Step.STOP:
            self._guarded.stop()

    def _retry(self) -> None:
        now = self._proxy.now()
        ms, self._began = 1000 * (now - self._began), now
        body, again = self.session.again(self._body.whole(), ms=ms), Spool()
        self._drop_again()
        self._again = again
        try:
            again.write(body or b"")
        except OSError:
            body = None
        if self._spending is not None:
            self._spending.again()
        self._guarded.pass_on(self.session.comment)
        if body is None:
            self._give_up("it repeated itself")
        else:
            self._guarded.ask_again(again)

    def _give_up(self, why: str) -> None:
        self._guarded.pass_on(self.session.stopped(why))
        self._guarded.stop()

    def head(self, head: AnswerHead) -> None:
        """The head of a further attempt's answer: if it is none, the answer ends as it stands."""
        kind = next((v for k, v in head.headers if k.lower() == b"content-type"), b"")
        if head.status != 200 or not kind.startswith(b"text/event-stream"):
            self._give_up(f"it repeated itself, and could not be asked for again ({head.status})")

    # Ending the reasoning

    async def _end_reasoning(self) -> None:
        said = await self._told()
        if self.is_over or said:
            return
        if self._ends_for_budget and self._spending is not None:
            self._judge(self._spending.cannot_end())
        else:
            self._guarded.pass_on(self.session.not_ended())
            self._step()

    async def _told(self) -> bool:
        """Ask for it, on a connection of its own. Does the server do it?"""
        served, listener = self._guarded.served, Listener()
        if served is None:
            return False
        body = Spool()
        told = {"id": self.session.completion, "action": "reasoning_end"}
        body.write(msgspec.json.encode(told))
        kind = (b"Content-Type", b"application/json")
        head = forwarded(
            Request(b"POST", CONTROL, b"", "1.1", (kind,)), target=CONTROL,
            port=served.port, length=body.nbytes, key=served.key,
        )  # fmt: skip

        taken: list[Upstream] = []

        def connected(upstream: "Upstream") -> None:
            if listener.heard.done():
                upstream.give_back()  # too late
            else:
                taken.append(upstream)
                upstream.send(head, body, listener)

        def failed(why: str) -> None:
            listener.upstream_lost(why=why)

        self._proxy.board.pool(served).take(connected, failed)
        try:
            async with asyncio.timeout(CONTROL_TIMEOUT_S):
                status, found = await listener.heard
        except TimeoutError:
            for upstream in taken:
                upstream.close()
            return False
        return status == 200 and _succeeded(found)

    # Budgets

    def _judge(self, over: Over | None) -> None:
        if over is None or self.is_over:
            return
        if self.session.plan.settings.mode == "log":
            self._overs.append((over, "none"))
        elif over.act is Act.END_REASONING and self.session.completion is not None:
            self._overs.append((over, "native"))
            self._ends_for_budget = True
            spawn(self._end_reasoning(), name="end the reasoning")
        elif over.act is Act.STOP:
            self._overs.append((over, "stop"))
            self._give_up(over.why)
        elif self._spending is not None:
            self._judge(self._spending.cannot_end())

    # What is told

    def tell(self, outcome: Outcome) -> None:
        """Say what was found, once: how it ended is known. outcome: unless it was stopped, or only
        looked at."""
        if self._is_told:
            return
        self._is_told = True
        settings = self.session.plan.settings
        if self.session.is_over:
            outcome = "stopped"
        if settings.mode == "log":
            outcome = "logged"
        for found in self.session.findings:
            self._guarded.found(_finding(found, outcome, self._left(found.tokens)))
        for over, did in self._overs:
            self._guarded.found(Finding(kind=over.kind, step=did, outcome=outcome))

    def _left(self, tokens: int) -> int:
        """How many more tokens the model has room for."""
        served = self._guarded.served
        ctx = served.ctx if served is not None else None
        return max(0, (ctx or 0) - (self.session.tally.prompt or 0) - tokens)

    def close(self) -> None:
        """The request is over."""
        self.tell("failed")
        self.is_over = True
        self._drop_again()

    def _drop_again(self) -> None:
        if self._again is not None:
            self._again.close()
            self._again = None


Change = tuple[int, bytes]
"""How many bytes of a body's end are cut off, and what takes their place."""


def planned(
    endpoint: Endpoint, body: Any, served: Served, settings: GuardSettings
) -> tuple[Plan, Change] | None:
    """How the answer to a request is guarded, and what is put into its body. None: it is not."""
    found = plan(endpoint.name, body, settings)
    if found is None:
        return None
    change = amended(bytes(body[-_MOST_END:]), found.added)
    if change is None:
        return None
    return msgspec.structs.replace(found, model=served.name), change


def on_the_way(
    request: Request, endpoint: Endpoint, body: bytes, served: Served
) -> tuple[Plan | None, bytes]:
    """The same for a request that is sent on before anything else is done: its plan, and what takes
    the place of the last brace of its body, which ends with it and is not empty."""
    settings = settings_for(request, served.guard)
    if settings.mode == "off" or endpoint.name not in GUARDED:
        return None, b""
    found = planned(endpoint, body, served, settings)
    return (found[0], found[1][1]) if found is not None else (None, b"")


def _finding(found: Found, outcome: Outcome, saved: int) -> Finding:
    """A loop, as it is told."""
    return Finding(
        kind=found.loop.kind, step=found.step.value, outcome=outcome, channel=found.channel.value,
        attempt=found.attempt, block=found.loop.block, copies=found.loop.copies, held=found.held,
        saved=saved if found.step is not Step.NOTE else 0,
    )  # fmt: skip


def _succeeded(body: bytes) -> bool:
    try:
        found: Any = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return False
    return isinstance(found, dict) and found.get("success") is True
