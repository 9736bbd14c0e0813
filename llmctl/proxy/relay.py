"""One request from its head to its end: what Answer says goes to the client, what the Switchboard
says opens the way to a server (Delivery)."""

from llmctl.core.guard.settings import GuardSettings
from llmctl.proxy.aside import look
from llmctl.proxy.asked import Asked
from llmctl.proxy.delivery import NONE, Delivery
from llmctl.proxy.dialect import OTHER, Trouble
from llmctl.proxy.falling import falling
from llmctl.proxy.far import head_for
from llmctl.proxy.guard_mode import settings_for
from llmctl.proxy.guard_request import rewritten
from llmctl.proxy.head import AnswerHead, Headers
from llmctl.proxy.healing import Healing
from llmctl.proxy.intake import announced, taken
from llmctl.proxy.routing import Served
from llmctl.proxy.short import Short
from llmctl.proxy.spool import Spool

COMMENT_AFTER_S = 8.0
"""Silence that a streaming client is spared; it is looked at once a second."""
MOST_TRIES = 3


class Relay(Short):
    """One request, on its way between a client and a server."""

    __slots__ = ()

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

    def _route(self) -> None:
        where = self._proxy.way(self.asked.model, self.forced, self.key)
        if isinstance(where, Trouble):
            self.refuse(where)
            return
        if self._falling is None and where.fallback:
            self._falling = falling(self, self._proxy, where)
        self._goes(where if self._falling is None else self._falling.target)

    def _goes(self, where: Served) -> None:
        """To a model's queue; another box has a queue of its own."""
        self._goes_to(where)
        if where.far is not None:
            self._counts(self._proxy.now())
            self._deliver(self._body, where)
            return
        if self.guard is None:
            self._guarded(where)
        self.is_waiting = True
        self._proxy.board.arrive(self, where, since=self._waits_since)
        if self.is_waiting and not self._is_over:
            self._send(self.answer.comment())  # a sign of life

    def _guarded(self, where: Served) -> None:
        """Its model is known: what it is sent. It is done once, however often it is tried."""
        self.guard = settings_for(self.request, where.guard)
        if self._body is not None and self.asked.tools:
            made = rewritten(self.endpoint, self._body, self.guard)
            self._body = made.body
            if made.finding is not None:
                self.found(made.finding)

    def client_gone(self) -> None:
        """Nobody is there to read it: whatever is under way for it ends."""
        if not self._is_over:
            self.record.outcome = "client_gone"
            self._over()

    # Turns

    def admitted(self) -> None:
        """The model is ready, and the request is counted as one that it works on."""
        assert self.served is not None  # noqa: S101  # it was routed
        self.is_waiting = False
        self._counts(self._proxy.now())
        self._proxy.board.replicas.seat(self, self.served)

    def seated(self, served: Served) -> None:
        """See Waiting."""
        if served is not self.served:
            self._goes_to(served)
        healing = Healing.of(self, self.request, self._body, self._proxy)
        self._guarded_by(healing)
        self._deliver(healing.sent if healing is not None else self._body, served)

    def _deliver(self, body: Spool | None, served: Served) -> None:
        length = body.nbytes if body is not None else None
        head, is_again = head_for(self.request, self.path, served, length), self._is_again
        to = self if self._falling is None or is_again else self._falling.opening()
        self._came = b""  # of an attempt before this one
        self._delivery = Delivery(
            to, head, body, is_head=self.request.method == b"HEAD",
            may_switch=self.request.wants_websocket, is_repeatable=self.is_repeatable,
        )  # fmt: skip
        if self.is_full:
            self._delivery.pause()
        self._delivery.begin(self._proxy.board.pool(served))

    def pass_on(self, data: bytes) -> None:
        """See Guarded."""
        self._send(self.answer.more(data))

    def ask_again(self, body: Spool) -> None:
        """See Guarded. It is still the one request that the model works on."""
        self._drop_delivery()
        if self.served is not None:
            self._deliver(body, self.served)

    def stop(self) -> None:
        """See Guarded."""
        self._drop_delivery()
        self.answer.outcome = "stopped"
        self.end()

    def refuse(self, trouble: Trouble) -> None:
        """It will not be served, or not to its end."""
        if self._is_over:
            return
        told = self._falling.refused(trouble) if self._falling is not None else trouble
        if told is None or self._is_over:
            return
        self.answer.closes |= self._client.closes_after(self)
        self._send(self.answer.trouble(told))
        self._over()

    # Fallback (see Falling)

    @property
    def may_try_again(self) -> bool:
        """Is the same model asked once more, where no answer came?"""
        return self._tries < MOST_TRIES

    def falls(self, to: Served, settings: GuardSettings) -> None:
        """That one is asked in its stead. settings: how it is guarded. It keeps its place: what was
        asked before a stop by hand starts nothing."""
        self.guard = settings
        self._waits_since = self._waits_since or self.record.began
        self._goes(to)

    def answers_as(self, served: Served) -> None:
        """What follows is this model's last word."""
        self._tries = MOST_TRIES
        self._goes_to(served)

    def page(
        self, status: int, body: bytes, *, kind: bytes = b"application/json", headers: Headers = ()
    ) -> None:
        """An answer of the proxy itself."""
        if not self._is_over:
            self.answer.closes |= self._client.closes_after(self)
            self._send(self.answer.page(status, body, [(b"Content-Type", kind), *headers]))
            self._over()

    def look(self, now: float) -> None:
        """Once a second. What was sent since the last look counts as sent now."""
        if self._healing is not None:
            self._healing.look()
        if self._falling is not None:
            self._falling.look(now)
        if self._heard_bytes != self.answer.sent_bytes:
            self._heard_at, self._heard_bytes = now, self.answer.sent_bytes
        elif now - self._heard_at >= COMMENT_AFTER_S:
            self._send(self.answer.comment())

    # The server's side (see Delivery)

    def head(self, head: AnswerHead) -> None:
        """The server's head; it goes out with what follows at once."""
        if self._healing is not None and self._is_again:
            self._healing.head(head)
            return
        is_new = not self.answer.has_answer and self.is_repeatable
        if head.status == 503 and is_new and self.may_try_again:
            self.nothing_came(f"{self.model} is loading")
            return
        self.answer.closes |= self._client.closes_after(self)
        self._unsent = self.answer.head(head)
        if head.status == 101:
            self._delivery.write_raw(self._client.raw())

    def data(self, data: bytes, *, is_last: bool = False) -> None:
        """More of its body. is_last: its end goes out with it."""
        sent = self.answer.body(data)
        if is_last:
            self._unsent += sent
        elif self._came:
            self._begins(sent)
        else:
            self._send(sent)
        if self.record.first is None:
            self._not_begun(data, sent)
        self._heed()

    def end(self) -> None:
        """The server's answer is whole."""
        self._delivery = NONE
        if self._healing is not None:
            self._healing.tell("healed")
        self._send(self.answer.end())
        self._over()

    def lost(self, why: str) -> None:
        """The server went away. Before its answer began, the request waits for it once more."""
        if self.answer.has_answer:
            told = f"{self.model} went away in the midst of its answer: {why}."
            self.refuse(Trouble(502, "upstream_died", told))
        elif self._delivery.has_sent and not self.is_repeatable:
            self.refuse(Trouble(
                502, "no_answer", f"{self.model} went away: {why}. It may have done what was asked "
                "for, so it is not asked again.", is_final=True,
            ))  # fmt: skip
        else:
            self.nothing_came(f"{self.model} went away: {why}")

    def nothing_came(self, why: str) -> None:
        """No byte of an answer, and nothing that asking again would do twice."""
        if self.answer.has_answer:  # this was a further attempt at one
            self.lost(why)
            return
        self._drop_delivery()
        self._uncount()
        if self._is_over or self.served is None:
            return
        leaves = self._falling is not None and self._falling.leaves()
        if leaves or not self.may_try_again:
            self.refuse(Trouble(502, "no_answer", f"{why}.", retry_after_s=2))
            return
        self._waits_since = self._waits_since or self.record.began
        self._proxy.board.doubt(self.served)
        self._route()

    def _over(self) -> None:
        """However it ended: nothing of it is left anywhere."""
        if self._is_over:
            return
        self._is_over = True
        if self._delivery is not NONE:
            self._drop_delivery()
        if self.is_waiting:
            self._leave_queue()
        self._uncount()
        if self._healing is not None:
            self._guarded_by(None)
        if self._body is not None:
            self._body.close()
        self.record.finish(self._proxy.now(), self.answer)
        self._proxy.over(self)
        if self.answer.broken:
            self._client.abort()
        else:
            self._client.finished(self, keep_alive=self.answer.keep_alive)
