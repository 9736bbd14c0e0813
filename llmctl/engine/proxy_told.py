"""What the proxy says of itself at /llmctl/status, for whoever tells it on."""

import re

import msgspec

from llmctl.core.proxy_unit import SOCKET
from llmctl.engine.box import Box
from llmctl.health import get

TIMEOUT_S = 1.0
_LISTENS = re.compile(r"^ListenStream=(?:127\.0\.0\.1|0\.0\.0\.0):(\d+)$", re.MULTILINE)
"""`[::]` is not among them: the socket has BindIPv6Only=, and this machine is asked by IPv4."""


class Queue(msgspec.Struct):
    """One group. switching: the model that it switches to."""

    switching: str | None = None


class Unloaded(msgspec.Struct):
    """A model that does not run since the proxy stopped it. why: room or ttl. room_for: the one
    that it made room for."""

    model: str
    why: str
    ago_s: float
    room_for: str | None = msgspec.field(name="for", default=None)


class Told(msgspec.Struct):
    """Its words, as far as they matter here. in_flight, waiting: requests."""

    in_flight: int
    waiting: int
    connections: int
    queues: dict[str, Queue] = {}
    unloaded: tuple[Unloaded, ...] = ()
    problem: str | None = None
    problems: tuple[str, ...] = ()
    version: str | None = None

    @property
    def all_problems(self) -> tuple[str, ...]:
        """Each once."""
        first = (self.problem,) if self.problem else ()
        return tuple(dict.fromkeys((*first, *self.problems)))


def port(box: Box) -> int | None:
    """The port where this box's 127.0.0.1 leads to the proxy; None: there is none."""
    found = _LISTENS.search(box.store.unit_text(SOCKET) or "")
    return int(found[1]) if found else None


def told(box: Box, port: int) -> tuple[bool, Told | None]:
    """Did anybody answer, and what did the proxy say?"""
    status, body = get(box.host, port, "/llmctl/status", timeout=TIMEOUT_S)
    try:
        return status is not None, msgspec.json.decode(body, type=Told) if status == 200 else None
    except msgspec.DecodeError:
        return True, None
