"""Heads of requests and answers: read with care, and written for the next hop (RFC 9110, 9112).

llhttp has parsed them already, and refuses what is malformed: both length headers, bare LF, folded
lines. Here is what a parser of one message cannot know.
"""

import re
from collections.abc import Iterable, Sequence
from functools import cached_property

import msgspec

Headers = Sequence[tuple[bytes, bytes]]

HOP_BY_HOP = frozenset({
    b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization",
    b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade",
})  # fmt: skip
"""RFC 9110, 7.6.1: for one connection only."""
_OURS = frozenset({
    b"host", b"content-length", b"expect", b"authorization", b"x-api-key", b"accept-encoding",
    b"x-conversation-id", b"x-served-by", b"x-fallback-from", b"x-llmctl-guard",
})  # fmt: skip
"""Not passed on. Keys are the proxy's own. A compressed stream could not be watched. With
`X-Conversation-Id` llama-server goes on generating after its client has gone."""
_DROPPED = HOP_BY_HOP | _OURS
_DROPPED_OF_ANSWER = HOP_BY_HOP | {
    b"content-length", b"x-served-by", b"x-fallback-from", b"x-llmctl-guard",
}  # fmt: skip
_WITH_BODY = frozenset({b"POST", b"PUT", b"PATCH"})
"""RFC 9110, 8.6: these say their length even where it is 0."""
EVENTS = b"text/event-stream"
MAX_HEAD_BYTES = 64 << 10
MAX_TARGET_BYTES = 32_000
"""llama-server (cpp-httplib) closes its connection, without an answer, on a first line beyond
32 KiB: it would be taken for one that has died."""
MAX_HEADERS = 128

REASONS = {
    100: b"Continue", 200: b"OK", 204: b"No Content", 400: b"Bad Request", 401: b"Unauthorized",
    403: b"Forbidden", 404: b"Not Found", 405: b"Method Not Allowed", 408: b"Request Timeout",
    409: b"Conflict", 413: b"Content Too Large",
    414: b"URI Too Long", 415: b"Unsupported Media Type",
    417: b"Expectation Failed",
    429: b"Too Many Requests", 431: b"Request Header Fields Too Large",
    500: b"Internal Server Error", 501: b"Not Implemented", 502: b"Bad Gateway",
    503: b"Service Unavailable", 504: b"Gateway Timeout", 505: b"HTTP Version Not Supported",
}  # fmt: skip


_TARGET = re.compile(rb'[!-"$-~]+')
_HALF_ESCAPED = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_ABSOLUTE = re.compile(rb"https?://[^/?#]*", re.IGNORECASE)


class Request(msgspec.Struct, frozen=True, dict=True):
    """The head of a request. path: without its query, and without a scheme and host."""

    method: bytes
    path: bytes
    query: bytes
    version: str
    headers: tuple[tuple[bytes, bytes], ...]
    keep_alive: bool = True
    upgrade: bool = False
    first: dict[bytes, bytes] = msgspec.field(default_factory=dict)
    """Of each name, in lower case, the first value."""

    def __post_init__(self) -> None:
        for name, value in reversed(self.headers):
            self.first[name.lower()] = value

    def header(self, name: bytes) -> bytes | None:
        """The first of that name, in lower case; None: there is none."""
        return self.first.get(name)

    @property
    def is_chunked(self) -> bool:
        """Does a body in chunks follow?"""
        return b"transfer-encoding" in self.first

    @cached_property
    def length(self) -> int | None:
        """What it says of its body's length."""
        told = self.first.get(b"content-length")
        return int(told) if told is not None and told.isdigit() else None

    @cached_property
    def has_body(self) -> bool:
        """Does a body follow?"""
        return bool(self.length) or self.is_chunked

    def target(self, path: bytes) -> bytes:
        """What is asked of a server. path: of ours, as it has it."""
        return path + b"?" + self.query if self.query else path

    @property
    def wants_websocket(self) -> bool:
        """Is it to become a connection of another protocol? Others are not offered: `h2c`, which
        Java's client asks for with every first request, would hide what follows from us."""
        if not self.upgrade or self.has_body:
            return False
        return (self.header(b"upgrade") or b"").strip().lower() == b"websocket"

    @property
    def may_chunk(self) -> bool:
        """Chunks came with HTTP/1.1."""
        return self.version == "1.1"


class AnswerHead(msgspec.Struct, frozen=True, dict=True):
    """The head of a server's answer. length: of the body, where it is told."""

    status: int
    reason: bytes
    headers: Headers
    length: int | None = None

    @cached_property
    def is_events(self) -> bool:
        """Does a stream of events follow?"""
        kind = next((v for k, v in self.headers if k.lower() == b"content-type"), b"")
        return kind.lower().startswith(EVENTS)

    @cached_property
    def lines(self) -> bytes:
        """What of it a client gets."""
        return b"".join([b"%b: %b\r\n" % pair for pair in passed_on(self.headers)])


class Fault(msgspec.Struct, frozen=True):
    """What is wrong with a request, and the status that says so."""

    status: int
    text: str


def split_target(target: bytes) -> tuple[bytes, bytes] | None:
    """Path and query of a request's target; None: it is of a form that is not served here.

    Only visible ASCII is a target, and a `#` is none of it (RFC 9112, 3.2), though llhttp lets
    both pass. llama-server (cpp-httplib) cuts a target at `#` and reads `%u0073` as `s`: what it
    would understand in another way than who looks here must not reach it.
    """
    if not _TARGET.fullmatch(target):
        return None
    if not target.startswith(b"/"):
        if target == b"*":
            return b"*", b""
        absolute = _ABSOLUTE.match(target)
        if absolute is None:
            return None
        rest = target[absolute.end() :]
        target = rest if rest.startswith(b"/") else b"/" + rest
    path, _, query = target.partition(b"?")
    return None if _HALF_ESCAPED.search(path) else (path, query)


def fault(request: Request, target: bytes, headers: int) -> Fault | None:
    """What llhttp lets pass and a careful server does not. headers: how many there are."""
    if headers > MAX_HEADERS:
        return Fault(431, f"A request may have {MAX_HEADERS} headers.")
    if len(target) > MAX_TARGET_BYTES:
        return Fault(414, f"A target may have {MAX_TARGET_BYTES} bytes.")
    if request.version not in ("1.1", "1.0"):
        return Fault(505, f"HTTP/{request.version} is not spoken here.")
    if request.method == b"CONNECT":
        return Fault(405, "This is no proxy for other hosts.")
    if not request.path or (request.path == b"*" and request.method != b"OPTIONS"):
        return Fault(400, f"That is no target: {target[:80].decode('latin-1')}")
    return _fault_of_headers(request)


def _fault_of_headers(request: Request) -> Fault | None:
    hosts, lengths, codings = 0, 0, []
    for name, value in request.headers:
        lower = name.lower()
        if lower == b"host":
            hosts += 1
        elif lower == b"content-length":
            lengths += 1
        elif lower == b"transfer-encoding":
            codings.append(value.strip().lower())
    if hosts > 1 or (hosts == 0 and request.version == "1.1"):
        return Fault(400, "A request needs one Host header.")
    if codings and (request.version == "1.0" or codings != [b"chunked"]):
        return Fault(400, "Of transfer codings, only chunked is spoken here.")
    if lengths > 1 or (lengths and (codings or request.length is None)):
        return Fault(400, "A body has one length, which is a number.")
    expect = request.header(b"expect")
    if expect is not None and expect.lower() != b"100-continue":
        return Fault(417, "Of expectations, only 100-continue is known.")
    return None


def _connection_words(headers: Headers) -> set[bytes]:
    """Names of headers that `Connection` makes hop-by-hop."""
    return {
        word.strip().lower()
        for name, value in headers
        if name.lower() == b"connection"
        for word in value.split(b",")
    }


def forwarded(request: Request, *, target: bytes, port: int, length: int | None, key: str | None,
              ) -> bytes:  # fmt: skip
    """The head for llama-server. length: of the body; None: there is none. key: of the server."""
    lines = forwarded_lines(request, target=target, port=port, key=key)
    if length is not None or request.method in _WITH_BODY:
        return lines + length_line(length or 0)
    return lines + b"\r\n"


def length_line(length: int) -> bytes:
    """The end of a head that is followed by so many bytes."""
    return b"Content-Length: %d\r\n\r\n" % length


def forwarded_lines(request: Request, *, target: bytes, port: int, key: str | None) -> bytes:
    """The head for llama-server, but for its end."""
    dropped = _DROPPED
    if request.header(b"connection") is not None:
        dropped = _DROPPED | _connection_words(request.headers)
    lines = [b"%b %b HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n" % (request.method, target, port)]
    lines += [
        b"%b: %b\r\n" % (name, value)
        for name, value in request.headers
        if name.lower() not in dropped
    ]
    if request.wants_websocket:
        lines.append(b"Connection: upgrade\r\nUpgrade: websocket\r\n")
    if key:
        lines.append(b"Authorization: Bearer %b\r\n" % key.encode())
    return b"".join(lines)


def passed_on(headers: Headers) -> list[tuple[bytes, bytes]]:
    """What of an answer's headers a client gets."""
    lowers = [name.lower() for name, _ in headers]
    dropped = _DROPPED_OF_ANSWER
    if b"connection" in lowers:
        dropped = _DROPPED_OF_ANSWER | _connection_words(headers)
    return [
        pair
        for pair, lower in zip(headers, lowers, strict=True)
        if lower not in dropped and not lower.startswith(b"access-control-")
    ]


def answer_head(
    status: int, headers: Iterable[tuple[bytes, bytes]], *, reason: bytes = b"", lines: bytes = b""
) -> bytes:
    """The head of an answer. lines: headers that are written already."""
    line = b"HTTP/1.1 %d %b\r\n" % (status, reason or REASONS.get(status, b"Unknown"))
    return b"".join([line, lines, *[b"%b: %b\r\n" % pair for pair in headers], b"\r\n"])


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"
