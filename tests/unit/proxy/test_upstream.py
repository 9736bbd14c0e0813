"""upstream.py, answer_reader.py, delivery.py: a server that lies, dies, or says too much."""

from __future__ import annotations

from typing import TYPE_CHECKING

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.streams import events, recorded
from support.wire import MemoryTransport, Wire, answers_in, requests_in

from llmctl.proxy.dialect import is_repeatable
from llmctl.proxy.head import MAX_HEAD_BYTES
from llmctl.proxy.relay import MOST_TRIES

if TYPE_CHECKING:
    from collections.abc import Iterator

JSON = b"Content-Type: application/json\r\n"
EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\n" + JSON + b"Content-Length: 2\r\n\r\n{}"
LOADING = (
    b"HTTP/1.1 503 Service Unavailable\r\n" + JSON + b"Content-Length: 74\r\n\r\n"
    b'{"error":{"message":"Loading model","type":"unavailable_error","code":503}}'
)[:-1]  # fmt: skip


def chat(body: bytes = b"{}", path: bytes = b"/v1/chat/completions") -> bytes:
    return (
        b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n" % (path, len(body))
    ) + body


STREAM = chat(b'{"stream":true}')


@pytest.fixture
def wire() -> Iterator[Wire]:
    with Wire() as made:
        yield made


def chunked(data: bytes, size: int = 400) -> bytes:
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in pieces) + b"0\r\n\r\n"


def once(wire: Wire, said: bytes, asked: bytes = b"", *, ends: bool = False) -> MemoryTransport:
    """A client that asked, and was told this (as often as was tried)."""
    client = wire.connect()
    client.sends(asked or chat())
    tried = 0
    while len(wire.pool.opened) > tried:
        tried = len(wire.pool.opened)
        wire.server().says(said)
        if ends:
            wire.server().ends()
        wire.settle()
    return client


def status(client: MemoryTransport) -> int:
    ((answer, _),) = answers_in(bytes(client.heard))
    return answer.status_code


# What is no answer


@pytest.mark.parametrize("said", [
    b"garbage\r\n\r\n", b"\x16\x03\x01", b"HTTP/1.1 999999 X\r\n\r\n", b"HTTP/3.1 200 OK\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nX: a\r\n folded\r\n\r\n", b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    b"HTTP/1.1 200 OK\r\nX: " + b"a" * (1 << 20) + b"\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n" + b"X: yyyyyyyy\r\n" * 80000,
    b"HTTP/1.1 200 OK\r\n" + b"X: yyyyyyyy\r\n" * 8000 + b"\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n" * (MAX_HEAD_BYTES // 8),
])  # fmt: skip
@pytest.mark.parametrize("sizes", [(), (7,) * 100])
def test_what_is_no_answer_is_told(wire: Wire, said: bytes, sizes: tuple[int, ...]) -> None:
    client = wire.connect()
    client.sends(chat())
    for _ in range(MOST_TRIES):
        server = wire.server()
        server.sends(said, sizes=sizes)
        assert server.is_aborted
    assert status(client) == 502
    assert len(wire.pool.opened) == MOST_TRIES
    assert not wire.pool.idle
    assert not wire.proxy.relays


def test_loading_for_ever_is_passed_on_in_the_end(wire: Wire) -> None:
    client = once(wire, LOADING)
    ((answer, body),) = answers_in(bytes(client.heard))
    assert answer.status_code == 503
    assert b"Loading model" in body


def test_and_is_an_event_where_a_stream_is_open(wire: Wire) -> None:
    client = wire.connect()
    wire.pool.refuses = None
    client.sends(STREAM)
    relay = wire.client.relay
    assert relay is not None
    relay.progress(b": x\n\n")
    for _ in range(MOST_TRIES):
        if not client.heard.endswith(b"0\r\n\r\n"):
            wire.server().says(LOADING)
    ((_, body),) = answers_in(bytes(client.heard))
    ((_, event),) = events(body)
    assert "Loading model" in str(event)


def test_nobody_there(wire: Wire) -> None:
    wire.pool.refuses = "Connection refused"
    client = wire.connect()
    client.sends(chat())
    ((answer, body),) = answers_in(bytes(client.heard))
    assert answer.status_code == 502
    assert b"Connection refused" in body


# More than was asked for


@pytest.mark.parametrize("said", [OK + OK, OK + b"x", OK + b"\r\nHTTP", OK.replace(b": 2", b": 1")])
def test_what_is_beyond_an_answer_is_nobodys(wire: Wire, said: bytes) -> None:
    """And its connection is used no more."""
    client = once(wire, said)
    assert status(client) == 200
    assert not wire.pool.idle
    assert wire.server().is_shut


def test_what_comes_out_of_turn_ends_a_connection(wire: Wire) -> None:
    once(wire, OK)
    assert len(wire.pool.idle) == 1
    wire.server().says(OK)
    wire.settle()
    assert not wire.pool.idle


@pytest.mark.parametrize("interim", [
    b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 102 Processing\r\nX: y\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * 3,
])  # fmt: skip
def test_interim_answers_end_here(wire: Wire, interim: bytes) -> None:
    client = once(wire, interim + OK)
    assert client.heard.startswith(b"HTTP/1.1 200 OK\r\n" + JSON)
    assert b"X: y" not in client.heard
    assert len(wire.pool.idle) == 1


# Less


def test_a_body_that_is_too_short_cuts_the_connection(wire: Wire) -> None:
    client = once(wire, OK[:-1], ends=True)
    assert client.is_aborted
    with pytest.raises(h11.RemoteProtocolError):
        answers_in(bytes(client.heard), ended=True)


def test_a_body_without_a_length_ends_with_its_connection(wire: Wire) -> None:
    client = once(wire, b"HTTP/1.1 200 OK\r\n" + JSON + b'\r\n{"a":1}', ends=True)
    ((answer, body),) = answers_in(bytes(client.heard))
    assert body == b'{"a":1}'
    assert (b"transfer-encoding", b"chunked") in answer.headers
    assert not client.is_shut


def test_a_reset_is_no_end_of_it(wire: Wire) -> None:
    client = wire.connect()
    client.sends(chat())
    wire.server().says(b"HTTP/1.1 200 OK\r\n" + JSON + b"\r\n{")
    wire.server().dies(ConnectionResetError(104, "reset"))
    assert client.is_aborted


@pytest.mark.parametrize("tail", [b"", b"5", b"5\r\n", b"100\r\ndata: {", b"garbage\r\n"])
def test_a_stream_that_breaks_off_in_a_chunk(wire: Wire, tail: bytes) -> None:
    first = recorded("chat").partition(b"\n\n")[0] + b"\n\n"
    client = once(wire, EVENTS + chunked(first)[:-5] + tail, STREAM, ends=True)
    ((_, body),) = answers_in(bytes(client.heard))
    assert body.startswith(first)
    *_, (_, last) = events(body)
    assert "error" in last  # type: ignore[operator]
    assert len(events(body)) == 2
    assert not wire.proxy.relays


@settings(max_examples=60, deadline=None)  # a busy machine is no fault
@given(sizes=st.lists(st.integers(1, 300), max_size=40), cut=st.integers(0, 2700))
def test_the_pieces_in_which_a_server_speaks_do_not_matter(sizes: list[int], cut: int) -> None:
    said = EVENTS + chunked(recorded("responses"))
    said = said[: max(len(EVENTS), len(said) - cut)]
    got = []
    for pieces in (sizes, []):
        with Wire() as wire:
            client = wire.connect()
            client.sends(chat(b'{"stream":true}', b"/v1/responses"))
            wire.server().sends(said, sizes=pieces)
            wire.server().ends()
            got.append(events(answers_in(bytes(client.heard))[0][1]))
    assert got[0] == got[1]


# Too early


BIG = b'{"x":"' + b"y" * (3 << 20) + b'"}'


def test_an_answer_may_come_before_the_body_was_read(wire: Wire) -> None:
    """The rest of it is not sent, and the connection is used no more."""
    wire.pool.capacity = 100_000
    client = wire.connect()
    client.sends(chat(BIG))
    assert 100_000 < len(wire.server().heard) < 1 << 20
    wire.server().says(OK)
    assert status(client) == 200
    assert wire.server().is_aborted
    assert not wire.pool.idle


def test_what_a_connection_does_not_take_waits(wire: Wire) -> None:
    wire.pool.capacity = 100_000
    client = wire.connect()
    client.sends(chat(BIG))
    while wire.server().is_full:
        wire.server().drains()
    ((_, sent),) = requests_in(bytes(wire.server().heard))
    assert sent == BIG
    wire.server().unsent = 5
    wire.server().says(OK)
    assert status(client) == 200
    assert wire.server().is_shut, "it is not used again before all is sent"


# Connections that are used again


def test_connections_are_used_again(wire: Wire) -> None:
    client = wire.connect()
    for _ in range(3):
        client.sends(chat())
        wire.server().says(OK)
    assert len(wire.pool.opened) == 1
    assert len(requests_in(bytes(wire.server().heard))) == 3


@pytest.mark.parametrize("last", [b"Connection: close\r\n", b"Keep-Alive: timeout=5\r\n"])
def test_but_not_when_the_server_closes_them(wire: Wire, last: bytes) -> None:
    once(wire, OK.replace(b"\r\n\r\n", b"\r\n" + last + b"\r\n"))
    assert len(wire.pool.idle) == (0 if b"close" in last else 1)


def test_an_old_connection_that_was_closed_is_replaced(wire: Wire) -> None:
    """Its age says nothing of the server: it is no try that failed."""
    client = wire.connect()
    client.sends(chat())
    wire.server().says(OK)
    client.sends(chat(b'{"second":1}'))
    wire.server().ends()
    assert len(wire.pool.opened) == 2
    ((_, body),) = requests_in(bytes(wire.server().heard))
    assert body == b'{"second":1}'
    wire.server().says(OK)
    assert [a.status_code for a, _ in answers_in(bytes(client.heard))] == [200, 200]


def test_a_server_that_dies_before_it_answers_is_asked_again(wire: Wire) -> None:
    client = wire.connect()
    client.sends(chat())
    wire.server().ends()
    wire.server().says(OK)
    assert status(client) == 200


def test_and_not_for_ever(wire: Wire) -> None:
    client = wire.connect()
    client.sends(chat())
    for _ in range(MOST_TRIES):
        wire.server().ends()
    assert status(client) == 502
    assert len(wire.pool.opened) == MOST_TRIES


EFFECTS = [
    b"/slots/0?action=save", b"/tools", b"/lora-adapters", b"/props", b"/models/load",
    b"/v1/chat/completions/control", b"/v1/messages/whatever", b"/%74okenize", b"/new/in/2030",
]  # fmt: skip


@pytest.mark.parametrize("path", EFFECTS)
@pytest.mark.parametrize("how", ["ends", "dies", "garbage"])
def test_what_may_have_effects_is_sent_once(wire: Wire, path: bytes, how: str) -> None:
    """Whether it was done is not known; that it is not done twice is."""
    client = wire.connect()
    client.sends(chat())
    wire.server().says(OK)  # this connection may be closed for its age at any time
    client.heard.clear()
    client.sends(chat(path=path))
    assert len(wire.pool.opened) == 2
    if how == "garbage":
        wire.server().says(b"garbage\r\n\r\n")
    else:
        getattr(wire.server(), how)()
    ((answer, body),) = answers_in(bytes(client.heard))
    assert answer.status_code == 502
    assert b"is not asked again" in body
    assert (b"x-should-retry", b"false") in answer.headers
    wire.settle()
    assert len(wire.pool.opened) == 2
    assert not wire.proxy.relays


def test_a_503_of_what_may_have_effects_is_its_answer(wire: Wire) -> None:
    assert status(once(wire, LOADING, chat(path=b"/tools"))) == 503
    assert len(wire.pool.opened) == 1


def test_what_was_not_sent_is_asked_again_whatever_it_is(wire: Wire) -> None:
    wire.pool.refuses = "Connection refused"
    client = wire.connect()
    client.sends(chat(path=b"/tools"))
    assert b"not asked again" not in client.heard
    assert status(client) == 502


@pytest.mark.parametrize(
    ("method", "path", "is_safe"),
    [
        ("POST", "/tokenize", True), ("POST", "/v1/messages/count_tokens", True),
        ("POST", "/v1/embeddings", True), ("POST", "/apply-template", True),
        ("GET", "/slots", True), ("HEAD", "/tools", True), ("GET", "/new/in/2030", True),
        ("DELETE", "/slots", False), ("PUT", "/props", False),
        *(("POST", path.decode().partition("?")[0], False) for path in EFFECTS),
    ],
)  # fmt: skip
def test_reading_and_generating_may_be_repeated(method: str, path: str, is_safe: bool) -> None:
    assert is_repeatable(method.encode(), path.encode()) == is_safe


def test_a_question_is_asked_again(wire: Wire) -> None:
    for path in (b"/tokenize", b"/v1/embeddings"):
        client = wire.connect()
        client.sends(chat(path=path))
        wire.server().ends()
        wire.server().says(OK)
        assert status(client) == 200


def test_who_has_gone_is_not_answered(wire: Wire) -> None:
    client = wire.connect()
    client.sends(STREAM)
    wire.server().says(EVENTS)
    client.dies()
    assert wire.server().is_aborted
    wire.settle()
    assert not wire.proxy.relays
    assert not wire.pool.idle
