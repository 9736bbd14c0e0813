"""What a request that goes the short way (see Again) does otherwise than one that does not."""

from typing import TYPE_CHECKING, Any

from llmctl.proxy.course import Course
from llmctl.proxy.delivery import Delivery
from llmctl.proxy.healing import Healing
from llmctl.proxy.lane import Lane
from llmctl.proxy.spool import Spool
from llmctl.proxy.tasks import log

if TYPE_CHECKING:
    from llmctl.proxy.again import Usual
    from llmctl.proxy.guard.session import Session
    from llmctl.proxy.upstream import Upstream


_END_OF_HEAD = b"\r\n\r\n"


class Short(Course):
    """The short ways of a request, of its answer's beginning and of its usual events."""

    __slots__ = ("_usual",)

    _usual: "Usual"

    def sent(
        self, usual: "Usual", upstream: "Upstream", head: bytes, asks: bytes, body: bytes,
        session: "Session | None",
    ) -> None:  # fmt: skip
        """It has gone the short way (see Again): what the long one would have left behind. asks:
        the body as it was sent. session: made for it beforehand."""
        relay: Any = self  # it is one
        self._usual = usual
        answer, record, served = self.answer, self.record, usual.served
        self.asked, self.served, self._tries, self._counted = usual.asked, served, 1, True
        answer.served_by = record.served = served.name
        record.asked = usual.asked.model or self.forced
        record.instance, record.admitted = served.number, record.began
        record.stream = answer.wants_stream = usual.streams
        self._body = spool = Spool(body)
        if usual.plan is not None:
            self._healing = healing = Healing(relay, usual.plan, spool, self._proxy, session)
            answer.guard = healing.session
        to = Delivery(
            relay, head, spool if asks is body else Spool(asks), pool=usual.pool, upstream=upstream
        )  # fmt: skip
        self._delivery = to
        upstream.carries(to)
        if self._proxy.journal.events.watchers:
            self._proxy.journal.began(self.ticket, record)
            self._proxy.journal.admitted(self.ticket, record)

    def _not_begun(self, data: bytes, sent: bytes) -> None:
        """Nothing of the answer was there until now. data: what has come; sent: what went out."""
        if sent or self.answer.is_assembling:
            self.record.saw(data, self._proxy.now())
            self._hurry()
        elif self._again is not None and self.answer.passing is not None and not self._is_again:
            self._delivery.hurry(self._foresees, after=_END_OF_HEAD)

    def _foresees(self, came: bytes) -> bool:
        """What comes after the head. Where it is like the last answer's beginning, it goes out
        before it is understood (see Foretold)."""
        self._came, again = came, self._again
        foretold = again.foretold if again is not None and again.usual is self._usual else None
        if foretold is not None and foretold.is_like(came):
            self._ahead = came
            self._client.send(came)
        return False

    def _begins(self, sent: bytes) -> None:
        """It has been understood."""
        came, ahead, self._came, self._ahead = self._came, self._ahead, b"", b""
        if not ahead:
            self._send(sent)
            if self._again is not None and self.answer.status == 200:
                self._again.began(came, sent, self._usual)
        elif sent != ahead:  # it cannot be taken back
            log(f"An answer of {self.model} did not begin as was foretold, and is cut.")
            self._client.abort()

    def _hurry(self) -> None:
        """Of a stream of events the usual ones can go the short way."""
        events, write = self.answer.passing, self._client.writer
        is_limited = self._healing is not None and self._healing.is_limited
        if self.record.first is None or is_limited:
            return
        if events is not None and write is not None:
            self._delivery.hurry(Lane(self.answer, events, write, self._heed).take)
