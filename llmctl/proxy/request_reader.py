"""Requests out of a connection's bytes: bytes in, calls out; no socket and no clock.

llhttp reads heads and chunks, in pieces that never reach beyond the end of one request: both of
them end with an empty line. So a further request that came early (pipelining) is not looked at
before its turn, and no byte of a body can be taken for a request. A body with a Content-Length is
only counted.
"""

from typing import Protocol

import httptools

from llmctl.proxy.dialect import Trouble
from llmctl.proxy.head import MAX_HEAD_BYTES, Request, fault, split_target

_EMPTY_LINE = b"\r\n\r\n"
_CHUNKED = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
_MOST_FRAMING = 8
"""Bytes of chunk sizes per byte of body, beyond the first MAX_HEAD_BYTES: chunks of one byte have
5. More is a client that sends framing for ever."""


class Sink(Protocol):
    """Who gets the requests. The parser is not active when it is called."""

    def request_began(self, request: Request) -> None:
        """A head that can be served."""
        ...

    def request_body(self, data: bytes) -> None:
        """More of its body."""
        ...

    def request_ended(self) -> None:
        """It is whole."""
        ...

    def request_refused(self, trouble: Trouble, request: Request | None) -> None:
        """What came cannot be served, and what follows cannot be read. request: its head, where
        there is one."""
        ...


class RequestReader:
    """One connection. is_reading: part of a request has come, and not all of it; has_head: its
    head has; nbytes: how much of it."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._is_over = False
        self._reset()

    def _reset(self) -> None:
        self.is_reading = self.has_head = self._ended = False
        self.nbytes = self._of_body = 0
        self._parser: httptools.HttpRequestParser | None = None
        self._url, self._tail = b"", b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._request: Request | None = None
        self._pieces: list[bytes] = []
        self._left: int | None = None

    def feed(self, data: bytes, at: int = 0) -> int:
        """Read on from `at`, at most to the end of one request; gives where it stopped."""
        self.is_reading = True
        while at < len(data) and not self._is_over and not self._ended:
            at = self._count(data, at) if self._left is not None else self._parse(data, at)
        if self._is_over:
            return len(data)
        pieces, self._pieces = self._pieces, []
        ended = self._ended
        if ended:
            self._reset()
        if pieces:
            self._sink.request_body(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        if ended:
            self._sink.request_ended()
        return at

    def prepare(self) -> None:
        """What the next request will need, made while nobody waits for it."""
        if self._parser is None and not (self.is_reading or self._is_over):
            self._parser = httptools.HttpRequestParser(self)

    def _count(self, data: bytes, at: int) -> int:
        """Part of a body whose length is known."""
        assert self._left is not None  # noqa: S101  # the caller looked
        piece = data if not at and len(data) <= self._left else data[at : at + self._left]
        self._pieces.append(piece)
        self.nbytes += len(piece)
        self._left -= len(piece)
        self._ended = self._left == 0
        return at + len(piece)

    def _parse(self, data: bytes, at: int) -> int:
        """Part of a head or of chunks, up to the next empty line."""
        end = self._boundary(data, at)
        self.nbytes += end - at
        if not self.has_head and self.nbytes > MAX_HEAD_BYTES:
            self._refuse(431, "The request's head is too large.", kind="head_too_large")
        elif self._run(data[at:end]):
            if self._request is not None:
                self._begin(self._request)
            elif self.nbytes - self._of_body > MAX_HEAD_BYTES + _MOST_FRAMING * self._of_body:
                self._refuse(400, "There is more framing than there is body.")
        return end

    def _boundary(self, data: bytes, at: int) -> int:
        """Where the next empty line ends, which may have begun in an earlier piece."""
        tail = self._tail
        across = (tail + data[at : at + 3]).find(_EMPTY_LINE) if tail else -1
        end = at + across - len(tail) if across >= 0 else data.find(_EMPTY_LINE, at)
        if across < 0 and end < 0:
            self._tail = (tail + data[max(at, len(data) - 3) :])[-3:]
            return len(data)
        self._tail = b""
        return end + len(_EMPTY_LINE)

    def _run(self, piece: bytes) -> bool:
        """Does llhttp take it?"""
        if self._parser is None:
            self._parser = httptools.HttpRequestParser(self)
        try:
            self._parser.feed_data(piece)
        except httptools.HttpParserUpgrade:
            return True  # after the whole of the piece
        except httptools.HttpParserInvalidMethodError:
            self._refuse(501, "That is no method of HTTP.")
        except httptools.HttpParserError as error:
            self._refuse(400, f"That is no HTTP request: {error}.")
        else:
            return True
        return False

    def _begin(self, request: Request) -> None:
        """The head is there: is it one that can be served, and what follows it?"""
        self._request, self.has_head = None, True
        self.nbytes = 0
        wrong = fault(request, self._url, len(self._headers))
        if wrong is not None:
            self._refuse(wrong.status, wrong.text, request=request)
            return
        if request.is_chunked:
            if request.upgrade:  # httptools leaves out the body of such a request
                self._parser = httptools.HttpRequestParser(self)
                self._parser.feed_data(_CHUNKED)
                self._request = None
        else:
            length = request.length
            self._parser = None
            self._left = length or None
            self._ended = not length
        self._sink.request_began(request)

    def _refuse(
        self, status: int, text: str, *, kind: str = "bad_request", request: Request | None = None
    ) -> None:
        self._is_over, self._parser = True, None
        self._sink.request_refused(Trouble(status, kind, text), request)

    # httptools

    def on_url(self, url: bytes) -> None:
        """The target, in one or several pieces."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header; trailers come after the head and are dropped."""
        if not self.has_head:
            self._headers.append((name, value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        """The head is whole."""
        parser = self._parser
        assert parser is not None  # noqa: S101  # it calls
        path, query = split_target(self._url) or (b"", b"")
        self._request = Request(
            parser.get_method(), path, query, parser.get_http_version(), tuple(self._headers),
            parser.should_keep_alive(), parser.should_upgrade(),
        )  # fmt: skip

    def on_body(self, body: bytes) -> None:
        """More of a chunked body."""
        self._of_body += len(body)
        self._pieces.append(body)

    def on_message_complete(self) -> None:
        """It is whole; of a request that has no chunks, this says no more than its head."""
        self._ended = self.has_head
