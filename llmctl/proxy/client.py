"""The end of the wire at a client: one connection, one request after the other.

What comes is read by a RequestReader, unless it is a request like one before (Again); what comes of
a request goes to a Relay. Bytes that a client sends early (pipelining) wait here, unread, until the
request before them has been answered. A client that ends its side of the connection while a model
works for it has gone, as for nginx and Go's server: nothing tells a half-closed connection from a
closed one, and a slot must not stay busy for nobody. What needs no model (the lists, /tokenize, the
web page) is still answered.
"""

import asyncio
from typing import TYPE_CHECKING

from llmctl.proxy.dialect import Trouble
from llmctl.proxy.head import Request
from llmctl.proxy.line import Line
from llmctl.proxy.loop import at_leisure
from llmctl.proxy.patience import Patience
from llmctl.proxy.refusals import refusal
from llmctl.proxy.request_reader import RequestReader
from llmctl.proxy.sockets import BUFFER

if TYPE_CHECKING:
    import socket

    from llmctl.proxy.access import Policy
    from llmctl.proxy.again import Again
    from llmctl.proxy.relay import Relay
    from llmctl.proxy.server import Proxy

MOST_EARLY = 256 << 10
"""Bytes of further requests that are kept while one is under way; beyond, none of them is read, and
the connection ends after this answer. Not reading them would hide that the client has gone."""


class Client(Line):
    """A connection. relay: the request that is being answered."""

    __slots__ = (
        "_again", "_began", "_early", "_has_ended", "_is_deaf", "_is_full", "_is_raw",
        "_is_taking", "_patience", "_proxy", "_reader", "_reading", "relay",
    )  # fmt: skip

    def __init__(self, proxy: "Proxy") -> None:
        super().__init__()
        self._proxy = proxy
        self._reader = RequestReader(self)
        self.relay: Relay | None = None
        self._reading: Relay | None = None
        self._early = b""
        """What has come before it can be read; or a head that waits for its body."""
        self._began: tuple[bytes, Policy] | None = None
        """The read with which a request began, and who might ask what then."""
        self._again: Again | None = None
        self._patience = Patience(proxy.now())
        self._is_raw = self._is_full = self._is_taking = self._has_ended = self._is_deaf = False

    # asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        super().connection_made(transport)
        self._proxy.clients.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        del exc
        self._transport, self._is_closing, self._early = None, True, b""
        self._proxy.clients.discard(self)
        relays, self.relay, self._reading = (self.relay, self._reading), None, None
        for relay in relays:
            if relay is not None:
                relay.client_gone()

    def eof_received(self) -> bool:
        """See asyncio.Protocol. Short answers still go out; a generation has lost its reader."""
        self._has_ended = True
        if self._is_raw or self.relay is None:
            return bool(self._early)
        return not self.relay.ends_with_client

    def buffer_updated(self, nbytes: int) -> None:
        """See asyncio.BufferedProtocol."""
        data, again = BUFFER[:nbytes].tobytes(), self._again
        if again is not None and self.relay is None and not (
            self._is_full or self._is_closing or self._is_raw or self._is_deaf
            or self._reader.is_reading
        ):  # fmt: skip
            data, self._early = self._early + data, b""  # a head has waited for its body
            self.relay = again.send(self._proxy, self, data)
            if self.relay is not None or self._waits(again, data):
                return
        self.data_received(data)

    def _waits(self, again: "Again", data: bytes) -> bool:
        """Is it a known head whose body is on its way? Many clients send one after the other, and
        a head that is read by itself cannot go the short way."""
        waits = again.awaits_body(data)
        if waits:
            self._early = data
        return waits

    def data_received(self, data: bytes) -> None:
        """Something has come that is no usual request."""
        if self._is_raw:
            if self.relay is not None:
                self.relay.client_raw(data)
            return
        self._patience.heard(self._proxy.now())
        if self._is_closing or self._is_deaf:
            return
        if self._early or not self._is_free:
            self._keep(data)
        else:
            self._take(data)

    def pause_writing(self) -> None:
        """See asyncio.Protocol."""
        self._is_full = True
        self._patience.full(self._proxy.now())
        if self.relay is not None:
            self.relay.client_full()

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        self._is_full = False
        self._patience.drained()
        if self.relay is not None:
            self.relay.client_drained()
        else:
            self._go_on()

    # What comes

    @property
    def _is_free(self) -> bool:
        """Can a further request be read? Not while an earlier one is under way, or while its answer
        has not been taken."""
        return self.relay is None and not (self._is_full or self._is_closing or self._is_raw)

    def _keep(self, data: bytes) -> None:
        self._early += data
        if len(self._early) > MOST_EARLY:
            self._early, self._is_deaf = b"", True

    def _take(self, data: bytes) -> None:
        """Read one request after the other, as long as each is answered at once."""
        if not self._reader.is_reading and self._again is None and self._is_known(data):
            return
        at, self._is_taking = 0, True
        while at < len(data) and self._is_free:
            if not self._reader.is_reading:
                self._patience.began(self._proxy.now())
                self._began = (data, self._proxy.policy) if not at else None
            at = self._reader.feed(data, at)
        self._is_taking = False
        if at < len(data) and not self._is_closing:
            self._keep(data[at:])
        elif self._began is not None and self.relay is not None:  # the server works already
            self._learn(self.relay, *self._began)
        if not self._reader.is_reading:
            self._began = None

    def _learn(self, relay: "Relay", data: bytes, policy: "Policy") -> None:
        """Of a request that began with these bytes, and was let in. Its body may have come later,
        so who may ask what may have changed."""
        if policy is self._proxy.policy:
            self._again = self._proxy.heads.learn(data, relay, self, policy)

    def _is_known(self, data: bytes) -> bool:
        """Has such a head come on another connection, and is it a usual request?"""
        again = self._again = self._proxy.heads.find(data, self)
        if again is None:
            return False
        self.relay = again.send(self._proxy, self, data)
        return self.relay is not None or self._waits(again, data)

    def _go_on(self) -> None:
        """A request has been answered: to the next, if one is there already."""
        if self._is_taking or not self._is_free:
            return
        early, self._early = self._early, b""
        if early:
            self._take(early)
        if self._has_ended and (self.relay is None or self.relay.ends_with_client):
            self.close()

    def request_began(self, request: Request) -> None:
        """See Sink: whether it can be served is known before its body comes."""
        self._reading = self._proxy.relay(self, request)
        self._reading.began()

    def request_body(self, data: bytes) -> None:
        """See Sink."""
        if self._reading is not None:
            self._reading.body(data)

    def request_ended(self) -> None:
        """See Sink."""
        relay, self._reading = self._reading, None
        if relay is not None:
            self.relay = relay
            relay.serve()

    def request_refused(self, trouble: Trouble, request: Request | None) -> None:
        """See Sink: an answer to what is no request; the connection ends with it."""
        if self._reading is not None:
            self._reading.refuse(trouble)
            return
        began = self._patience.began_at
        self.send(refusal(self._proxy, trouble, request, peer=self.peer, began=began))
        self._linger()

    # What relays do

    def want_body(self) -> None:
        """Expect: 100-continue."""
        self.send(b"HTTP/1.1 100 Continue\r\n\r\n")

    def closes_after(self, relay: "Relay") -> bool:
        """Is its answer the last on this connection? It is, before its body has been read."""
        has_more = relay is self._reading and relay.has_body
        return has_more or self._is_closing or self._is_deaf or self._proxy.ends_connections

    def finished(self, relay: "Relay", *, keep_alive: bool) -> None:
        """A request has been answered."""
        if relay is self._reading:
            self._reading = None
            if relay.has_body:
                self._linger()
                return
        elif relay is not self.relay:
            return
        self.relay = None
        self._patience.heard(self._proxy.now())
        closes = not keep_alive or self._is_deaf or self._proxy.ends_connections
        if closes or self._is_closing or self._is_raw:
            self.close()
            return
        at_leisure(self._reader.prepare if self._again is None else self._again.prepare)
        self._go_on()
        if self._proxy.is_stopping:  # not now: the next request may be in the midst of what came
            asyncio.get_running_loop().call_soon(self._proxy.part, [self])

    @property
    def descriptor(self) -> int | None:
        """Of a connection on which nothing is under way in either direction; else None."""
        transport = self._transport
        is_idle = self._is_free and not (self._reader.is_reading or self._early or self._has_ended)
        if transport is None or not is_idle or self._reading is not None:
            return None
        found: socket.socket | None = transport.get_extra_info("socket")
        return found.fileno() if found and not transport.get_write_buffer_size() else None

    def raw(self) -> bytes:
        """From now on bytes are passed as they come; what has come already."""
        self._is_raw = True
        early, self._early = self._early, b""
        return early

    def _linger(self) -> None:
        """Close, but read on for a while and throw it away: the kernel resets a connection that is
        closed with unread bytes, and the client could lose the answer."""
        self._is_closing = True
        if self._transport is None or not self._transport.can_write_eof():
            self.close()
        elif not self._has_ended:
            self._transport.write_eof()
            self._patience.lingers(self._proxy.now())
        else:
            self._transport.close()

    # Time

    def look(self, now: float) -> None:
        """Once a second: slow senders, slow readers, and connections that nobody uses."""
        if self._patience.is_stalled(now) or self._patience.has_lingered(now):
            self.abort()
        elif self._is_closing or self.relay is not None:
            return
        elif self._reader.is_reading:
            self._look_at_sender(now)
        elif self._early and not self._is_full:
            self._go_on()  # the body is late: its head is read by itself
        elif self._patience.is_idle(now, self._proxy.idle_timeout_s):
            self.close()

    def _look_at_sender(self, now: float) -> None:
        reader = self._reader
        if self._patience.is_slow(now, nbytes=reader.nbytes if reader.has_head else None):
            self.request_refused(
                Trouble(408, "too_slow", "The request did not come in time."), None
            )
