"""request_reader.py: what a client sends, and what it must not be taken for.

h11 is the second parser: whatever both accept, both must understand alike, whatever the pieces in
which it comes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import h11
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.nasty import SIZES, streams

from llmctl.proxy.head import MAX_HEAD_BYTES, MAX_HEADERS, split_target
from llmctl.proxy.request_reader import RequestReader

if TYPE_CHECKING:
    from collections.abc import Iterable

    from llmctl.proxy.dialect import Trouble
    from llmctl.proxy.head import Request


class Heard:
    """What a reader told, with all of a body together."""

    def __init__(self) -> None:
        self.told: list[tuple[str, object]] = []
        self._body = b""

    def request_began(self, request: Request) -> None:
        self.told.append(("began", request))

    def request_body(self, data: bytes) -> None:
        assert data
        self._body += data

    def request_ended(self) -> None:
        self.told.append(("ended", self._body))
        self._body = b""

    def request_refused(self, trouble: Trouble, request: Request | None) -> None:
        del request
        self.told.append(("refused", trouble.status))


def read(data: bytes, sizes: Iterable[int] = ()) -> Heard:
    heard, at = Heard(), 0
    reader = RequestReader(heard)
    for size in (*sizes, len(data)):
        piece, done = data[at : at + size], 0
        while done < len(piece):
            done = reader.feed(piece, done)
        at += size
    return heard


def request(*headers: bytes, body: bytes = b"", line: bytes = b"POST /x HTTP/1.1") -> bytes:
    return b"\r\n".join([line, b"Host: x", *headers, b"", b""]) + body


CHUNKED = b"Transfer-Encoding: chunked"
GOOD = [
    (request(), b""),
    (request(b"Content-Length: 5", body=b"hello"), b"hello"),
    (request(b"Content-Length:  5 ", body=b"hello"), b"hello"),
    (request(CHUNKED, body=b"5\r\nhello\r\n0\r\n\r\n"), b"hello"),
    (request(CHUNKED, body=b'5;x="y"\r\nhello\r\n0\r\n\r\n'), b"hello"),
    (request(CHUNKED, body=b"4\r\n\r\n\r\n\r\n0\r\n\r\n"), b"\r\n\r\n"),
    (request(CHUNKED, body=b"2\r\nhe\r\n3\r\nllo\r\n0\r\nX: y\r\n\r\n"), b"hello"),
    (request(b"Expect: 100-continue", b"Content-Length: 2", body=b"{}"), b"{}"),
    (request(line=b"GET http://other/x HTTP/1.1"), b""),
    (b"GET /x HTTP/1.0\r\n\r\n", b""),
    (b"\r\n\r\n" + request(), b""),
]  # fmt: skip


@pytest.mark.parametrize(("data", "body"), GOOD)
def test_what_is_right_is_read(data: bytes, body: bytes) -> None:
    (word, began), ended = read(data).told
    assert word == "began"
    assert began.path == b"/x"  # type: ignore[attr-defined]
    assert ended == ("ended", body)


FIVE = b"Content-Length: 5"
REFUSED = {
    "both lengths": (400, request(FIVE, CHUNKED, body=b"0\r\n\r\n")),
    "both lengths, the other way": (400, request(CHUNKED, FIVE, body=b"0\r\n\r\n")),
    "two lengths": (400, request(FIVE, b"Content-Length: 6", body=b"hello!")),
    "the same length twice": (400, request(FIVE, FIVE, body=b"hello")),
    "a list of lengths": (400, request(b"Content-Length: 5, 5", body=b"hello")),
    "a signed length": (400, request(b"Content-Length: +5", body=b"hello")),
    "a length that Python reads": (400, request(b"Content-Length: 1_0", body=b"hello")),
    "no length": (400, request(b"Content-Length:", body=b"hello")),
    "a length beyond all bounds": (400, request(b"Content-Length: " + b"9" * 30)),
    "a space before the colon": (400, request(b"Content-Length : 5", body=b"hello")),
    "an unknown coding": (400, request(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n")),
    "two codings": (400, request(b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n")),
    "chunked, and more": (400, request(b"Transfer-Encoding: chunked, identity")),
    "chunked twice": (400, request(CHUNKED, CHUNKED, body=b"0\r\n\r\n")),
    "a hidden coding": (400, request(b"Transfer-Encoding: \x0bchunked", body=b"0\r\n\r\n")),
    "a folded line": (400, request(b"X: a\r\n folded")),
    "a folded coding": (400, request(b"Transfer-Encoding:\r\n chunked", body=b"0\r\n\r\n")),
    "chunks in HTTP/1.0": (400, request(CHUNKED, line=b"POST / HTTP/1.0", body=b"0\r\n\r\n")),
    "bare line ends": (400, b"GET /x HTTP/1.1\nHost: x\n\n"),
    "a bare line end in a head": (400, b"GET /x HTTP/1.1\r\nHost: x\nX: y\r\n\r\n"),
    "a bare CR in a value": (400, request(b"X: a\rb")),
    "NUL in a value": (400, request(b"X: a\x00b")),
    "NUL in a name": (400, request(b"X\x00: a")),
    "a name that is no token": (400, request(b"X\xff: a")),
    "no name": (400, request(b": a")),
    "no colon": (400, request(b"Nonsense")),
    "no Host": (400, b"GET / HTTP/1.1\r\n\r\n"),
    "two Hosts": (400, request(b"Host: y")),
    "a target that is not ASCII": (400, request(line=b"GET /\xff HTTP/1.1")),
    "a target with a space": (400, request(line=b"GET /a b HTTP/1.1")),
    "a target with NUL": (400, request(line=b"GET /\x00 HTTP/1.1")),
    "no target": (400, request(line=b"GET HTTP/1.1")),
    "a relative target": (400, request(line=b"GET x HTTP/1.1")),
    "another scheme": (400, request(line=b"GET ftp://x/ HTTP/1.1")),
    "* for no OPTIONS": (400, request(line=b"GET * HTTP/1.1")),
    "another host's tunnel": (405, request(line=b"CONNECT x:80 HTTP/1.1")),
    "an unknown method": (501, request(line=b"BREW / HTTP/1.1")),
    "HTTP/2": (400, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "another expectation": (417, request(b"Expect: wonders")),
    "TLS": (501, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(300)),
    "a long head": (431, request(b"X: " + b"a" * MAX_HEAD_BYTES)),
    "a head without end": (431, b"GET / HTTP/1.1\r\nX: " + b"a" * MAX_HEAD_BYTES),
    "a long target": (431, request(line=b"GET /" + b"a" * MAX_HEAD_BYTES + b" HTTP/1.1")),
    "a target that no server takes": (414, request(line=b"GET /" + b"a" * 32_000 + b" HTTP/1.1")),
    "many headers": (431, request(*[b"X: y"] * MAX_HEADERS)),
}  # fmt: skip
REFUSED_BODIES = {
    "a bare line end after a size": b"5\nhello\r\n0\r\n\r\n",
    "a size that is none": b"g\r\nhello\r\n",
    "a signed size": b"-5\r\nhello\r\n",
    "a hexadecimal prefix": b"0x5\r\nhello\r\n0\r\n\r\n",
    "a size beyond all bounds": b"f" * 17 + b"\r\nhello",
    "more than the size": b"5\r\nhelloworld\r\n0\r\n\r\n",
    "less than the size": b"5\r\nhell\r\n0\r\n\r\n",
    "a line end in an extension": b"5;a\nb\r\nhello\r\n0\r\n\r\n",
    "framing without end": b"5;" + b"a" * 2 * MAX_HEAD_BYTES,
    "a length in a trailer": b"5\r\nhello\r\n0\r\nContent-Length: 9\r\n\r\n",
    "trailers without end": b"0\r\n" + b"X: y\r\n" * MAX_HEAD_BYTES,
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_wrong_is_refused(name: str) -> None:
    status, data = REFUSED[name]
    assert read(data).told == [("refused", status)]


@pytest.mark.parametrize("name", REFUSED_BODIES)
def test_a_body_with_wrong_chunks_is_refused(name: str) -> None:
    told = read(request(CHUNKED, body=REFUSED_BODIES[name])).told
    assert [word for word, _ in told] == ["began", "refused"]
    assert told[1] == ("refused", 400)


@pytest.mark.parametrize(
    "framing", [(b"Content-Length: 9", b"GET / HTT"), (CHUNKED, b"9\r\nGET / HTT\r\n0\r\n\r\n")]
)
@pytest.mark.parametrize("wanted", [b"h2c", b"websocket"])
def test_a_request_for_another_protocol_keeps_its_body(
    framing: tuple[bytes, bytes], wanted: bytes
) -> None:
    """Java's client asks for h2c with every first request, also with a POST; httptools leaves out
    the body of such a request, which would then be read as the next one."""
    header, body = framing
    data = request(b"Connection: Upgrade", b"Upgrade: " + wanted, header, body=body)
    told = read(data + request()).told
    assert [word for word, _ in told] == ["began", "ended"] * 2
    assert told[1] == ("ended", b"GET / HTT")
    assert not told[0][1].wants_websocket  # type: ignore[attr-defined]


def test_nothing_is_read_beyond_a_request() -> None:
    """What follows waits for its turn."""
    first, second = request(FIVE, body=b"hello"), request(CHUNKED, body=b"0\r\n\r\n")
    heard = Heard()
    reader = RequestReader(heard)
    assert reader.feed(first + second) == len(first)
    assert heard.told[-1] == ("ended", b"hello")
    assert reader.feed(first + second, len(first)) == len(first + second)
    assert not reader.is_reading


@given(data=streams(), sizes=SIZES)
@example(request(CHUNKED, body=b"1\r\na\r\n" * 30000 + b"0\r\n\r\n"), [1, 2, 3])
@example(b"\r\n" * 3 + request(), [1] * 12)
def test_the_pieces_do_not_matter(data: bytes, sizes: list[int]) -> None:
    assert read(data, sizes).told == read(data).told


def plain(name: bytes, value: bytes) -> bytes:
    """As h11 gives it: codings in lower case."""
    return value.lower() if name.lower() == b"transfer-encoding" else value


def by_h11(data: bytes) -> list[tuple[h11.Request, bytes]]:
    """The requests that h11 takes whole, up to the first that it does not."""
    found: list[tuple[h11.Request, bytes]] = []
    while data:
        connection = h11.Connection(h11.SERVER, MAX_HEAD_BYTES)
        connection.receive_data(data)
        head, body = None, b""
        try:
            while not isinstance(event := connection.next_event(), h11.EndOfMessage):
                if isinstance(event, h11.Request):
                    head = event
                elif isinstance(event, h11.Data):
                    body += bytes(event.data)
                else:
                    return found
        except h11.RemoteProtocolError:
            return found
        assert head is not None
        found.append((head, body))
        data = connection.trailing_data[0]
    return found


@given(data=streams())
def test_two_parsers_agree(data: bytes) -> None:
    """What both take, they take for the same: method, target, headers, body, and where it ends."""
    ours = [what for _, what in read(data).told]
    for (theirs, body), mine, my_body in zip(by_h11(data), ours[::2], ours[1::2], strict=False):
        if isinstance(my_body, int):
            return  # refused
        head: Request = mine  # type: ignore[assignment]
        assert head.method == theirs.method
        assert [(n.lower(), plain(n, v)) for n, v in head.headers] == list(theirs.headers)
        assert split_target(theirs.target) == (head.path, head.query)
        assert head.version.encode() == theirs.http_version
        assert my_body == body


@given(sizes=st.lists(st.integers(1, 70000), max_size=9), length=st.integers(1, 200000))
def test_a_body_of_known_length_is_passed_on_as_it_comes(sizes: list[int], length: int) -> None:
    body = bytes(i % 251 for i in range(length))
    told = read(request(b"Content-Length: %d" % length, body=body), sizes).told
    assert told[1] == ("ended", body)
