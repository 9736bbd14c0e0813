"""Where one request stands: what is asked, of which model, and what has become of it so far."""

import itertools
from typing import TYPE_CHECKING, cast

from llmctl.proxy.affinity import MOST_BODY, Keys, keys_of
from llmctl.proxy.answer import Answer
from llmctl.proxy.asked import Asked
from llmctl.proxy.delivery import NONE
from llmctl.proxy.dialect import OTHER, endpoint_of, is_repeatable
from llmctl.proxy.guard_record import Finding
from llmctl.proxy.head import Request
from llmctl.proxy.record import Record
from llmctl.proxy.routing import Served, strip_upstream

if TYPE_CHECKING:
    from llmctl.core.guard.settings import GuardSettings
    from llmctl.proxy.again import Again
    from llmctl.proxy.client import Client
    from llmctl.proxy.falling import Falling
    from llmctl.proxy.healing import Healing
    from llmctl.proxy.keys import ApiKey
    from llmctl.proxy.parties import Waiting
    from llmctl.proxy.server import Proxy
    from llmctl.proxy.spool import Spool

_tickets = itertools.count(1)


class Course:
    """One request. ticket: its number, in order of arrival. served: the model that it is for."""

    __slots__ = (
        "_again", "_ahead", "_body", "_came", "_client", "_counted", "_delivery",
        "_falling", "_healing", "_heard_at", "_heard_bytes", "_is_over", "_proxy", "_tries",
        "_unsent", "_waits_since", "answer", "asked", "endpoint", "forced", "guard",
        "is_full", "is_waiting", "is_watching", "key", "path", "record", "request",
        "served", "ticket",
    )  # fmt: skip

    def __init__(
        self, proxy: "Proxy", client: "Client", request: Request, again: "Again | None" = None
    ) -> None:
        self._proxy, self._client, self.request = proxy, client, request
        self._again, self._came, self._ahead = again, b"", b""
        """What is known of its head; the first bytes of its answer until they are understood, and
        what was sent for them already."""
        self.ticket = next(_tickets)
        if again is None:
            self.forced, self.path = strip_upstream(request.path)
            self.endpoint = endpoint_of(self.path)
        else:
            self.forced, self.path, self.endpoint = again.forced, again.path, again.endpoint
        headers = proxy.headers_for(request) if proxy.settings.cors else ()  # or two calls for none
        self.answer = Answer(request, self.endpoint, headers=headers)
        self.record = Record(
            began=proxy.now(), endpoint=self.endpoint.name, path=self.path, peer=client.peer,
        )  # fmt: skip
        if again is not None and again.key is not None:
            self.record.key = again.key.name
        self.asked = Asked()
        self.guard: GuardSettings | None = None
        """How it is guarded; None until its model is known."""
        self.key: ApiKey | None = again.key if again is not None else None
        self.served: Served | None = None
        self._body: Spool | None = None
        self._delivery = NONE
        self._healing: Healing | None = None
        self._falling: Falling | None = None
        self.is_waiting = self.is_full = self.is_watching = self._counted = self._is_over = False
        self._tries = 0
        self._unsent = b""
        self._heard_at, self._heard_bytes = self.record.began, 0
        self._waits_since: float | None = None

    @property
    def has_body(self) -> bool:
        """Does it have one?"""
        return self.request.has_body

    @property
    def ends_with_client(self) -> bool:
        """Does a client that ends its side end the request too?"""
        works = self.served is not None and self.endpoint is not OTHER
        return not self._is_over and (works or self.is_watching)

    @property
    def is_repeatable(self) -> bool:
        """May it be asked for again when no answer came?"""
        return is_repeatable(self.request.method, self.path)

    @property
    def is_over(self) -> bool:
        """Has it ended?"""
        return self._is_over

    @property
    def _is_again(self) -> bool:
        """Is this a further attempt of the guard's at an answer?"""
        return self._healing is not None and self._healing.is_again

    @property
    def model(self) -> str:
        """The name of the model that serves it."""
        return self.served.name if self.served else "the model"

    def _wants(self, found: Asked) -> None:
        self.asked, record = found, self.record
        record.asked = found.model or self.forced
        record.stream = self.answer.wants_stream = found.stream and self.endpoint.streams
        self._proxy.journal.began(self.ticket, record)

    def _goes_to(self, served: Served) -> None:
        self.served = served
        self.answer.served_by, self.record.served = served.label, served.name
        self.record.instance = served.number

    def _counts(self, now: float) -> None:
        self._counted, self.record.admitted = True, now
        self._proxy.journal.admitted(self.ticket, self.record)
        self._tries += 1

    def conversation(self) -> Keys:
        """See Waiting."""
        body = self._body
        is_small = body is not None and body.nbytes <= MOST_BODY
        return keys_of(self.request, body.whole() if body is not None and is_small else None)

    @property
    def state(self) -> str:
        """In a word, for who looks on."""
        if self.is_waiting:
            return "waiting"
        if self._delivery is NONE:
            return "waiting" if self._counted else "receiving"
        return "streaming" if self.answer.has_answer else "prefill"

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

    def raw(self, data: bytes) -> None:
        """After a 101."""
        self._send(data)

    def full(self) -> None:
        """After a 101: the server takes no more now."""
        self._client.pause()

    def drained(self) -> None:
        """It does again."""
        self._client.resume()

    def watch(self) -> None:
        """From now on the client gets events of ours (see progress), until it goes."""
        self.is_watching = True
        self.answer.wants_stream = True
        self._send(self.answer.comment())

    def progress(self, event: bytes) -> None:
        """An event of ours that says how the wait goes."""
        self._send(self.answer.event(event))

    def _send(self, data: bytes) -> None:
        if self._unsent:
            data, self._unsent = self._unsent + data, b""
        if data:
            self._client.send(data)

    def _drop_delivery(self) -> None:
        delivery, self._delivery = self._delivery, NONE
        delivery.drop()

    def _uncount(self) -> None:
        if self._counted and self.served is not None:
            self._counted = False
            if self.served.far is None:
                self._proxy.board.done(self.served, self.ticket)

    def _leave_queue(self) -> None:
        if self.is_waiting and self.served is not None:
            self.is_waiting = False
            self._proxy.board.leave(cast("Waiting", self), self.served)  # it is a Relay

    def found(self, finding: Finding) -> None:
        """Say what the guard found: on the answer, before its head is out, and in the journal."""
        self.answer.guarded.append(finding.header)
        is_logged = self._proxy.settings.request_log
        self._proxy.journal.found(self.ticket, self.record, finding, is_logged=is_logged)

    def _heed(self) -> None:
        """Take the step that the guard wants, if any."""
        healing = self._healing
        if healing is not None and (healing.is_limited or healing.session.wants is not None):
            healing.heard()

    def leaves(self) -> None:
        """This model is not to answer it."""
        self._drop_delivery()
        self._leave_queue()
        self._uncount()
        self._guarded_by(None)
        self._tries, self.served = 0, None  # what becomes of that model is nothing to it any more

    def _guarded_by(self, healing: "Healing | None") -> None:
        if self._healing is not None:
            self._healing.close()
        self._healing = healing
        self.answer.guard = healing.session if healing is not None else None
