"""The beginning of an answer that goes out before it is understood: as if it had been."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace
from support.wire import MemoryTransport, Wire, answers_in, served

from llmctl.core.guard.settings import GuardSettings
from llmctl.proxy.foretold import Foretold
from llmctl.proxy.head import chunk
from llmctl.proxy.routing import Table
from llmctl.proxy.short import Short

if TYPE_CHECKING:
    from collections.abc import Iterator

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"


def event(number: int = 1, word: str = "Hi", model: str = "coder") -> bytes:
    return (
        b'data: {"choices":[{"index":0,"delta":{"content":"%b"}}],"created":%d,"id":"chatcmpl-%d",'
        b'"model":"%b"}\n\n'
    ) % (word.encode(), 1000 + number, number, model.encode())


def begins(number: int = 1, word: str = "Hi") -> bytes:
    return chunk(event(number, word))


def ask(body: bytes = b'{"stream":true}', path: bytes = b"/v1/chat/completions") -> bytes:
    return (
        b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n"
        b"Content-Type: application/json\r\n\r\n"
    ) % (path, len(body)) + body


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


def answered(wire: Wire, *answer: bytes, data: bytes | None = None) -> MemoryTransport:
    """answer: in pieces, as the server sends it."""
    client = wire.connect()
    client.sends(data or ask())
    for piece in answer:
        wire.server().says(piece)
    return client


def two(wire: Wire, data: bytes | None = None, first: bytes | None = None) -> None:
    """The first tells what there is to know of the head, the second how an answer begins."""
    for _ in range(2):
        client = answered(wire, HEAD, first or begins(), END, data=data)
        assert answers_in(bytes(client.heard))


def test_a_beginning_like_the_last_one_is_foretold(wire: Wire, foretold: list[bytes]) -> None:
    two(wire)
    client = answered(wire, HEAD, begins(2))
    assert foretold == [chunk(event(2))]
    assert client.heard.endswith(b"\r\n\r\n" + chunk(event(2)))
    wire.server().says(END)
    ((response, body),) = answers_in(bytes(client.heard))
    assert dict(response.headers)[b"x-served-by"] == b"coder"
    assert body == event(2) + b"data: [DONE]\n\n"


OTHERS = {
    "another word": (HEAD, begins(2, "Ho")),
    "a longer word": (HEAD, begins(2, "Hit")),
    "a longer id": (HEAD, begins(200)),
    "together with the head": (HEAD + begins(2),),
    "more behind it": (HEAD, begins(2) + chunk(event(2, "ho"))),
    "a part of it": (HEAD, begins(2)[:-9]),
    "a comment first": (HEAD, chunk(b": a comment\n\n"), begins(2)),
    "an error": (HEAD, chunk(b'data: {"error":{"code":500,"message":"no"}}\n\n')),
    "no events": (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", b"{}"),
    "a refusal": (b"HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\n", b"{}"),
}


@pytest.mark.parametrize("how", OTHERS)
def test_any_other_beginning_is_read_first(wire: Wire, foretold: list[bytes], how: str) -> None:
    two(wire)
    client = answered(wire, *OTHERS[how])
    assert not foretold
    with Wire() as other:
        assert client.heard == answered(other, *OTHERS[how]).heard


@pytest.mark.parametrize("at", range(1, len(begins()), 7))
def test_a_beginning_in_pieces_is_read_first(wire: Wire, foretold: list[bytes], at: int) -> None:
    two(wire)
    client = answered(wire, HEAD)
    wire.server().says(begins(2), sizes=[at])
    wire.server().says(END)
    assert not foretold
    ((_, body),) = answers_in(bytes(client.heard))
    assert body == event(2) + b"data: [DONE]\n\n"


@pytest.mark.parametrize("begun", [b"", b"data: x"], ids=["its size", "its text"])
def test_the_rest_of_a_chunk_is_no_beginning(
    wire: Wire, foretold: list[bytes], begun: bytes
) -> None:
    """Be it, byte for byte, one that would be."""
    two(wire)
    size = b"%x\r\n" % (len(begun) + len(begins(2)))
    client = answered(wire, HEAD + size + begun, begins(2))
    assert not foretold
    with Wire() as other:
        assert client.heard == answered(other, HEAD + size + begun, begins(2)).heard


@pytest.mark.parametrize(
    ("at", "is_foretold"), [(9, True), (len(HEAD) - 4, True), (len(HEAD) - 2, False)]
)
def test_after_a_head_in_pieces(
    wire: Wire, foretold: list[bytes], at: int, *, is_foretold: bool
) -> None:
    """Where the last piece is too short to tell that it ends a head, the event is read first."""
    two(wire)
    client = answered(wire, HEAD[:at], HEAD[at:], begins(2), END)
    assert foretold == [begins(2)] * is_foretold
    ((_, body),) = answers_in(bytes(client.heard))
    assert body == event(2) + b"data: [DONE]\n\n"


def test_a_client_that_has_a_comment_already_gets_no_second_head(
    wire: Wire, foretold: list[bytes]
) -> None:
    two(wire)
    client = answered(wire)
    (relay,) = wire.proxy.relays.values()
    relay.look(wire.proxy.now() + 100)
    wire.server().says(HEAD)
    wire.server().says(begins(2))
    assert foretold == [begins(2)]
    assert client.heard.count(b"HTTP/1.1") == 1
    assert client.heard.endswith(chunk(event(2)))


def test_a_comment_before_the_first_event_changes_nothing(
    wire: Wire, foretold: list[bytes]
) -> None:
    two(wire)
    client = answered(wire, HEAD)
    (relay,) = wire.proxy.relays.values()
    relay.look(wire.proxy.now() + 100)
    wire.server().says(begins(2))
    wire.server().says(END)
    assert foretold == [begins(2)]
    ((_, body),) = answers_in(bytes(client.heard))
    assert body.endswith(b"\n\n" + event(2) + b"data: [DONE]\n\n")


def test_a_whole_answer_that_is_put_together_is_not_begun(foretold: list[bytes]) -> None:
    """The guard asks for a stream where the client did not."""
    body = b'{"messages":[]}'
    with Wire(guard=GuardSettings()) as wire:
        two(wire, ask(body))
        client = answered(wire, HEAD, begins(2), data=ask(body))
        assert not client.heard
        wire.server().says(END)
        assert answers_in(bytes(client.heard))
    assert not foretold


def test_what_another_model_answered_foretells_nothing(wire: Wire, foretold: list[bytes]) -> None:
    """Requests with one head that name two models, under way at once."""
    coder = served()
    other = replace(coder, name="other", group="second", port=12345)
    wire.proxy.board.table = Table.of((coder, other), {"gpu": "coder", "second": "other"})
    wire.proxy.board.turns("second").ready = "other"
    two(wire)
    for name in (b"coder", b"other"):
        answered(wire, HEAD, begins(2), END, data=ask(b'{"stream":true,"model":"%b"}' % name))
    assert not foretold


def test_one_that_does_not_turn_out_as_foretold_is_cut(wire: Wire) -> None:
    """Errors are told in other words on this endpoint, so it is wrong to pass one on."""
    error = chunk(b'event: error\ndata: {"error":{"code":500,"message":"no"}}\n\n')
    data = ask(path=b"/v1/messages")
    two(wire, data)
    (again,) = wire.proxy.heads._known.values()
    again.foretold = Foretold(error)
    client = answered(wire, HEAD, error, data=data)
    assert client.is_aborted


def test_that_a_connection_ends_foretells_nothing_of_others(wire: Wire) -> None:
    two(wire)
    deaf = wire.connect()
    deaf.sends(ask())
    deaf.sends(b"x" * (300 << 10))
    for piece in (HEAD, begins(), END):
        wire.server().says(piece)
    assert b"\r\nConnection: close" in deaf.heard
    client = answered(wire, HEAD, begins(2))
    assert b"\r\nConnection: close" not in client.heard


def test_only_whole_events_that_went_out_unchanged_are_learned() -> None:
    whole = chunk(event())
    assert Foretold.of(whole, whole)
    assert Foretold.of(whole[:-1], whole[:-1]) is None
    assert Foretold.of(whole, chunk(event(2))) is None
    assert Foretold.of(b"", b"") is None
    assert Foretold.of(whole + whole, whole + whole) is None
