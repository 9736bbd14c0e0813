"""One request from its head to its end: what Answer says goes to the client, what the Switchboard
says opens the way to a server (Delivery)."""

from llmctl.proxy.aside import look
from llmctl.proxy.asked import Asked
from llmctl.proxy.course import Course
from llmctl.proxy.delivery import NONE, Delivery
from llmctl.proxy.dialect import OTHER, Trouble, is_repeatable
from llmctl.proxy.head import AnswerHead, Headers, forwarded
from llmctl.proxy.intake import announced, taken
from llmctl.proxy.routing import Served
from llmctl.proxy.spool import Spool

COMMENT_AFTER_S = 8.0
"""Silence that a streaming client is spared; it is looked at once a second."""
MOST_TRIES = 3


class Relay(Course):
    """One request, on its way between a client and a server."""

    # The client's side

    def began(self) -> None:
        """The head has come: what can be refused without its body is."""
        refusal = self._proxy.admits(self, self._client, self.request)
        if refusal is not None:
            self.refuse(refusal)
            return
        if self.request.has_body:
            self._body = Spool()
            refusal = announced(self.request, self._proxy.settings.max_body_bytes)
            if refusal is not None:
                self.refuse(refusal)
            elif self.request.header(b"expect") is not None and self.request.may_chunk:
                self._client.want_body()

    def body(self, data: bytes) -> None:
        """More of the request's body."""
        if self._is_over or self._body is None:
            return
        refusal = taken(self._body, data, self._proxy.settings.max_body_bytes)
        if refusal is not None:
            self.refuse(refusal)

    def serve(self) -> None:
        """It is whole, and it is its turn on the connection."""
        if self._is_over:
            return
        may_be_own = self.endpoint is OTHER or self.request.method != b"POST"
        if not (may_be_own and self._proxy.serve_own(self, self.request, self.path)):
            look(self.request, self.endpoint, self._body, self._understood)

    def _understood(self, found: Asked | Trouble) -> None:
        if self._is_over:
            return
        if isinstance(found, Trouble):
            self.refuse(found)
            return
        self._wants(found)
        self._route()

    def sent(self, found: Asked, served: Served, head: bytes, body: Spool) -> Delivery:
        """It has gone the short way (see Again): what the long one would have left behind."""
        self._wants(found)
        self._goes_to(served)
        self._counts(self.record.began)
        self._body, self._delivery = body, Delivery(self, head, body)
        return self._delivery

    def _route(self) -> None:
        where = self._proxy.way(self.asked.model, self.forced, self.key)
        if isinstance(where, Trouble):
            self.refuse(where)
            return
        self._goes_to(where)
        self.is_waiting = True
        self._proxy.board.arrive(self, where, since=self._waits_since)
        if self.is_waiting and not self._is_over:
            self._send(self.answer.comment())  # a sign of life

    @property
    def ends_with_client(self) -> bool:
        """Does a client that ends its side end the request too?"""
        works = self.served is not None and self.endpoint is not OTHER
        return not self._is_over and (works or self.is_watching)

    def client_gone(self) -> None:
        """Nobody is there to read it: whatever is under way for it ends."""
        if not self._is_over:
            self.record.outcome = "client_gone"
            self._over()

    def client_full(self) -> None:
        """The client reads too slowly."""
        self.is_full = True
        self._delivery.pause()

    def client_drained(self) -> None:
        """It reads again."""
        self.is_full = False
        self._delivery.resume()

    def client_raw(self, data: bytes) -> None:
        """After a 101."""
        self._delivery.write_raw(data)

    # Turns

    def admitted(self) -> None:
        """The model is ready, and the request is counted as one that it works on."""
        assert self.served is not None  # noqa: S101  # it was routed
        self.is_waiting = False
        self._counts(self._proxy.now())
        self._delivery = Delivery(
            self, self._head(self.served), self._body, is_head=self.request.method == b"HEAD",
            may_switch=self.request.wants_websocket, is_repeatable=self._is_repeatable,
        )  # fmt: skip
        self._delivery.begin(self._proxy.board.pool(self.served))

    def _head(self, served: Served) -> bytes:
        return forwarded(
            self.request, target=self.request.target(self.path), port=served.port,
            length=self._body.nbytes if self._body is not None else None, key=served.key,
        )  # fmt: skip

    def refuse(self, trouble: Trouble) -> None:
        """It will not be served, or not to its end."""
        if self._is_over:
            return
        self.answer.closes |= self._client.closes_after(self)
        self._send(self.answer.trouble(trouble))
        self._over()

    def page(
        self, status: int, body: bytes, *, kind: bytes = b"application/json", headers: Headers = ()
    ) -> None:
        """An answer of the proxy itself."""
        if not self._is_over:
            self.answer.closes |= self._client.closes_after(self)
            self._send(self.answer.page(status, body, [(b"Content-Type", kind), *headers]))
            self._over()

    def watch(self) -> None:
        """From now on the client gets events of ours (see progress), until it goes."""
        self.is_watching = True
        self.answer.wants_stream = True
        self._send(self.answer.comment())

    def progress(self, event: bytes) -> None:
        """An event of ours that says how the wait goes."""
        self._send(self.answer.event(event))

    def look(self, now: float) -> None:
        """Once a second. What was sent since the last look counts as sent now."""
        if self._has_heard:
            self._heard_at, self._has_heard = now, False
        elif now - self._heard_at >= COMMENT_AFTER_S:
            self._send(self.answer.comment())

    # The server's side (see Delivery)

    def head(self, head: AnswerHead) -> None:
        """The server's head; it goes out with what follows at once."""
        is_new = not self.answer.has_answer and self._is_repeatable
        if head.status == 503 and is_new and self._tries < MOST_TRIES:
            self.nothing_came(f"{self.model} is loading")
            return
        self.answer.closes |= self._client.closes_after(self)
        self._unsent = self.answer.head(head)
        if head.status == 101:
            self._delivery.write_raw(self._client.raw())

    def data(self, data: bytes) -> None:
        """More of its body."""
        sent = self.answer.body(data)
        is_first = self.record.first is None and bool(sent)
        if self._unsent:
            sent, self._unsent = self._unsent + sent, b""
        self._send(sent)
        if is_first:
            self.record.saw(data, self._proxy.now())

    def raw(self, data: bytes) -> None:
        """After a 101."""
        unsent, self._unsent = self._unsent, b""
        self._send(unsent + data)

    def full(self) -> None:
        """After a 101: the server takes no more now."""
        self._client.pause()

    def drained(self) -> None:
        """It does again."""
        self._client.resume()

    def end(self) -> None:
        """The server's answer is whole."""
        self._delivery = NONE
        self._send(self.answer.end())
        self._over()

    def lost(self, why: str) -> None:
        """The server went away. Before its answer began, the request waits for it once more."""
        if self.answer.has_answer:
            self.refuse(Trouble(
                502, "upstream_died", f"{self.model} went away in the midst of its answer: {why}.",
            ))  # fmt: skip
        elif self._delivery.has_sent and not self._is_repeatable:
            self.refuse(Trouble(
                502, "no_answer", f"{self.model} went away: {why}. It may have done what was asked "
                "for, so it is not asked again.", is_final=True,
            ))  # fmt: skip
        else:
            self.nothing_came(f"{self.model} went away: {why}")

    @property
    def _is_repeatable(self) -> bool:
        return is_repeatable(self.request.method, self.path)

    def nothing_came(self, why: str) -> None:
        """No byte of an answer, and nothing that asking again would do twice."""
        self._drop_delivery()
        self._uncount()
        if self._is_over or self.served is None:
            return
        if self._tries >= MOST_TRIES:
            self.refuse(Trouble(502, "no_answer", f"{why}.", retry_after_s=2))
            return
        self._waits_since = self._waits_since or self.record.began
        self._proxy.board.doubt(self.served)
        self._route()

    def _send(self, data: bytes) -> None:
        if data:
            self._has_heard = True
            self._client.send(data)

    def _drop_delivery(self) -> None:
        delivery, self._delivery = self._delivery, NONE
        delivery.drop()

    def _uncount(self) -> None:
        if self._counted and self.served is not None:
            self._counted = False
            self._proxy.board.done(self.served)

    def _over(self) -> None:
        """However it ended: nothing of it is left anywhere."""
        if self._is_over:
            return
        self._is_over = True
        self._drop_delivery()
        if self.is_waiting and self.served is not None:
            self.is_waiting = False
            self._proxy.board.leave(self, self.served)
        self._uncount()
        if self._body is not None:
            self._body.close()
        self.record.finish(self._proxy.now(), self.answer)
        self._proxy.over(self)
        if self.answer.broken:
            self._client.abort()
        else:
            self._client.finished(self, keep_alive=self.answer.keep_alive)
