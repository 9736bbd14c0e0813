"""client.py: what a client gets for what it sends, in whatever order and shape it comes."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from kit.waiting import until
from support.liar import Liar, proxied
from support.nasty import SIZES, streams
from support.wire import MemoryTransport, Wire, answers_in, requests_in

from llmctl.core.proxy_settings import ProxySettings
from llmctl.proxy import head, patience
from llmctl.proxy.client import MOST_EARLY
from llmctl.proxy.server import FAREWELL_S, IDLE_TIMEOUT_S
from llmctl.proxy.sockets import GONE_AFTER_S

if TYPE_CHECKING:
    from collections.abc import Iterator

JSON = b"Content-Type: application/json"
HEALTH = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
HEALTHY = b'{"status":"ok"}'
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
DONE = b'e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n'  # fmt: skip
CHAT = b"/v1/chat/completions"


@pytest.fixture
def wire() -> Iterator[Wire]:
    with Wire() as made:
        yield made


def post(
    path: bytes = CHAT, body: bytes = b"{}", *headers: bytes, version: bytes = b"1.1"
) -> bytes:
    head = b"POST %b HTTP/%b" % (path, version)
    length = b"Content-Length: %d" % len(body)
    return b"\r\n".join([head, b"Host: x", JSON, length, *headers, b"", b""]) + body


def get(path: bytes, *headers: bytes, method: bytes = b"GET", version: bytes = b"1.1") -> bytes:
    return b"\r\n".join(
        [b"%b %b HTTP/%b" % (method, path, version), b"Host: x", *headers, b"", b""]
    )


def statuses(client: MemoryTransport, method: str = "POST", *, ended: bool = False) -> list[int]:
    return [a.status_code for a, _ in answers_in(bytes(client.heard), method=method, ended=ended)]


# In order


def test_a_second_request_in_the_same_segment_is_answered_second(wire: Wire) -> None:
    client = wire.connect()
    client.sends(post() + HEALTH)
    assert not client.heard
    wire.server().says(OK)
    assert [body for _, body in answers_in(bytes(client.heard))] == [b"{}", HEALTHY]


def test_it_waits_for_the_end_of_a_stream(wire: Wire) -> None:
    client = wire.connect()
    client.sends(post(body=b'{"stream":true}') + HEALTH)
    wire.server().says(EVENTS)
    assert HEALTHY not in client.heard
    wire.server().says(DONE)
    found = [body for _, body in answers_in(bytes(client.heard))]
    assert found == [b"data: [DONE]\n\n", HEALTHY]


def test_a_refusal_in_its_turn_lets_the_next_go_on(wire: Wire) -> None:
    client = wire.connect()
    client.sends(post() + post(body=b"{") + HEALTH)
    assert not client.heard, "the refusal was first"
    wire.server().says(OK)
    assert statuses(client) == [200, 400, 200]
    assert not client.is_shut


def test_what_is_no_request_is_told_after_the_answers_before_it(wire: Wire) -> None:
    client = wire.connect()
    client.sends(post() + b"nonsense\r\n\r\n" + HEALTH)
    assert not client.heard
    wire.server().says(OK)
    assert statuses(client) == [200, 501]
    assert client.has_eof


def test_a_thousand_requests_at_once_are_a_thousand_answers(wire: Wire) -> None:
    client = wire.connect()
    client.sends(HEALTH * 1000)
    assert statuses(client) == [200] * 1000


def test_who_sends_too_much_ahead_gets_this_answer_and_no_more(wire: Wire) -> None:
    client = wire.connect()
    client.sends(post())
    for _ in range(100):
        client.sends(HEALTH * 1000)
    assert len(wire.client._early) < 300 << 10
    wire.server().says(OK)
    ((answer, _),) = answers_in(bytes(client.heard))
    assert (b"connection", b"close") in answer.headers
    assert client.is_shut


@settings(max_examples=40)
@given(sizes=SIZES)
def test_the_pieces_in_which_requests_come_do_not_matter(sizes: list[int]) -> None:
    data = post(body=b"{") + HEALTH + get(b"/v1/models") + post(body=b"[") + b"bad\r\n\r\n"
    with Wire() as wire:
        client = wire.connect()
        client.sends(data, sizes=sizes)
        assert statuses(client) == [400, 200, 200, 400, 501]


# What goes on to the server, whatever comes


def answer_everything(wire: Wire) -> None:
    """The server answers each request that comes to it, until nothing moves."""
    seen: dict[MemoryTransport, int] = {}
    while True:
        waiting = [one for one in wire.pool.opened if len(one.heard) > seen.get(one, 0)]
        if not waiting:
            return
        for server in waiting:
            seen[server] = len(server.heard)
            server.says(OK)


@given(data=streams(), sizes=SIZES)
def test_the_server_gets_what_was_asked_and_nothing_else(data: bytes, sizes: list[int]) -> None:
    """By h11's reading of both sides: whole requests, as many as there were answers from there."""
    with Wire() as wire:
        client = wire.connect()
        client.sends(data, sizes=sizes)
        answer_everything(wire)
        passed = [one for server in wire.pool.opened for one in requests_in(bytes(server.heard))]
        told = bytes(client.heard).replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"")
        assert told.count(b"X-Served-By: coder") == len(passed)
        for head, _ in passed:
            names = [name for name, _ in head.headers]
            assert names.count(b"host") == 1
            assert b"transfer-encoding" not in names
            assert b"upgrade" not in names or (b"upgrade", b"websocket") in head.headers


def test_what_is_the_proxys_own_or_the_connections_does_not_go_on(wire: Wire) -> None:
    wire.connect().sends(post(
        CHAT, b"{}", b"X-Conversation-Id: 7", b"Authorization: Bearer secret", b"X-Api-Key: secret",
        b"Accept-Encoding: gzip", b"Connection: X-Hop, close", b"X-Hop: 1", b"Keep-Alive: 5",
        b"TE: trailers", b"Proxy-Connection: x", b"Upgrade: h2c", b"X-Kept: 1",
    ))  # fmt: skip
    ((head, body),) = requests_in(bytes(wire.server().heard))
    assert body == b"{}"
    assert list(head.headers) == [
        (b"host", b"127.0.0.1:12340"), (b"content-type", b"application/json"), (b"x-kept", b"1"),
        (b"content-length", b"2"),
    ]  # fmt: skip


def test_trailers_and_extensions_end_here(wire: Wire) -> None:
    chunked = [
        b"POST /v1/chat/completions HTTP/1.1",
        b"Host: x",
        JSON,
        b"Transfer-Encoding: chunked",
    ]
    body = b"2;x=y\r\n{}\r\n0\r\nAuthorization: x\r\n\r\n"
    wire.connect().sends(b"\r\n".join([*chunked, b"", b""]) + body)
    ((head, sent),) = requests_in(bytes(wire.server().heard))
    assert sent == b"{}"
    assert (b"content-length", b"2") in head.headers
    assert b"Authorization" not in wire.server().heard


@pytest.mark.parametrize("method", [b"POST", b"PUT", b"PATCH"])
def test_a_request_without_a_body_says_so(wire: Wire, method: bytes) -> None:
    """llama-server would wait for one."""
    wire.connect().sends(get(b"/slots/0?action=erase", method=method))
    assert b"Content-Length: 0\r\n" in wire.server().heard


@pytest.mark.parametrize("method", [b"OPTIONS", b"DELETE", b"PUT", b"PROPFIND", b"QUERY"])
def test_any_method_goes_on(wire: Wire, method: bytes) -> None:
    client = wire.connect()
    client.sends(get(b"/anything?x=1", method=method))
    assert wire.server().heard.startswith(method + b" /anything?x=1 HTTP/1.1\r\n")
    wire.server().says(OK)
    assert statuses(client) == [200]


# Expect


def test_a_body_is_asked_for(wire: Wire) -> None:
    client = wire.connect()
    head, _, body = post(CHAT, b"{}", b"Expect: 100-continue").partition(b"\r\n\r\n")
    client.sends(head + b"\r\n\r\n")
    assert client.heard == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.sends(body)
    wire.server().says(OK)
    assert statuses(client) == [200]


def test_one_that_is_too_large_is_not(wire: Wire) -> None:
    client = wire.connect()
    client.sends(b"\r\n".join([
        b"POST /v1/messages HTTP/1.1", b"Host: x", JSON, b"Content-Length: 68157440",
        b"Expect: 100-continue", b"", b"",
    ]))  # fmt: skip
    ((answer, body),) = answers_in(bytes(client.heard))
    assert answer.status_code == 413
    assert b'"type":"request_too_large"' in body
    assert client.has_eof


def test_one_is_asked_for_when_it_is_its_turn(wire: Wire) -> None:
    client = wire.connect()
    client.sends(post() + post(CHAT, b"{}", b"Expect: 100-continue"))
    assert not client.heard
    wire.server().says(OK)
    assert client.heard.endswith(b"{}HTTP/1.1 100 Continue\r\n\r\n")


# Connections that end


@pytest.mark.parametrize("path", [CHAT, b"/v1/messages", b"/v1/embeddings"])
def test_who_ends_its_side_does_not_want_a_generation(wire: Wire, path: bytes) -> None:
    client = wire.connect()
    client.sends(post(path))
    client.ends()
    assert wire.server().is_aborted
    assert not wire.proxy.relays


def test_but_what_needs_no_model_is_answered(wire: Wire) -> None:
    client = wire.connect()
    client.sends(post(b"/tokenize") + get(b"/props"))
    client.ends()
    answer_everything(wire)
    assert statuses(client) == [200, 200]
    assert client.is_shut


def test_a_half_sent_request_is_forgotten(wire: Wire) -> None:
    client = wire.connect()
    client.sends(post(body=b"{}")[:-1])
    client.ends()
    assert client.is_shut
    assert not wire.proxy.relays
    assert not wire.proxy.clients


@pytest.mark.parametrize(
    ("version", "header", "stays"),
    [(b"1.1", b"X: y", True), (b"1.1", b"Connection: close", False), (b"1.0", b"X: y", False),
     (b"1.0", b"Connection: keep-alive", True)],
)  # fmt: skip
def test_a_connection_stays_if_it_should(
    wire: Wire, version: bytes, header: bytes, stays: bool
) -> None:
    client = wire.connect()
    client.sends(post(CHAT, b"{}", header, version=version))
    wire.server().says(OK)
    ((answer, _),) = answers_in(bytes(client.heard), ended=not stays)
    said = dict(answer.headers).get(b"connection")
    assert client.is_shut is not stays
    assert said == ((b"keep-alive" if version == b"1.0" else None) if stays else b"close")


def test_http_1_0_gets_no_chunks(wire: Wire) -> None:
    client = wire.connect()
    client.sends(post(CHAT, b'{"stream":true}', b"Connection: keep-alive", version=b"1.0"))
    wire.server().says(EVENTS + DONE)
    ((answer, body),) = answers_in(bytes(client.heard), ended=True)
    assert body.endswith(b"data: [DONE]\n\n")
    assert (b"connection", b"close") in answer.headers
    assert client.is_shut


# Answers without a body


@pytest.mark.parametrize("head", [
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\n",
])  # fmt: skip
def test_an_answer_to_head_has_no_body(wire: Wire, head: bytes) -> None:
    client = wire.connect()
    client.sends(get(b"/props", method=b"HEAD") + get(b"/health", method=b"HEAD"))
    wire.server().says(head)
    first, second = answers_in(bytes(client.heard), method="HEAD")
    assert first[1] == second[1] == b""
    assert dict(first[0].headers).get(b"content-length") == (b"5" if b"Length" in head else None)
    assert dict(second[0].headers)[b"content-length"] == b"15"


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
def test_some_statuses_have_none(wire: Wire, status: bytes) -> None:
    client = wire.connect()
    client.sends(get(b"/x") + HEALTH)
    wire.server().says(b"HTTP/1.1 %b\r\nETag: x\r\n\r\n" % status)
    assert statuses(client, "GET") == [int(status[:3]), 200]


# Another protocol


SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n"
WEBSOCKET = get(b"/ws", b"Connection: Upgrade", b"Upgrade: WebSocket", b"Sec-WebSocket-Key: k")


def test_a_websocket_passes_both_ways(wire: Wire) -> None:
    client = wire.connect()
    client.sends(WEBSOCKET + b"early")
    server = wire.server()
    assert b"Connection: upgrade\r\nUpgrade: websocket\r\n" in server.heard
    server.says(SWITCH + b"\x81\x02hi")
    head, _, rest = bytes(client.heard).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ")
    assert rest == b"\x81\x02hi"
    assert server.heard.endswith(b"\r\n\r\nearly")
    client.sends(b"GET / HTTP/1.1\r\n\r\n")
    assert server.heard.endswith(b"earlyGET / HTTP/1.1\r\n\r\n")
    server.ends()
    assert client.is_shut
    assert not client.is_aborted
    wire.settle()
    assert not wire.proxy.relays


def test_its_ends_wait_for_each_other(wire: Wire) -> None:
    client = wire.connect()
    client.sends(WEBSOCKET)
    server = wire.server()
    server.says(SWITCH)
    server.fills()
    seen = [client.is_paused]
    server.drains()
    seen.append(client.is_paused)
    client.fills()
    assert [*seen, server.is_paused] == [True, False, True]


def test_a_refused_switch_is_an_answer_like_any_other(wire: Wire) -> None:
    client = wire.connect()
    client.sends(WEBSOCKET + HEALTH)
    wire.server().says(OK)
    assert statuses(client, "GET") == [200, 200]


def test_nobody_switches_unasked(wire: Wire) -> None:
    client = wire.connect()
    client.sends(post())
    for _ in range(3):
        wire.server().says(SWITCH + b"raw")
    assert statuses(client) == [502]
    assert b"raw" not in client.heard


# Slow ones


def test_a_client_that_does_not_read_stops_its_server(wire: Wire) -> None:
    client = wire.connect()
    client.sends(post() + post())
    wire.server().says(EVENTS)
    client.fills()
    assert wire.server().is_paused
    wire.server().says(DONE)
    assert len(wire.pool.opened) == 1, "the next one may not begin before it has read"
    assert wire.server().heard.count(b"POST") == 1
    client.drains()
    assert sum(one.heard.count(b"POST") for one in wire.pool.opened) == 2


def test_a_client_that_never_reads_is_given_up(wire: Wire) -> None:
    client = wire.connect()
    client.sends(post())
    wire.server().says(EVENTS)
    client.fills()
    now = wire.proxy.now()
    wire.client.look(now + patience.STALL_TIMEOUT_S - 1)
    assert not client.is_shut
    wire.client.look(now + patience.STALL_TIMEOUT_S + 1)
    wire.settle()
    assert client.is_aborted
    assert wire.server().is_aborted


def test_a_slow_head_is_given_up(wire: Wire) -> None:
    """However busily it trickles."""
    client = wire.connect()
    for at in range(4):
        client.sends(b"GET / HT"[2 * at : 2 * at + 2])
        wire.client.look(wire.proxy.now() + patience.HEAD_TIMEOUT_S / 4 * (at + 1) + 1)
    assert statuses(client) == [408]
    assert client.has_eof


def test_a_slow_body_is_given_up_in_its_dialect(wire: Wire) -> None:
    client = wire.connect()
    client.sends(post(b"/v1/messages", b"{" + bytes(1000))[:-500])
    now = wire.proxy.now()
    wire.client.look(now + patience.BODY_TIMEOUT_S - 1)
    assert not client.heard
    wire.client.look(now + patience.BODY_TIMEOUT_S + 1)
    ((answer, body),) = answers_in(bytes(client.heard))
    assert answer.status_code == 408
    assert b'{"type":"error","error":' in body


def test_a_body_must_get_on() -> None:
    """A byte now and then is not enough; a slow line is."""
    one = patience.Patience(0.0)
    one.heard(100.0)
    assert one.is_slow(100.0, nbytes=100)
    assert not one.is_slow(100.0, nbytes=100_000)


def test_an_idle_connection_is_closed_in_the_end(wire: Wire) -> None:
    client = wire.connect()
    client.sends(HEALTH)
    now = wire.proxy.now()
    wire.client.look(now + IDLE_TIMEOUT_S - 1)
    assert not client.is_shut
    wire.client.look(now + IDLE_TIMEOUT_S + 1)
    assert client.is_shut


def test_the_rest_of_a_refused_request_is_read_for_a_while(wire: Wire) -> None:
    client = wire.connect()
    client.sends(post(body=bytes(70 << 20))[:1000])
    assert statuses(client) == [413]
    assert client.has_eof
    now = wire.proxy.now()
    for at in range(0, 30, 3):
        client.sends(bytes(1000))
        wire.client._patience.heard(now + at)
        wire.client.look(now + at)
        assert not client.is_shut
    wire.client.look(now + patience.LINGER_S + 1)
    assert client.is_shut


def test_a_refusal_without_a_body_keeps_the_connection(wire: Wire) -> None:
    client = wire.connect()
    client.sends(get(b"/upstream/nobody/props") + HEALTH)
    assert statuses(client, "GET") == [404, 200]
    assert not client.is_shut


def test_the_kernel_looks_after_machines_that_vanish() -> None:
    """A laptop that is closed sends no end: what waits for its answer would wait for ever."""

    async def options() -> list[int]:
        async with Liar([b""]) as liar, proxied(liar) as (proxy, port):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            await until(lambda: proxy.clients)
            (client,) = proxy.clients
            assert client._transport is not None
            peer = client._transport.get_extra_info("socket")
            writer.close()
            return [
                peer.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
                peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL),
                peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT),
            ]

    assert asyncio.run(options()) == [1, 15, 2]


def test_the_reference_has_the_limits_of_the_code() -> None:
    page = Path(__file__).resolve().parents[3] / "docs/reference/http.md"
    rows = [line.split(" | ") for line in page.read_text().splitlines() if line.startswith("| ")]
    told = {row[0].strip("| "): row[1] for row in rows}
    limits = f"{head.MAX_HEAD_BYTES >> 10} KiB, {head.MAX_HEADERS} headers"
    assert told["head of a request"] == limits
    most = str(ProxySettings().max_body).replace("MiB", " MiB")
    assert told["body of a request"] == f"`max_body` ({most})"
    assert told["a head, from its first byte"] == f"{patience.HEAD_TIMEOUT_S:.0f} s"
    assert told["silence in a body"] == f"{patience.BODY_TIMEOUT_S:.0f} s"
    assert told["speed of a body, after a minute"] == f"{patience.LEAST_BYTES_PER_S} bytes/s"
    assert told["an idle connection"] == f"{IDLE_TIMEOUT_S:.0f} s"
    assert told["a client that takes nothing of its answer"] == f"{patience.STALL_TIMEOUT_S:.0f} s"
    assert told["a machine that has vanished without a word"] == f"{GONE_AFTER_S} s"
    assert told["requests sent ahead of an answer"] == f"{MOST_EARLY >> 10} KiB"


def test_a_proxy_that_stops_says_so(wire: Wire) -> None:
    client, idle = wire.connect(), wire.client
    client.sends(post())
    other = wire.connect()
    wire.proxy.is_stopping = True
    wire.server().says(OK)
    ((answer, _),) = answers_in(bytes(client.heard))
    assert (b"connection", b"close") in answer.headers
    assert client.is_shut
    wire.client.look(wire.proxy.now() + FAREWELL_S + 0.1)
    assert other.is_shut
    assert idle is not wire.client
