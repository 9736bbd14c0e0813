"""The guard's steps of one request, taken: the server is told to end its reasoning, is asked again,
or left. What the steps are is decided in guard/session.py."""

import asyncio
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from llmctl.core.guard.detector import Detector
from llmctl.proxy.dialect import Endpoint, Trouble
from llmctl.proxy.guard.plan import amended, plan
from llmctl.proxy.guard.session import Session, Step
from llmctl.proxy.head import AnswerHead, Request, forwarded
from llmctl.proxy.pool import Listener
from llmctl.proxy.routing import Served
from llmctl.proxy.spool import Amended, Spool
from llmctl.proxy.tasks import spawn

if TYPE_CHECKING:
    from llmctl.proxy.guard_request import Guard
    from llmctl.proxy.server import Proxy
    from llmctl.proxy.upstream import Upstream

CONTROL = b"/v1/chat/completions/control"
CONTROL_TIMEOUT_S = 5.0
_MOST_END = 4 << 10
"""Bytes at the end of a body, in which its last brace is."""


class Guarded(Protocol):
    """A request whose answer is guarded (Relay). guard: its settings, and who is told."""

    endpoint: Endpoint
    served: Served | None
    guard: "Guard"

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
        self, guarded: Guarded, session: Session, body: Spool, served: Served, proxy: "Proxy"
    ) -> None:
        self._guarded, self.session = guarded, session
        self._body, self._served, self._pool = body, served, proxy.board.pool(served)
        self._again: Spool | None = None
        self._now = proxy.now
        self._began = self._now()
        self.sent = body
        self.is_over = False

    @classmethod
    def of(
        cls, guarded: Guarded, request: Request, body: Spool | None, proxy: "Proxy"
    ) -> "Healing | None":
        """None: this request is not guarded."""
        served, settings = guarded.served, guarded.guard.settings
        if body is None or request.method != b"POST" or served is None or settings is None:
            return None
        found = plan(guarded.endpoint.name, body.whole(), settings)
        if found is None:
            return None
        found = msgspec.structs.replace(found, model=found.model or served.name)
        made = cls(guarded, Session(found, Detector), body, served, proxy)
        return made if made._amend() else None

    def _amend(self) -> bool:
        """Put the guard's keys into the body."""
        change = amended(bytes(self._body.whole()[-_MOST_END:]), self.session.plan.added)
        if change is None:
            return False
        if change != (0, b""):
            self.sent = Amended(self._body, *change)
        return True

    @property
    def is_again(self) -> bool:
        """Is this a further attempt at an answer?"""
        return self.session.attempt > 0

    def step(self) -> None:
        """Take the step that the session wants."""
        wants, self.session.wants = self.session.wants, None
        if wants is Step.END_REASONING:
            spawn(self._end_reasoning(), name="end the reasoning")
        elif wants is Step.RETRY:
            self._retry()
        elif wants is Step.STOP:
            self._guarded.stop()

    def _retry(self) -> None:
        ms, self._began = 1000 * (self._now() - self._began), self._now()
        body, again = self.session.again(self._body.whole(), ms=ms), Spool()
        self._drop_again()
        self._again = again
        try:
            again.write(body or b"")
        except OSError:
            body = None
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
        self._guarded.pass_on(self.session.not_ended())
        self.step()

    async def _told(self) -> bool:
        """Ask for it, on a connection of its own. Does the server do it?"""
        listener = Listener()
        body = Spool()
        told = {"id": self.session.completion, "action": "reasoning_end"}
        body.write(msgspec.json.encode(told))
        kind = (b"Content-Type", b"application/json")
        head = forwarded(
            Request(b"POST", CONTROL, b"", "1.1", (kind,)), target=CONTROL,
            port=self._served.port, length=body.nbytes, key=self._served.key,
        )  # fmt: skip

        def connected(upstream: "Upstream") -> None:
            upstream.send(head, body, listener)

        def failed(why: str) -> None:
            listener.upstream_lost(why=why)

        self._pool.take(connected, failed)
        try:
            async with asyncio.timeout(CONTROL_TIMEOUT_S):
                status, found = await listener.heard
        except TimeoutError:
            return False
        return status == 200 and _succeeded(found)

    def close(self) -> None:
        """The request is over."""
        self.is_over = True
        self._drop_again()

    def _drop_again(self) -> None:
        if self._again is not None:
            self._again.close()
            self._again = None


def _succeeded(body: bytes) -> bool:
    try:
        found: Any = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return False
    return isinstance(found, dict) and found.get("success") is True
