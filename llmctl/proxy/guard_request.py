"""The guard's part before a model is asked: tool calls that go round in circles.

It stands where a request's body is whole and its model is known, and is done once, however often
the request is tried.
"""

from typing import TYPE_CHECKING, cast

import msgspec

from llmctl.core.guard.nudges import Nudge, nudge_for, nudged, words
from llmctl.core.guard.settings import GuardSettings
from llmctl.core.guard.tool_loops import Cycle, tool_loop
from llmctl.proxy.dialect import Endpoint
from llmctl.proxy.guard_mode import settings_for
from llmctl.proxy.guard_record import Did, Finding
from llmctl.proxy.head import Request
from llmctl.proxy.spool import Spool
from llmctl.proxy.tasks import log

if TYPE_CHECKING:
    import mmap

    from llmctl.core.guard.history import Shape

_TALKS = ("chat", "messages", "responses")
"""Endpoints whose requests are conversations."""


def is_usual(request: Request, endpoint: Endpoint, body: bytes, settings: GuardSettings) -> bool:
    """Is there nothing in a request with tools for the guard?"""
    return _cycle(endpoint, body, settings_for(request, settings)) is None


class Rewritten(msgspec.Struct, frozen=True):
    """body: what the model is sent. finding: what is to be told."""

    body: Spool
    finding: Finding | None = None


def rewritten(endpoint: Endpoint, body: Spool, settings: GuardSettings) -> Rewritten:
    """A request with tools as the model gets it: with a nudge, where it goes round in circles."""
    cycle = _cycle(endpoint, body.whole(), settings)
    nudge = nudge_for(cycle.repeats, settings.tool_nudges) if cycle is not None else None
    if cycle is None or nudge is None:
        return Rewritten(body)
    if settings.mode == "log":
        return Rewritten(body, _finding(cycle, settings, "none"))
    spool = _nudged(body, cast("Shape", endpoint.name), cycle, nudge)
    if spool is None:
        return Rewritten(body)
    return Rewritten(spool, _finding(cycle, settings, nudge.value))


def _cycle(endpoint: Endpoint, body: "bytes | mmap.mmap", settings: GuardSettings) -> Cycle | None:
    """The circle that its tool calls go round in, where that is to be looked for."""
    if endpoint.name not in _TALKS or settings.mode == "off":
        return None
    return tool_loop(memoryview(body), cast("Shape", endpoint.name), settings)


def _nudged(body: Spool, kind: "Shape", cycle: Cycle, nudge: Nudge) -> Spool | None:
    """The body in the old one's stead. None: it cannot be, and the old one is sent."""
    told = words(cycle, nudge)
    changed = nudged(bytes(body.whole()), kind, told, no_tools=nudge is Nudge.NO_TOOLS)
    if changed is None:
        return None
    spool = Spool()
    try:
        spool.write(changed)
    except OSError as error:
        log(f"A nudge could not be added to a request: {error.strerror}.")
        spool.close()
        return None
    body.close()
    return spool


def _finding(cycle: Cycle, settings: GuardSettings, step: Did) -> Finding:
    return Finding(
        kind="tool", step=step, outcome="logged" if step == "none" else "nudged",
        block=cycle.period, copies=cycle.repeats, tools=cycle.tools,
        sample=cycle.sample if settings.samples else None,
    )  # fmt: skip
