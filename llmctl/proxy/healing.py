"""The guard's steps of one request, taken: the server is told to end its reasoning, is asked again,
or left. What the steps are is decided in guard/session.py."""

import asyncio
import re
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from llmctl.core.guard.detector import Detector
from llmctl.core.guard.settings import GuardSettings
from llmctl.proxy.dialect import Endpoint, Trouble
from llmctl.proxy.guard.event import GUARDED
from llmctl.proxy.guard.plan import Plan, amended, plan
from llmctl.proxy.guard.session import Session, Step
from llmctl.proxy.guard_mode import settings_for
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

    def __init__(self, guarded: Guarded, plan: Plan, body: Spool, proxy: "Proxy") -> None:
        self._guarded, self._proxy = guarded, proxy
        self.session = Session(plan, Detector)
        self._body = self.sent = body
        self._again: Spool | None = None
        self._began = proxy.now()
        self.is_over = False

    @classmethod
    def of(
        cls, guarded: Guarded, request: Request, body: Spool | None, proxy: "Proxy"
    ) -> "Healing | None":
        """None: this request is not guarded."""
        served, settings = guarded.served, guarded.guard.settings
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
        now = self._proxy.now()
        ms, self._began = 1000 * (now - self._began), now
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

        def connected(upstream: "Upstream") -> None:
            upstream.send(head, body, listener)

        def failed(why: str) -> None:
            listener.upstream_lost(why=why)

        self._proxy.board.pool(served).take(connected, failed)
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
    return (found if found.model else msgspec.structs.replace(found, model=served.name)), change


_OF_TOOLS = re.compile(rb'"tool_calls"|"tool_result"|"function_call_output"|"function_call"')


def on_the_way(
    request: Request, endpoint: Endpoint, body: bytes, served: Served
) -> tuple[Plan | None, bytes] | None:
    """The same for a request that is sent on before anything else is done: its plan, and its body
    as it is sent. None: more is to be looked at than there is time for."""
    settings = settings_for(request, served.guard)
    if settings.mode == "off" or endpoint.name not in GUARDED:
        return None, body
    if _OF_TOOLS.search(body):
        return None
    found = planned(endpoint, body, served, settings)
    if found is None:
        return None, body
    plan, (cut, end) = found
    return plan, body[: len(body) - cut] + end


def _succeeded(body: bytes) -> bool:
    try:
        found: Any = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return False
    return isinstance(found, dict) and found.get("success") is True
