"""What one client gets: events of one request in, bytes for its connection out.

    answer = Answer(request, endpoint, wants_stream=True, served_by="coder")
    answer.comment()                    # waiting: the head of a stream, and a sign of life
    answer.head(head)                   # the server has answered
    answer.body(data); answer.end()     # or answer.trouble(...): it went away

No socket and no clock. Each method gives what is to be sent now, which may be nothing. Of a stream
whole events are passed on, so that one more (an error) can always follow; nothing that a server
says is changed but what its dialect has no word for.
"""

from collections import deque
from typing import TYPE_CHECKING

from llmctl.proxy import served_by as by
from llmctl.proxy.dialect import COMMENT, Endpoint, Trouble, error_event, error_page
from llmctl.proxy.guard.assemble import Assembler
from llmctl.proxy.guard.plan import Plan
from llmctl.proxy.head import (
    EVENTS,
    LAST_CHUNK,
    AnswerHead,
    Headers,
    Request,
    answer_head,
    chunk,
    passed_on,
)
from llmctl.proxy.sse import Events, told_by

if TYPE_CHECKING:
    from llmctl.proxy.guard.session import Session

_OF_STREAM = {b"content-type", b"x-accel-buffering", b"cache-control"}
_ENDED = Trouble(502, "stream_ended", "The server ended its answer before it was finished.")
_MOST_ERROR = 64 << 10
_MOST_LAST = 16 << 10
"""Bytes of each piece of a plain answer that are kept, for the record."""


class Answer:
    """One answer. is_begun: its head is out. is_done: nothing more follows. broken: its end cannot
    be told but by closing the connection. closes: the connection ends with it. outcome: how it
    ended, for the log."""

    def __init__(
        self, request: Request, endpoint: Endpoint, *, wants_stream: bool = False,
        served_by: str | None = None, headers: Headers = (),
    ) -> None:  # fmt: skip
        self._request, self._endpoint, self.wants_stream = request, endpoint, wants_stream
        self.served_by, self._extra = served_by, tuple(headers)
        self.is_begun = self.is_done = self.broken = False
        self.fallback_from: tuple[str, ...] = ()
        self.may_fall = self._is_unknown = False
        """Is it not known yet who will answer; was it when the head went out?"""
        self.closes = not request.keep_alive
        self.status = self.sent_bytes = 0
        self.outcome = ""
        self.guard: Session | None = None
        """Who looks at the events of a stream before the client gets them."""
        self._assembler: Assembler | None = None
        self.guarded: list[str] = []
        """What the guard found and did before the head went out."""
        self.last: deque[bytes] = deque(maxlen=4)
        """The last pieces of the answer, where the timings are."""
        self._events: Events | None = None
        self._waits_for_head = self._chunked = False
        self._error: list[bytes] | None = None
        self._kept: list[tuple[bytes, bytes]] = []

    # Ours

    @property
    def keep_alive(self) -> bool:
        """May the connection serve another request?"""
        return not (self.closes or self.broken)

    @property
    def has_answer(self) -> bool:
        """Has the server begun to answer?"""
        return (self.is_begun and not self._waits_for_head) or self._error is not None

    def comment(self) -> bytes:
        """A sign of life, where the client reads a stream of events; else nothing."""
        if not self.wants_stream or self.is_done or (self.is_begun and self._events is None):
            return b""
        if self._events is not None and self._events.is_torn:
            return b""
        return self._opened() + self._framed(COMMENT)

    def event(self, data: bytes) -> bytes:
        """An event of ours while the server has not answered yet."""
        if not self.wants_stream or self.is_done or (self.is_begun and not self._waits_for_head):
            return b""
        return self._opened() + self._framed(data)

    def trouble(self, trouble: Trouble) -> bytes:
        """It cannot be served, or no longer: an answer that says so, or the last event. What has
        come to its end already is left as it is."""
        if self.is_done:
            return b""
        if not self.is_begun:
            self.outcome = self.outcome or trouble.kind
            return self.page(trouble.status, *error_page(self._endpoint.dialect, trouble))
        events = self._events
        if events is not None and (events.is_finished or events.has_failed):
            self.outcome = "server_error" if events.has_failed else "ok"
            return self._finished(b"")
        self.outcome = self.outcome or trouble.kind
        if events is None or events.is_torn:
            return self._torn()
        return self._finished(error_event(self._endpoint.dialect, trouble))

    def page(self, status: int, body: bytes, headers: Headers) -> bytes:
        """A whole answer of ours."""
        self.is_begun = self.is_done = True
        self.status, self.outcome = status, self.outcome or "ok"
        length = (b"Content-Length", b"%d" % len(body))
        head = answer_head(status, [*headers, length, *self._ours()])
        sent = head if self._request.method == b"HEAD" else head + body
        self.sent_bytes += len(sent)
        return sent

    def _ours(self) -> list[tuple[bytes, bytes]]:
        found = [] if self._is_unknown else by.headers(self.served_by, self.fallback_from)
        if self.guarded:
            found.append((b"X-Llmctl-Guard", ", ".join(self.guarded).encode()))
        found += self._extra
        if self.closes:
            found.append((b"Connection", b"close"))
        elif self._request.version == "1.0":
            found.append((b"Connection", b"keep-alive"))
        return found

    def _opened(self) -> bytes:
        """The head of a stream whose server has not answered yet."""
        if self.is_begun:
            return b""
        self._is_unknown = self.may_fall
        self._waits_for_head = self.is_begun = True
        self._follow_events()
        self.status = 200
        return self._streaming_head(200, b"OK", [
            (b"Content-Type", EVENTS), (b"Cache-Control", b"no-cache"),
            (b"X-Accel-Buffering", b"no"),
        ])  # fmt: skip

    def _follow_events(self, *, is_whole: bool = False) -> None:
        self._events = Events(self._endpoint, is_whole=is_whole)
        self.last = self._events.last

    def _streaming_head(
        self, status: int, reason: bytes, headers: Headers = (), lines: bytes = b""
    ) -> bytes:
        """HTTP/1.0 has no chunks: there the end of the connection is the end of the answer."""
        self._chunked = self._request.may_chunk
        self.closes = self.closes or not self._chunked
        coding = [(b"Transfer-Encoding", b"chunked")] if self._chunked else []
        ours = [*headers, *coding, *self._ours()]
        return answer_head(status, ours, reason=reason, lines=lines)

    # The server's

    def head(self, head: AnswerHead) -> bytes:
        """The server's head."""
        if self._waits_for_head:
            self._waits_for_head = False
            if head.status != 200 or not head.is_events:
                self._error = []
            told = by.comment(self.served_by, self.fallback_from) if self._is_unknown else b""
            return self._framed(told) if told else b""
        if self.guard is not None and self.guard.plan.assembles and head.is_events:
            return self._assembling(self.guard.plan, head)
        self.is_begun, self.status = True, head.status
        if head.status == 101:
            upgrade = [(k, v) for k, v in head.headers if k.lower() == b"upgrade"]
            return self._with([*upgrade, (b"Connection", b"upgrade")], head)
        if self._request.method == b"HEAD" or head.status in (204, 304):
            return self._bodiless(head)
        if head.is_events:
            self._follow_events()
        if head.length is None:
            return self._streaming_head(head.status, head.reason, lines=head.lines)
        return self._with([(b"Content-Length", b"%d" % head.length)], head)

    def _assembling(self, plan: Plan, head: AnswerHead) -> bytes:
        """The client wants no stream: what comes of one is put together, and goes out as a whole.
        Until then nothing of the answer is there."""
        self._assembler = Assembler(plan.endpoint, returns_tokens=plan.returns_tokens)
        self._kept = [one for one in passed_on(head.headers) if one[0].lower() not in _OF_STREAM]
        self._follow_events(is_whole=True)
        return b""

    def _bodiless(self, head: AnswerHead) -> bytes:
        """The length that an answer to HEAD tells is that of the answer to GET."""
        if head.length is None or head.status in (204, 304):
            return self._with([], head)
        return self._with([(b"Content-Length", b"%d" % head.length)], head)

    def _with(self, more: Headers, head: AnswerHead) -> bytes:
        headers = [*more, *self._ours()]
        return answer_head(head.status, headers, reason=head.reason, lines=head.lines)

    def body(self, data: bytes) -> bytes:
        """More of the server's body."""
        if self._error is not None:
            return self._collected(data)
        if self._events is not None:
            data = self._events.feed(data)
            if self.guard is not None and data:
                data = self._guarded(self.guard.feed(data), data)
        elif data:
            self.last.append(data[-_MOST_LAST:])
        if data and self._chunked:  # as `_framed`: this is done for every token
            data = b"%x\r\n%b\r\n" % (len(data), data)
        self.sent_bytes += len(data)
        return data

    def _guarded(self, out: bytes, data: bytes) -> bytes:
        """What the guard lets pass of some events."""
        if out is not data and self._events is not None:
            self._events.sent_instead(out)
        if self._assembler is not None:
            self._assembler.feed(out)
            return b""
        return out

    def more(self, data: bytes) -> bytes:
        """Events of ours, in the stead of the rest of the server's, which is left."""
        if not data or self.is_done or self._events is None:
            return b""
        self._events.cut()
        self._events.last.append(data)
        if self._assembler is not None:
            self._assembler.feed(data)
            return b""
        return self._framed(data)

    @property
    def passing(self) -> Events | None:
        """The events that go out in chunks as they come; None: something else does."""
        return self._events if self._chunked and self._assembler is None else None

    @property
    def is_assembling(self) -> bool:
        """Is a whole answer being put together from a stream?"""
        return self._assembler is not None

    def _framed(self, data: bytes) -> bytes:
        sent = chunk(data) if self._chunked else data
        self.sent_bytes += len(sent)
        return sent

    def _collected(self, data: bytes) -> bytes:
        """The server refused, and the client has a stream already: its words become an event."""
        assert self._error is not None  # noqa: S101  # the caller looked
        if sum(map(len, self._error)) < _MOST_ERROR:
            self._error.append(data)
        return b""

    def end(self) -> bytes:
        """The server's body ended as it should. A stream of events that ends without its last one
        was not finished."""
        if self.is_done:
            return b""
        if self._error is not None:
            return self.trouble(told_by(b"".join(self._error)))
        if self._assembler is not None:
            return self._assembled(self._assembler)
        events = self._events
        if events is not None and not (events.may_end or events.has_failed):
            return self.trouble(_ENDED)
        if events is not None and events.has_failed:
            self.outcome = "server_error"
        self.outcome = self.outcome or ("ok" if self.status < 400 else "refused")
        return self._finished(b"")

    def _assembled(self, assembler: Assembler) -> bytes:
        kind = (b"Content-Type", b"application/json; charset=utf-8")
        if assembler.error is not None:
            self.outcome = "server_error"
            return self.page(assembler.error_status, assembler.error_body(), [kind, *self._kept])
        if (body := assembler.whole()) is None:
            return self.trouble(_ENDED)
        return self.page(200, body, [kind, *self._kept])

    def _finished(self, data: bytes) -> bytes:
        self.is_done = True
        return (self._framed(data) if data else b"") + (LAST_CHUNK if self._chunked else b"")

    def _torn(self) -> bytes:
        """Part of a plain body is out, and its end will not come: only closing tells that."""
        self.is_done = self.broken = True
        return b""
