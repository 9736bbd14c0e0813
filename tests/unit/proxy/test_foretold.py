"""The beginning of an answer that goes out before it is understood: as if it had been."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace
from support.wire import MemoryTransport, Wire, answers_in, served

from llmctl.proxy.foretold import Foretold
from llmctl.proxy.head import chunk
from llmctl.proxy.routing import Table
from llmctl.proxy.short import Short

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llmctl.proxy.record import Record

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"


def event(number: int = 1, word: str = "Hi", model: str = "coder") -> bytes:
    return (
        b'data: {"choices":[{"index":0,"delta":{"content":"%b"}}],"created":%d,"id":"chatcmpl-%d",'
        b'"model":"%b"}\n\n'
    ) % (word.encode(), 1000 + number, number, model.encode())


def begins(number: int = 1, word: str = "Hi") -> bytes:
    return HEAD + chunk(event(number, word))


def ask(body: bytes = b'{"stream":true}', more: bytes = b"") -> bytes:
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n"
        b"Content-Type: application/json\r\n%b\r\n"
    ) % (len(body), more) + body


@pytest.fixture
def wire() -> Iterator[Wire]:
    with Wire() as made:
        yield made


@pytest.fixture
def foretold(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What went out before it was understood."""
    took: list[bytes] = []
    before = Short._begins

    def told(self: Short, sent: bytes) -> None:
        took.extend([self._ahead] if self._ahead else [])
        before(self, sent)

    monkeypatch.setattr("llmctl.proxy.relay.Relay._begins", told)
    return took


def answered(wire: Wire, answer: bytes, data: bytes | None = None) -> MemoryTransport:
    client = wire.connect()
    client.sends(data or ask())
    wire.server().says(answer)
    return client


def two(wire: Wire, first: bytes | None = None) -> None:
    """The first tells what there is to know of the head, the second how an answer begins."""
    answered(wire, begins() + END)
    client = wire.connect()
    client.sends(ask())
    wire.server().says(first or begins())
    wire.server().says(END)
    assert answers_in(bytes(client.heard))


def test_a_beginning_like_the_last_one_is_foretold(wire: Wire, foretold: list[bytes]) -> None:
    two(wire)
    client = answered(wire, begins(2))
    assert foretold == [chunk(event(2))]
    wire.server().says(END)
    ((response, body),) = answers_in(bytes(client.heard))
    assert dict(response.headers)[b"x-served-by"] == b"coder"
    assert body == event(2) + b"data: [DONE]\n\n"


OTHERS = {
    "another word": begins(2, "Ho"),
    "a longer word": begins(2, "Hit"),
    "a longer id": begins(200),
    "another status": begins(2).replace(b"200 OK", b"201 OK"),
    "another header": begins(2).replace(b"\r\n\r\n", b"\r\nX-More: 1\r\n\r\n", 1),
    "more behind it": begins(2) + chunk(event(2, "ho")),
    "a part of it": begins(2)[:-9],
    "a comment first": HEAD + chunk(b": a comment\n\n") + chunk(event(2)),
    "an error": HEAD + chunk(b'data: {"error":{"code":500,"message":"no"}}\n\n'),
    "no events": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
}


@pytest.mark.parametrize("how", OTHERS)
def test_any_other_beginning_is_read_first(wire: Wire, foretold: list[bytes], how: str) -> None:
    two(wire)
    client = answered(wire, OTHERS[how])
    assert not foretold
    with Wire() as other:
        assert client.heard == answered(other, OTHERS[how]).heard


@pytest.mark.parametrize("at", range(1, len(begins()), 7))
def test_a_beginning_in_pieces_is_read_first(wire: Wire, foretold: list[bytes], at: int) -> None:
    two(wire)
    client = wire.connect()
    client.sends(ask())
    wire.server().says(begins(2), sizes=[at])
    wire.server().says(END)
    assert not foretold
    ((_, body),) = answers_in(bytes(client.heard))
    assert body == event(2) + b"data: [DONE]\n\n"


def test_a_client_that_has_a_comment_already_gets_no_second_head(
    wire: Wire, foretold: list[bytes]
) -> None:
    two(wire)
    client = wire.connect()
    client.sends(ask())
    (relay,) = wire.proxy.relays.values()
    relay.look(wire.proxy.now() + 100)
    wire.server().says(begins(2))
    assert client.heard.count(b"HTTP/1.1") == 1
    assert client.heard.endswith(chunk(event(2)))
    assert not foretold


UNUSUAL = {
    "a body that is no stream": b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n" + chunk(b'{"object":"list","data":[]}\n\n'),
    "a refusal in chunks": b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/event-stream\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n" + chunk(b'data: {"error":{"message":"no"}}\n\n'),
}


@pytest.mark.parametrize("how", UNUSUAL)
def test_what_is_no_stream_of_events_is_not_foretold(
    wire: Wire, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be counted as one, and be ended as one."""
    records: list[Record] = []
    monkeypatch.setattr(wire.proxy.journal, "ended", lambda _, record, **__: records.append(record))
    answer = UNUSUAL[how] + b"0\r\n\r\n"
    heard = [bytes(answered(wire, answer).heard) for _ in range(2)]
    for _ in range(2):
        client = wire.connect()
        client.sends(ask())
        wire.server().says(UNUSUAL[how])
        wire.server().says(b"0\r\n\r\n")
        heard.append(bytes(client.heard))
    assert len(set(heard)) == 1
    assert len({(one.status, one.outcome) for one in records}) == 1


def test_what_another_model_answered_foretells_nothing(wire: Wire) -> None:
    """Requests with one head that name two models, under way at once."""
    coder = served()
    other = replace(coder, name="other", group="second", port=12345)
    wire.proxy.board.table = Table.of((coder, other), {"gpu": "coder", "second": "other"})
    wire.proxy.board.turns("second").ready = "other"
    clients = [wire.connect() for _ in range(2)]
    for client in clients:
        client.sends(ask())
    for number in range(2):
        wire.server(number).says(begins() + END)
    names = b"coder", b"other"
    clients = [wire.connect() for _ in names]
    for client, name in zip(clients, names, strict=True):
        client.sends(ask(b'{"stream":true,"model":"%b"}' % name))
    assert len(wire.pool.opened) == 2
    for name in reversed(names):
        (server,) = (one for one in wire.pool.opened if one.heard.endswith(b'"%b"}' % name))
        server.says(begins(2))
    for client, name in zip(clients, names, strict=True):
        assert b"X-Served-By: %b\r\n" % name in client.heard


def test_that_a_connection_ends_foretells_nothing_of_others(wire: Wire) -> None:
    answered(wire, begins() + END)
    deaf = wire.connect()
    deaf.sends(ask())
    deaf.sends(b"x" * (300 << 10))
    wire.server().says(begins())
    assert b"\r\nConnection: close" in deaf.heard
    wire.server().says(END)
    client = answered(wire, begins(2))
    assert b"\r\nConnection: close" not in client.heard


def test_only_whole_events_that_went_out_unchanged_are_learned() -> None:
    sent = b"HTTP/1.1 200 OK\r\n\r\n"
    whole = chunk(event())
    assert Foretold.of(HEAD + whole, sent + whole)
    assert Foretold.of(HEAD + whole[:-1], sent + whole[:-1]) is None
    assert Foretold.of(HEAD + whole, sent + chunk(event(2))) is None
    assert Foretold.of(HEAD[:-2], sent) is None
    assert Foretold.of(HEAD + whole + whole, sent + whole + whole) is None
