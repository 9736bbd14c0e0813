"""The short way of the usual request, in which as little as possible is done before it is sent on.

A client that keeps its connection sends the same head with each request, but for the length of the
body; and bodies that differ in their messages alone: what was found out about them holds. Where the
model is ready, a connection to the server at hand, and all of the request there at once (a head
waits a moment for its body), it is sent on first, and remembered while the server works. Whatever
is unusual is left to the general way, before anything has been done.
"""

import re
from typing import TYPE_CHECKING, Any

import msgspec

from llmctl.core.guard.detector import Detector
from llmctl.proxy.asked import Asked, asked
from llmctl.proxy.dialect import OTHER, is_repeatable
from llmctl.proxy.foretold import Foretold
from llmctl.proxy.guard.plan import KEYS, Plan
from llmctl.proxy.guard.session import Session
from llmctl.proxy.guard.shaped import Likely
from llmctl.proxy.guard_request import is_usual
from llmctl.proxy.head import forwarded_lines
from llmctl.proxy.healing import on_the_way
from llmctl.proxy.relay import Relay
from llmctl.proxy.routing import Served
from llmctl.proxy.sockets import BUFFER

if TYPE_CHECKING:
    from llmctl.proxy.access import Policy
    from llmctl.proxy.client import Client
    from llmctl.proxy.pool import Pool
    from llmctl.proxy.routing import Table
    from llmctl.proxy.server import Proxy
    from llmctl.proxy.turns import Turns

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)\r\n", re.IGNORECASE)
_MOST_DIGITS = 9
_NONE, _TRUE = msgspec.Raw(b""), msgspec.Raw(b"true")
_EMPTY = (b"{}", b" }", b"\t}", b"\r}", b"\n}")
"""How a body ends that may be an empty object: another key follows no comma there."""
_MOST_SESSIONS = 8
_MOST_HEADS, _MOST_HEAD = 128, 4 << 10
"""How many are remembered, and how long each may be, in bytes."""
_Said: Any = msgspec.defstruct(
    "_Said", [(name, msgspec.Raw, _NONE) for name in (*KEYS, "tools", "functions")]
)
"""All of a body that decides what becomes of it, as it is written there: of the same bytes the same
is found out. The rest is checked to be JSON."""
_DECODER = msgspec.json.Decoder(_Said)


class Usual(msgspec.Struct, frozen=True):
    """What was found out about a body, while the models are these (table). said: what of it
    decided. streams: are there events? lines: the head for the server, up to the length. end: what
    takes the place of the last brace. most: bytes that a body may have."""

    said: Any
    asked: Asked
    streams: bool
    served: Served
    table: "Table"
    plan: Plan | None
    end: bytes
    lines: bytes
    turns: "Turns"
    pool: "Pool"
    most: int


class Again:
    """A head, and what was found out about it; in it is the key that the client sends. usual: of
    the body that came last with it. foretold: how the last answer to such a one began."""

    __slots__ = (
        "_after", "_before", "_left", "_likely", "_request", "_sessions", "_start", "endpoint",
        "forced", "foretold", "key", "path", "policy", "usual",
    )  # fmt: skip

    def __init__(self, relay: Relay, policy: "Policy", before: bytes, after: bytes) -> None:
        self._request, self._before, self._after = relay.request, before, after
        self._start, self.policy, self.key = len(before), policy, relay.key
        self.forced, self.path, self.endpoint = relay.forced, relay.path, relay.endpoint
        self.usual: Usual | None = None
        self._left: Table | None = None
        """With these models, which of its instances is to answer is not known here."""
        self._sessions: list[Session] = []
        self._likely = Likely()
        self.foretold: Foretold | None = None

    def send(self, proxy: "Proxy", client: "Client", data: bytes) -> Relay | None:
        """Send it on, if it is a usual one. None: nothing has been done. It is one function, since
        calls of others cost more than what is done here."""
        at = data.find(self._after, self._start, self._start + _MOST_DIGITS + len(self._after))
        begins, board = at + len(self._after), proxy.board
        if at < 0 or not data.startswith(self._before) or not data.endswith(b"}"):
            return None
        if data[self._start : at] != b"%d" % (len(data) - begins):
            return None
        if self.policy.settings is not board.settings or self.policy.keys is not board.keys:
            return None
        body = data[begins:]
        try:
            said = _DECODER.decode(body)
        except (msgspec.DecodeError, ValueError, RecursionError):
            return None
        if said.stream == _TRUE:
            said.prompt = _NONE  # it matters for whole answers alone (see Plan)
        usual = self.usual
        if usual is None or usual.table is not board.table or usual.said != said:
            usual = self._learn(proxy, said, body) if self._left is not board.table else None
        if usual is None or len(body) > usual.most or usual.turns.ready != usual.served.name:
            return None
        if usual.end and body.endswith(_EMPTY):
            return None
        if usual.asked.tools and not self._is_usual(body, usual):
            return None
        upstream = usual.pool.at_hand() if usual.turns.is_open else None
        if upstream is None:
            return None
        asks = body[:-1] + usual.end if usual.end else body
        head = b"%b%d\r\n\r\n" % (usual.lines, len(asks))
        upstream.write(head + asks)
        usual.turns.goes_ahead(usual.served.name)
        relay = proxy.relay(client, self._request, self)
        session = self._session(usual.plan) if usual.plan is not None else None
        relay.sent(usual, upstream, head, asks, body, session)
        return relay

    def awaits_body(self, data: bytes) -> bool:
        """Is it this head by itself, of a body that comes in one read?"""
        if not (data.startswith(self._before) and data.endswith(self._after)):
            return False
        length = data[self._start : len(data) - len(self._after)]
        return length.isdigit() and len(length) <= _MOST_DIGITS and 0 < int(length) <= len(BUFFER)

    def _is_usual(self, body: bytes, usual: Usual) -> bool:
        """Has the guard nothing to say of its tools?"""
        return is_usual(self._request, self.endpoint, body, usual.served.guard)

    def _learn(self, proxy: "Proxy", said: Any, body: bytes) -> Usual | None:
        """What becomes of such a body. None: the general way."""
        self.usual = self.foretold = None
        self._likely = Likely()
        self._sessions.clear()
        if self.policy is not proxy.policy:
            return None
        board, found = proxy.board, asked(self._request, self.endpoint, body)
        if not isinstance(found, Asked):
            return None
        served = proxy.way(found.model, self.forced, self.key)
        if not isinstance(served, Served):
            return None
        if served.most > 1 or served.fallback or served.far:
            self._left = board.table  # see Replicas, Falling
            return None
        plan, end = on_the_way(self._request, self.endpoint, body, served)
        if end and body.endswith(_EMPTY):
            return None
        request = self._request
        lines = forwarded_lines(
            request, target=request.target(self.path), port=served.port, key=served.key
        )  # fmt: skip
        self.usual = Usual(
            said, found, found.stream and self.endpoint.streams, served, board.table, plan, end,
            lines + b"Content-Length: ", board.turns(served.queue), board.pool(served),
            board.settings.max_body_bytes,
        )  # fmt: skip
        return self.usual

    def _session(self, plan: Plan) -> Session:
        """Who guards the answer."""
        if self._sessions:
            return self._sessions.pop()
        return Session(plan, Detector, self._likely)

    def prepare(self) -> None:
        """What the next request will need, made while nobody waits for it."""
        usual = self.usual
        if usual is not None and usual.plan is not None and len(self._sessions) < _MOST_SESSIONS:
            self._sessions.append(Session(usual.plan, Detector, self._likely))

    def began(self, came: bytes, sent: bytes, usual: Usual) -> None:
        """An answer has begun with what came, and what was sent for it. usual: what is known of its
        request; of others with this head another answer comes."""
        if self.usual is usual:
            self.foretold = Foretold.of(came, sent)


class Heads:
    """What is known of heads, whichever connection they come on: programs open many, and send the
    same on each. What is let in depends on where a connection comes from, too."""

    def __init__(self) -> None:
        self._known: dict[tuple[bytes, bytes, str, str], Again] = {}

    def find(self, data: bytes, client: "Client") -> Again | None:
        """What is known of the head that this begins with."""
        parts = _parts(data)
        return self._known.get((*parts, client.peer, client.here)) if parts is not None else None

    def learn(self, data: bytes, relay: Relay, client: "Client", policy: "Policy") -> Again | None:
        """After a request that was let in. data: what came, from its first byte on. None: it cannot
        come again in this way."""
        request, parts = relay.request, _parts(data)
        if parts is None or relay.endpoint is OTHER or request.method != b"POST":
            return None  # it may be a page of the proxy's own
        if not is_repeatable(request.method, relay.path):
            return None  # idle connections are not for it (Delivery.begin)
        if request.is_chunked or request.upgrade or request.header(b"expect") is not None:
            return None
        key = *parts, client.peer, client.here
        known = self._known.get(key)
        if known is not None and known.policy is policy:
            return known  # what came now was unusual
        if len(self._known) >= _MOST_HEADS:
            self._known.clear()
        made = self._known[key] = Again(relay, policy, *parts)
        return made


def _parts(data: bytes) -> tuple[bytes, bytes] | None:
    """A head before and after the length that it tells."""
    end = data.find(b"\r\n\r\n", 0, _MOST_HEAD) + len(b"\r\n\r\n")
    length = _LENGTH.search(data, 0, end)
    return None if length is None else (data[: length.start(1)], data[length.end(1) : end])
