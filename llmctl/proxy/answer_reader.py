"""One answer out of a server's bytes: bytes in, facts out; no socket.

A server is trusted less than llhttp trusts it: what it sends beyond its answer, without being
asked or without end is no answer.
"""

from functools import partial
from typing import NamedTuple

import httptools

from llmctl.proxy.head import MAX_HEAD_BYTES, AnswerHead, Headers

_MOST_KNOWN = 2 << 10


class GarbledError(Exception):
    """What came is no answer. Its text says why."""


class Known(NamedTuple):
    """A head that a server sent before, of an answer in chunks. What is found in the same bytes
    again is the same."""

    data: bytes
    head: AnswerHead


class _Body:
    """What httptools is to tell of a message whose head is known."""

    __slots__ = (
        "on_body", "on_chunk_complete", "on_chunk_header", "on_message_begin",
        "on_message_complete",
    )  # fmt: skip

    def __init__(self, reader: "AnswerReader") -> None:
        self.on_message_begin = reader.on_message_begin
        self.on_body = reader.on_body
        self.on_message_complete = reader.on_message_complete
        self.on_chunk_header = reader.on_chunk_header
        self.on_chunk_complete = reader.on_chunk_complete


class AnswerReader:
    """The answer to one request. head: when it is there. is_whole: nothing of it is missing.
    is_raw: what follows is another protocol. is_used: something has come. is_clean: the connection
    can carry a further request. known: a head that may come, and after the answer one that may come
    again.
    """

    __slots__ = (
        "_has_more", "_headers", "_is_head", "_is_interim", "_may_switch", "_of_head",
        "_parser", "_pieces", "_reason", "_stays", "_until_close", "_within", "_wrong",
        "head", "is_raw", "is_used", "is_whole", "known", "on_chunk_complete",
        "on_chunk_header",
    )  # fmt: skip

    def __init__(
        self, *, is_head: bool = False, may_switch: bool = False, known: Known | None = None
    ) -> None:
        self.known = None if is_head else known
        self._within: list[None] = []  # one, within a chunk; kept without a call of Python's
        self.on_chunk_header = partial(self._within.append, None)
        self.on_chunk_complete = self._within.clear
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(
            self if self.known is None else _Body(self)
        )
        self._is_head, self._may_switch = is_head, may_switch
        self._headers: list[tuple[bytes, bytes]] = []
        self._reason = b""
        self._of_head = 0
        self._pieces: list[bytes] = []
        self._wrong = ""
        self._until_close = self._stays = self._is_interim = self._has_more = False
        self.head: AnswerHead | None = None
        self.is_whole = self.is_raw = self.is_used = False

    def feed(self, data: bytes | memoryview) -> None:
        """More bytes. GarbledError: they are no answer; what came before them still counts."""
        self.is_used = True
        if self.is_whole or self._parser is None:
            self._has_more = True
            return
        is_new = self.head is None
        if is_new:
            if not self._of_head and self.known is not None:
                self._recall(self.known, data)
            self._of_head += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self.is_raw = not self._wrong
            self._pieces.append(bytes(data[upgrade.args[0] :]))
        except httptools.HttpParserCallbackError as error:
            raise (error.__context__ or error) from None
        except httptools.HttpParserError as error:
            self._has_more = True
            if not self.is_whole:
                raise GarbledError(self._wrong or f"it sent what is no HTTP: {error}") from None
        if self._wrong:
            raise GarbledError(self._wrong)
        if self.head is None and self._of_head > 2 * MAX_HEAD_BYTES:
            raise GarbledError("the head of its answer does not end")
        if is_new and self.head is not None and self.known is None:
            self._remember(self.head, data)

    def _recall(self, known: Known, data: bytes | memoryview) -> None:
        """Is it the head that is known?"""
        if data[: len(known.data)] == known.data:
            self.head = known.head
        else:
            self.known, self._parser = None, httptools.HttpResponseParser(self)

    def _remember(self, head: AnswerHead, data: bytes | memoryview) -> None:
        """If all of the head came in these bytes, and says nothing of this answer alone."""
        in_chunks = head.length is None and not (self._until_close or self._is_head)
        if self._of_head == len(data) and in_chunks and head.status == 200:
            start, end, _ = bytes(data[:_MOST_KNOWN]).partition(b"\r\n\r\n")
            if end and start.startswith(b"HTTP/1.1 200 "):  # and no interim answer came first
                self.known = Known(start + end, head)

    def taken(self) -> bytes:
        """What of the body has come since the last call; after a switch, of the other protocol."""
        pieces = self._pieces
        if not pieces:
            return b""
        self._pieces = []
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def close(self) -> bool:
        """The connection ended as it should. Is the answer whole?"""
        self.is_whole = self.is_whole or self._until_close or self.is_raw
        self.release()
        return self.is_whole

    def release(self) -> None:
        """Let go of the parser, which holds on to this."""
        self._parser = None

    @property
    def is_between(self) -> bool:
        """Is it the end of a chunk, if what came last ended as one does?"""
        return not self._within

    @property
    def is_stream(self) -> bool:
        """Was its length told by its end alone?"""
        return self.head is not None and self.head.length is None

    @property
    def is_clean(self) -> bool:
        """Was nothing said beyond the answer, and is the connection to stay?"""
        return self.is_whole and self._stays and not (self._has_more or self._is_head)

    # httptools

    def on_message_begin(self) -> None:
        """Another message; after the answer there should be none."""
        if self.is_whole:
            self._has_more = True
        self._headers, self._reason = [], b""

    def on_status(self, status: bytes) -> None:
        """The words after the status."""
        self._reason += status

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header; trailers come after the body and are dropped."""
        if self.head is None:
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """The head is there. Interim answers (1xx) are not passed on."""
        if self.is_whole or self._parser is None:
            return
        status = self._parser.get_status_code()
        self._is_interim = 100 <= status < 200 and status != 101
        if self._is_interim:
            return
        length, codings, nbytes = _framing(self._headers)
        if nbytes > MAX_HEAD_BYTES:
            self._wrong = "the head of its answer is too large"
        elif status == 101 and not self._may_switch:
            self._wrong = "it changed the protocol, unasked"
        elif codings not in ([], [b"chunked"]):
            self._wrong = "it used a transfer coding that is not known"
        else:
            self.head = AnswerHead(status, self._reason, self._headers, length)
            self._until_close = length is None and not codings and status not in (101, 204, 304)
            self.is_whole = self._is_head

    def on_body(self, data: bytes) -> None:
        """More of the body."""
        if not self.is_whole and not self._wrong:
            self._pieces.append(data)

    def on_message_complete(self) -> None:
        """The body is whole; an interim answer has none."""
        if not (self._is_interim or self._wrong or self.is_whole or self._parser is None):
            self.is_whole = self.head is not None and self.head.status != 101
            self._stays = self._parser.should_keep_alive()  # llhttp forgets it after this


def _framing(headers: Headers) -> tuple[int | None, list[bytes], int]:
    """The length of the body, where it is told, the codings that it is in, and how long all of the
    headers are."""
    length, codings, nbytes = None, [], 0
    for name, value in headers:
        nbytes += len(name) + len(value)
        lower = name.lower()
        if lower == b"content-length":
            length = int(value)
        elif lower == b"transfer-encoding":
            codings.append(value.strip().lower())
    return (None if codings else length), codings, nbytes
