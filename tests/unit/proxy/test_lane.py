"""lane.py: what goes the short way goes out as it would have gone the long one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.streams import events, path_of, recorded
from support.wire import MemoryTransport, Wire, answers_in

from llmctl.core.guard.settings import GuardSettings
from llmctl.proxy.answer import Answer
from llmctl.proxy.dialect import endpoint_of
from llmctl.proxy.head import Request, chunk
from llmctl.proxy.lane import MOST, Lane
from llmctl.proxy.sse import Events

if TYPE_CHECKING:
    from collections.abc import Iterable

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
LAST = b"0\r\n\r\n"
CHAT = endpoint_of(b"/v1/chat/completions")


def asked(path: bytes = b"/v1/chat/completions") -> bytes:
    body = b'{"stream":true,"messages":[]}'
    return b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (path, len(body), body)


def told(
    said: Iterable[bytes], *, path: bytes = b"/v1/chat/completions",
    guard: GuardSettings | None = None,
) -> bytes:  # fmt: skip
    """What a client gets of an answer that comes in these reads."""
    with Wire(guard=guard) as wire:
        client = wire.connect()
        client.sends(asked(path))
        server = wire.server()
        for one in said:
            server.says(one)
        ((_, body),) = answers_in(bytes(client.heard))
        assert not wire.proxy.relays
        return body


def cut(stream: bytes) -> list[bytes]:
    return [one + b"\n\n" for one in stream.split(b"\n\n")[:-1]]


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """What came of each read that was offered."""
    found: list[bool] = []
    take = Lane.take

    def seen(lane: Lane, data: bytes) -> bool:
        found.append(take(lane, data))
        return found[-1]

    monkeypatch.setattr(Lane, "take", seen)
    return found


def lane(written: list[bytes]) -> Lane:
    answer = Answer(Request(b"POST", b"/", b"", "1.1", ()), CHAT)
    return Lane(answer, Events(CHAT), written.append, lambda: None)


def test_one_whole_chunk_is_taken_and_nothing_else() -> None:
    written: list[bytes] = []
    one = lane(written)
    for size in range(2, 4200):
        whole = chunk(b"d" * (size - 2) + b"\n\n")
        if len(whole) <= MOST:
            assert one.take(whole) is (size >= 16)
        for wrong in (whole[1:], whole[:-1], b"0" + whole, whole + b"\n", whole[:-3] + b"x\r\n"):
            assert not one.take(wrong)
    assert written == [chunk(b"d" * (size - 2) + b"\n\n") for size in range(16, 4096)]


@pytest.mark.parametrize("name", ["chat", "completions", "messages", "responses"])
def test_each_event_of_a_stream_goes_the_short_way(name: str, taken: list[bool]) -> None:
    """But the first, and what is longer or shorter than it takes."""
    stream = recorded(name)
    reads = [HEAD, *(chunk(one) for one in cut(stream)), LAST]
    assert told(reads, path=path_of(name)) == stream
    assert taken.count(True) == sum(16 <= len(one) <= 4095 for one in cut(stream)[1:])


@settings(deadline=None)
@given(cuts=st.lists(st.integers(1, 5000), max_size=30), merged=st.integers(1, 3))
def test_however_it_comes_it_is_the_same(cuts: list[int], merged: int) -> None:
    stream = recorded("chat")
    chunks = [chunk(one) for one in cut(stream)]
    reads = [b"".join(chunks[at : at + merged]) for at in range(0, len(chunks), merged)]
    data, at, found = b"".join(reads), 0, [HEAD]
    for size in cuts:  # first by chunks, then anywhere, then by chunks again
        found.append(data[at : at + size])
        at += size
    assert told([*found, data[at:], LAST]) == stream
    half = len(reads) // 2
    rest = b"".join(reads[half:])
    odd = [rest[at : at + 7] for at in range(0, len(rest), 7)]
    assert told([HEAD, *reads[:half], *odd, LAST]) == stream


def test_what_only_looks_like_a_chunk_is_none(taken: list[bool]) -> None:
    """An event of several lines, cut where a chunk seems to begin."""
    done = cut(recorded("chat"))[-1]
    inner = chunk(b"data: " + b"x" * 20 + b"\n\n")
    odd = b"data: 1\n\n\r\n" + inner + b"data: 2\n\n"
    whole = chunk(odd)
    at = whole.index(inner)
    first = chunk(b"data: " + b"y" * 20 + b"\n\n")
    reads = [HEAD, first, first, whole[:at], inner, whole[at + len(inner) :], chunk(done), LAST]
    body = told(reads)
    assert body == first[4:-2] * 2 + odd + done
    assert taken.count(True) == 1


@pytest.mark.parametrize("way", ["dies", "ends"])
def test_a_server_that_goes_is_told(way: str, taken: list[bool]) -> None:
    with Wire() as wire:
        client = wire.connect()
        client.sends(asked())
        server = wire.server()
        for one in (HEAD, *(chunk(one) for one in cut(recorded("chat"))[:4])):
            server.says(one)
        getattr(server, way)()
        ((_, body),) = answers_in(bytes(client.heard))
    assert "went away" in str(events(body)[-1])
    assert True in taken


def test_an_error_is_translated(taken: list[bool]) -> None:
    wrong = b'event: error\ndata: {"code":500,"message":"full","type":"server_error"}\n\n'
    begun = [chunk(one) for one in cut(recorded("messages"))[:5]]
    body = told([HEAD, *begun, chunk(wrong), LAST], path=b"/v1/messages")
    assert b'"type":"error"' in body
    assert taken[-3:] == [True, False, False]


def writes(client: MemoryTransport) -> list[bytes]:
    """What is written to a client from now on."""
    found: list[bytes] = []
    write = client.write

    def seen(data: bytes | bytearray | memoryview) -> None:
        found.append(bytes(data))
        write(data)

    client.write = seen  # type: ignore[method-assign]
    return found


def test_the_end_goes_out_with_what_came_last() -> None:
    *before, finish, done = cut(recorded("chat"))
    with Wire() as wire:
        client = wire.connect()
        sent = writes(client)
        client.sends(asked())
        server = wire.server()
        sent.clear()
        server.says(HEAD)
        for one in before:
            server.says(chunk(one))
        server.says(chunk(finish) + chunk(done) + LAST)
    assert sent[-1] == chunk(finish + done) + LAST
    assert len(sent) == len(before) + 2  # the head


def test_the_guard_sees_what_goes_there(taken: list[bool]) -> None:
    """And what it holds and cuts is the same as in one read."""
    say = b'data: {"choices":[{"finish_reason":null,"index":0,"delta":{"content":"%b"}}]}\n\n'
    words = [b"One ", b"two ", b"three. ", *[b"And ", b"again ", b"the ", b"same. "] * 200]
    reads = [chunk(say % one) for one in words]
    guard = GuardSettings(retries=0)
    apart = told([HEAD, *reads], guard=guard)
    assert taken.count(True) > 100
    assert b"it repeated itself" in apart
    assert apart.count(b'"again "') == 2
    assert told([HEAD, reads[0], b"".join(reads[1:])], guard=guard) == apart
