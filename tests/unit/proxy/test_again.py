"""The short way of a request whose head has come before: as the long one, in all that anybody can
see of it."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from msgspec.structs import replace
from support.wire import MemoryTransport, Wire, answers_in, requests_in, served

from llmctl.core.guard.settings import GuardSettings
from llmctl.core.proxy_settings import ProxySettings
from llmctl.proxy.again import Again
from llmctl.proxy.keys import ApiKey, Keyring
from llmctl.proxy.record import entry
from llmctl.proxy.routing import Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from llmctl.proxy.client import Client
    from llmctl.proxy.record import Record
    from llmctl.proxy.relay import Relay
    from llmctl.proxy.server import Proxy

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
EVENTS = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"
)
KEY = b"a-key-of-twenty-signs"


def keyring(*keys: bytes) -> Keyring:
    return Keyring(tuple(
        ApiKey(f"key{number}", hashlib.sha256(key).digest()) for number, key in enumerate(keys)
    ))  # fmt: skip


def ask(
    body: bytes = b'{"model":"coder"}', *, path: bytes = b"/v1/chat/completions",
    method: bytes = b"POST", length: bytes | None = None, more: bytes = b"", key: bytes = KEY,
) -> bytes:  # fmt: skip
    told = b"%d" % len(body) if length is None else length
    return (
        b"%b %b HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %b\r\n"
        b"content-length: %b\r\nContent-Type: application/json\r\n%b\r\n"
    ) % (method, path, key, told, more) + body


@pytest.fixture
def wire() -> Iterator[Wire]:
    with Wire() as made:
        made.proxy.board.keys = keyring(KEY, b"another-key-of-twenty")
        yield made


def connected(wire: Wire, first: bytes | None = None) -> MemoryTransport:
    """A connection on which a request has been answered."""
    client = wire.connect()
    client.sends(first or ask())
    wire.server().says(OK)
    assert client.heard.startswith(b"HTTP/1.1 200 OK"), client.heard
    client.heard.clear()
    wire.server().heard.clear()
    return client


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What has gone the short way."""
    took: list[bytes] = []
    before = Again.send

    def told(self: Again, proxy: Proxy, client: Client, data: bytes) -> Relay | None:
        went = before(self, proxy, client, data)
        took.extend([data] if went else [])
        return went

    monkeypatch.setattr(Again, "send", told)
    return took


@pytest.mark.parametrize("answer", [OK, EVENTS])
@pytest.mark.parametrize(
    "body", [b'{"model":"coder"}', b'{"stream":true}', b'{"x":"%b"}' % (b"y" * 2000)]
)
def test_the_same_head_takes_the_short_way(
    wire: Wire, short: list[bytes], body: bytes, answer: bytes
) -> None:
    client = connected(wire)
    client.sends(ask(body))
    assert short == [ask(body)]
    ((request, heard),) = requests_in(bytes(wire.server().heard))
    assert heard == body
    assert KEY not in wire.server().heard
    assert dict(request.headers)[b"content-length"] == b"%d" % len(body)
    wire.server().says(answer)
    ((response, _),) = answers_in(bytes(client.heard))
    assert response.status_code == 200
    assert dict(response.headers)[b"x-served-by"] == b"coder"
    assert len(wire.pool.opened) == 1
    assert not wire.proxy.board.queues["gpu"].busy
    assert not wire.proxy.relays


VARIANTS = {
    "as before": ask(),
    "another body": ask(b'{"model":"coder","stream":true,"n":1}'),
    "another model": ask(b'{"model":"what"}'),
    "no JSON": ask(b"{"),
    "a model that is no name": ask(b'{"model":7}'),
    "no object": ask(b"[]"),
    "no body": ask(b"", length=b"0"),
    "half of it": ask(b'{"model":"coder"}', length=b"99"),
    "a further request": ask() + ask(),
    "a length that is too small": ask(length=b"2"),
    "a signed length": ask(length=b"+17"),
    "a length with a zero": ask(length=b"017"),
    "two lengths": ask(length=b"17\r\nContent-Length: 17"),
    "two lengths that differ": ask(length=b"17\r\nContent-Length: 3"),
    "a length in words": ask(length=b"seventeen"),
    "a length and chunks": ask(more=b"Transfer-Encoding: chunked\r\n"),
    "an expectation": ask(more=b"Expect: 100-continue\r\n"),
    "another key": ask(key=b"another-key-of-twenty"),
    "a wrong key": ask(key=b"a-key-of-twenty-sign5"),
    "a longer key": ask(key=KEY + b"5"),
    "another endpoint": ask(path=b"/v1/completions"),
    "a page of ours": ask(path=b"/llmctl/events"),
    "another method": ask(method=b"PUT"),
    "a further header": ask(more=b"X-Seed: 7\r\n"),
    "the end of the connection": ask(more=b"Connection: close\r\n"),
    "no HTTP": b"nonsense\r\n\r\n",
}


def seen(
    wire: Wire, client: MemoryTransport, data: bytes, *, sizes: Iterable[int] = ()
) -> tuple[Any, ...]:
    """What comes of it: at the server, and at the client, before and after the server answers."""
    opened = len(wire.pool.opened)
    marks = [len(one.heard) for one in wire.pool.opened]
    client.sends(data, sizes=sizes)
    at_server = b"".join(
        bytes(one.heard[mark:])
        for one, mark in zip(wire.pool.opened, [*marks, *[0] * 9], strict=False)
    )
    at_client = bytes(client.heard)
    if at_server:
        wire.server().says(OK)
    found = at_server, at_client, bytes(client.heard), client.is_shut, client.has_eof
    assert len(wire.pool.opened) == opened
    client.ends()
    return found


@pytest.mark.parametrize("how", VARIANTS)
def test_nobody_can_tell_the_ways_apart(how: str) -> None:
    """What follows a request is served as on a connection of its own."""
    found = []
    for data in (None, ask()):
        with Wire() as wire:
            wire.proxy.board.keys = keyring(KEY, b"another-key-of-twenty")
            client = connected(wire)
            if data is None:
                client = wire.connect()
            found.append(seen(wire, client, VARIANTS[how]))
    assert found[0] == found[1]


@pytest.mark.parametrize("how", ["as before", "another body", "another model"])
def test_the_usual_ones_take_the_short_way(wire: Wire, short: list[bytes], how: str) -> None:
    client = connected(wire)
    client.sends(VARIANTS[how])
    assert short == [VARIANTS[how]]


def test_a_request_in_pieces_is_read_as_ever(wire: Wire, short: list[bytes]) -> None:
    for size in range(1, len(ask())):
        client = connected(wire)
        short.clear()
        client.sends(ask(), sizes=[size])
        ((_, body),) = requests_in(bytes(wire.server().heard))
        assert body == b'{"model":"coder"}'
        wire.server().says(OK)
        assert bool(short) == (size == len(ask()) - len(body)), "a head waits for its body"


def test_a_further_request_waits_until_the_last_answer_is_taken(
    wire: Wire, short: list[bytes]
) -> None:
    client = connected(wire)
    client.fills()
    client.sends(ask())
    assert not wire.server().heard
    client.drains()
    assert len(requests_in(bytes(wire.server().heard))) == 1
    assert not short


@pytest.mark.parametrize("how", ["it was refused", "what came before is lost"])
def test_where_no_further_request_is_read_none_goes_the_short_way(
    wire: Wire, short: list[bytes], how: str
) -> None:
    client = connected(wire)
    if how == "it was refused":
        client.sends(b"no HTTP\r\n\r\n")
        assert client.heard.startswith(b"HTTP/1.1 501 ")
    else:
        client.fills()
        client.sends(b"x" * (300 << 10))
        client.drains()
    client.sends(ask())
    assert not short
    assert not wire.server().heard


def test_a_key_that_is_taken_back_is_refused_at_once(wire: Wire) -> None:
    client = connected(wire)
    wire.proxy.board.keys = keyring(b"another-key-of-twenty")
    client.sends(ask())
    assert client.heard.startswith(b"HTTP/1.1 401 ")
    assert not wire.server().heard


def test_other_settings_count_at_once(wire: Wire) -> None:
    client = connected(wire)
    wire.proxy.board.settings = ProxySettings(max_body="1KiB")
    client.sends(ask(b'{"x":"%b"}' % (b"y" * 2000)))
    assert client.heard.startswith(b"HTTP/1.1 413 ")
    assert not wire.server().heard


def test_models_that_a_key_may_not_use(wire: Wire) -> None:
    wire.proxy.board.keys = Keyring((ApiKey("k", hashlib.sha256(KEY).digest(), ("coder",)),))
    client = connected(wire)
    other = msgspec.structs.replace(served(), name="other")
    wire.proxy.board.table = Table.of((served(), other), {"gpu": "coder"})
    client.sends(ask(b'{"model":"other"}'))
    assert client.heard.startswith(b"HTTP/1.1 403 ")
    assert not wire.server().heard


def test_a_model_that_has_moved(wire: Wire, short: list[bytes]) -> None:
    client = connected(wire)
    wire.proxy.board.table = Table.of((served(port=12345),), {"gpu": "coder"})
    client.sends(ask())
    assert b"\r\nHost: 127.0.0.1:12345\r\n" in wire.server().heard
    assert len(short) == 1


def test_during_a_switch_it_waits(wire: Wire, short: list[bytes]) -> None:
    client = connected(wire)
    turns = wire.proxy.board.queues["gpu"]
    turns.switching = "other"
    client.sends(ask())
    assert not wire.server().heard
    turns.switching = None
    wire.proxy.board.tick()
    assert requests_in(bytes(wire.server().heard))
    assert not short


def test_it_is_written_down_alike(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    records: list[Record] = []
    monkeypatch.setattr(wire.proxy.journal, "ended", lambda _, record, **__: records.append(record))
    client = connected(wire)
    client.sends(ask())
    wire.server().says(OK)
    times = dict.fromkeys(("queue_s", "ttft_s", "total_s"))
    first, second = ({**entry(one, time="now"), **times} for one in records)
    assert first == second
    assert second["key"] == "key0"
    assert records[1].admitted is not None


def test_whoever_goes_is_missed(wire: Wire) -> None:
    """The server is told, as ever."""
    client = connected(wire)
    client.sends(ask())
    client.dies()
    assert wire.server().is_aborted
    assert not wire.proxy.relays
    assert not wire.proxy.board.queues["gpu"].busy


def test_a_known_head_goes_the_short_way_on_a_new_connection(
    wire: Wire, short: list[bytes]
) -> None:
    connected(wire)
    client = wire.connect()
    client.sends(ask())
    assert short == [ask()]
    wire.server().says(OK)
    assert client.heard.startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize("end", ["peer", "here"])
def test_what_is_known_of_a_head_is_known_of_both_its_ends(
    wire: Wire, short: list[bytes], end: str
) -> None:
    connected(wire)
    client = wire.connect()
    setattr(wire.client, end, "10.0.0.7")
    client.sends(ask())
    assert not short
    wire.server().says(OK)
    assert client.heard.startswith(b"HTTP/1.1 200 OK")


def test_of_requests_that_came_together_none_is_taken_for_another(wire: Wire) -> None:
    """The first has no key; what is found out about the second says nothing of its head."""
    body = b'{"model":"coder"}'
    keyless = ask(b"", length=b"0").replace(b"Authorization: Bearer %b\r\n" % KEY, b"")
    client = wire.connect()
    client.sends(keyless + ask())
    wire.server().says(OK)
    assert client.heard.startswith(b"HTTP/1.1 401 ")
    assert client.heard.count(b"HTTP/1.1 200 OK") == 1
    stranger = wire.connect()
    stranger.sends(keyless.replace(b"length: 0", b"length: %d" % len(body)) + body)
    assert stranger.heard.startswith(b"HTTP/1.1 401 ")


def test_an_empty_object_says_nothing_of_how_others_end() -> None:
    """The guard adds keys at the end of a body; after one that has some they follow a comma."""
    with Wire(guard=GuardSettings()) as wire:
        wire.proxy.board.keys = keyring(KEY)
        connected(wire)
        one, two = wire.connect(), wire.connect()
        for client, body in ((one, b'{"n":1}'), (two, b"{}"), (one, b'{"x":[]}')):
            client.sends(ask(body))
            wire.server().says(OK)
        sent = [json.loads(body) for _, body in requests_in(bytes(wire.server().heard))]
        assert [one.pop("x", None) for one in sent] == [None, None, []]
        assert sent[1] == sent[2]


def test_where_there_are_replicas_each_request_is_placed(wire: Wire, short: list[bytes]) -> None:
    """The short way would not ask which of the instances is to answer."""
    client = connected(wire)
    board = wire.proxy.board
    several = replace(board.table.served["coder"], most=2, slots=4)
    board.table = Table.of((several,), {"gpu": "coder"})
    client.sends(ask())
    assert short == []
    assert board.replicas.machines["coder"].busy == {1: 1}
    wire.server().says(OK)
    assert client.heard.startswith(b"HTTP/1.1 200 OK")
    assert board.replicas.machines["coder"].busy == {1: 0}
    assert not board.queues["gpu"].busy
