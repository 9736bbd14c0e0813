"""The short way of the usual request, in which as little as possible is done before it is sent on.

A client that keeps its connection sends the same head with each request, but for the length of the
body: what was found out about it holds. Where its model is ready, a connection to the server idle,
and all of the request there at once, it is sent on first, and remembered while the server works.
Whatever is unusual is left to the general way, before anything has been done.
"""

import re
from typing import TYPE_CHECKING

from llmctl.proxy.asked import Asked, asked
from llmctl.proxy.dialect import OTHER, is_repeatable
from llmctl.proxy.guard_request import is_usual
from llmctl.proxy.head import forwarded_lines, length_line
from llmctl.proxy.healing import on_the_way
from llmctl.proxy.relay import Relay
from llmctl.proxy.routing import Served
from llmctl.proxy.spool import Spool

if TYPE_CHECKING:
    from llmctl.proxy.access import Policy
    from llmctl.proxy.client import Client
    from llmctl.proxy.routing import Table
    from llmctl.proxy.server import Proxy

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)\r\n", re.IGNORECASE)
_MOST_DIGITS = 9


class Again:
    """The last head of a connection, and what was found out about it. It lives as long as the
    connection, and in it the key that the client sends."""

    __slots__ = (
        "_after", "_asked", "_before", "_lines", "_policy", "_request", "_served", "_table",
        "endpoint", "forced", "key", "path",
    )  # fmt: skip

    def __init__(self, relay: Relay, policy: "Policy", before: bytes, after: bytes) -> None:
        self._request, self._before, self._after = relay.request, before, after
        self._policy, self.key = policy, relay.key
        self.forced, self.path, self.endpoint = relay.forced, relay.path, relay.endpoint
        self._table: Table | None = None
        self._asked: str | None = None
        self._served: Served | None = None
        self._lines = b""

    @classmethod
    def of(cls, data: bytes, relay: Relay, policy: "Policy") -> "Again | None":
        """After a request that was let in. data: what came, from its first byte on. None: it cannot
        come again in this way."""
        request = relay.request
        if relay.endpoint is OTHER or request.method != b"POST":
            return None  # it may be a page of the proxy's own
        if not is_repeatable(request.method, relay.path):
            return None  # idle connections are not for it (Delivery.begin)
        if request.is_chunked or request.upgrade or request.header(b"expect") is not None:
            return None
        head, end, _ = data.partition(b"\r\n\r\n")
        length = _LENGTH.search(head + b"\r\n")
        if length is None or not end:
            return None
        return cls(relay, policy, head[: length.start(1)], head[length.end(1) :] + end)

    def send(self, proxy: "Proxy", client: "Client", data: bytes) -> Relay | None:
        """Send it on, if it is a usual one. None: nothing has been done."""
        body, board = self._body(data), proxy.board
        if body is None or self._policy is not proxy.policy:
            return None
        if len(body) > board.settings.max_body_bytes:
            return None
        found = asked(self._request, self.endpoint, body)
        served = self._way(proxy, found) if isinstance(found, Asked) else None
        if served is None or not isinstance(found, Asked):
            return None
        if served.most > 1 or served.fallback:
            return None  # which of its instances is to answer: see Replicas; or of others: Falling
        if found.tools and not is_usual(self._request, self.endpoint, body, served.guard):
            return None
        plan, asks = on_the_way(self._request, self.endpoint, body, served)
        turns, pool = board.turns(served.queue), board.pool(served)
        if not turns.lets_ahead(served.name, proxy.now()):
            return None
        upstream = pool.at_hand()
        if upstream is None:
            return None
        turns.goes_ahead(served.name)
        head = self._lines + length_line(len(asks))
        upstream.write(head + asks)
        relay = proxy.relay(client, self._request, self)
        sent = relay.sent(found, served, head, Spool.of(asks), Spool.of(body), plan)
        sent.sent(pool, upstream)
        return relay

    def _body(self, data: bytes) -> bytes | None:
        """Of the request, if these bytes are one whole request with the same head."""
        before, after = self._before, self._after
        if not data.startswith(before):
            return None
        start = len(before)
        at = data.find(after, start, start + _MOST_DIGITS + len(after))
        digits, body = data[start:at], data[at + len(after) :]
        if at < 0 or not digits.isdigit() or not body or len(body) != int(digits):
            return None
        self._request = self._request.resized(digits)
        return body

    def _way(self, proxy: "Proxy", found: Asked) -> Served | None:
        """Where it goes: as the last one, while nothing has changed."""
        if self._table is not proxy.board.table or self._asked != found.model:
            self._table, self._asked = proxy.board.table, found.model
            where = proxy.way(found.model, self.forced, self.key)
            self._served = where if isinstance(where, Served) else None
            if self._served is not None:
                self._lines = forwarded_lines(
                    self._request, target=self._request.target(self.path),
                    port=self._served.port, key=self._served.key,
                )  # fmt: skip
        return self._served
