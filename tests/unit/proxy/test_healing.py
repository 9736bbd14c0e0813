"""The guard's steps on the wire: what the server is asked, and what becomes of the request."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import TYPE_CHECKING, Any

import pytest
from kit.waiting import until
from support.guarding import body_of
from support.liar import HANGS, Liar, proxied
from support.speaking import ENDPOINTS, Speaker
from support.streams import events
from support.wire import Wire, answers_in, requests_in

from llmctl.core.guard.settings import GuardSettings
from llmctl.proxy import healing
from llmctl.proxy.head import chunk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.wire import MemoryTransport

PATHS = {
    "chat": "/v1/chat/completions", "messages": "/v1/messages", "responses": "/v1/responses",
    "completions": "/v1/completions", "native": "/completion",
}  # fmt: skip
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
REFUSED = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
)
END = b"0\r\n\r\n"
BLOCK = ("Let", " me", " see", " that", " again", ", ")


@pytest.fixture
def wire() -> Iterator[Wire]:
    with Wire(guard=GuardSettings(native=False)) as made:
        yield made


def asking(dialect: str, **more: Any) -> bytes:
    body = body_of(dialect, **more)
    head = (
        f"POST {PATHS[dialect]} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    )
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def loops(server: MemoryTransport, speaker: Speaker) -> None:
    """The server's answer, without its end; nobody hears what it says once it was left."""
    server.says(STREAM + chunk(speaker.begin() + speaker.say("So", ": ")))
    for _ in range(300):
        server.says(chunk(speaker.say(*BLOCK)))


def ends(server: MemoryTransport, speaker: Speaker) -> None:
    """The whole of an answer."""
    said = speaker.begin() + speaker.say("It", " is", " 4.") + speaker.finish()
    server.says(STREAM + chunk(said) + END)


def asked(server: MemoryTransport) -> Any:
    """The body of the last request on this connection."""
    return json.loads(requests_in(bytes(server.heard))[-1][1])


def in_flight(wire: Wire) -> int:
    """As the model's queue counts it, and the proxy."""
    turns = wire.proxy.board.turns(wire.proxy.table.served["coder"].queue)
    assert sum(turns.busy.values()) == len(wire.proxy.relays)
    return len(wire.proxy.relays)


def body_in(client: MemoryTransport) -> bytes:
    ((_, body),) = answers_in(bytes(client.heard))
    return body


@pytest.mark.parametrize("dialect", ENDPOINTS)
@pytest.mark.parametrize("stream", [True, False])
def test_an_answer_that_loops_is_asked_for_again(wire: Wire, dialect: str, stream: bool) -> None:
    client = wire.connect()
    client.sends(asking(dialect, stream=stream))
    assert asked(wire.server())["stream"] is True
    loops(wire.server(), Speaker(dialect))
    assert wire.server(0).is_shut, "the server stops what it does for a connection that is closed"
    assert len(wire.pool.opened) == 2
    assert "[A notice" in json.dumps(asked(wire.server()))
    assert in_flight(wire) == 1, "it is still the one request"
    ends(wire.server(), Speaker(dialect, 2))
    body = body_in(client)
    assert b"4." in body
    assert in_flight(wire) == 0


@pytest.mark.parametrize("dialect", ENDPOINTS)
@pytest.mark.parametrize("stream", [True, False])
def test_half_an_event_of_the_attempt_before_is_no_part_of_the_next(
    wire: Wire, dialect: str, stream: bool
) -> None:
    """A read ends where it likes."""
    client = wire.connect()
    client.sends(asking(dialect, stream=stream))
    server, speaker, half = wire.server(), Speaker(dialect), b""
    server.says(STREAM + chunk(speaker.begin() + speaker.say("So", ": ")))
    while not server.is_shut:
        said = half + speaker.say(*BLOCK)
        half = said[-20:]
        server.says(chunk(said[:-20]))
    ends(wire.server(), Speaker(dialect, 2))
    body = body_in(client)
    assert b"It" in body
    lines = [line[6:] for line in body.split(b"\n") if line.startswith(b"data: {")]
    assert [json.loads(line) for line in lines] or not stream
    assert body.count(b"event: ") == body.count(b"\nevent: ") + body.startswith(b"event: ")


@pytest.mark.parametrize("dialect", ["chat", "messages"])
def test_what_cannot_be_asked_again_is_not_said_to_be(wire: Wire, dialect: str) -> None:
    """The client began the message that the answer continues."""
    said = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "So"}]
    client = wire.connect()
    client.sends(asking(dialect, messages=said))
    speaker = Speaker(dialect)
    loops(wire.server(), speaker)
    body = body_in(client)
    assert b"; stopped\n" in body
    assert b"asked again" not in body
    if dialect == "messages":
        told: list[Any] = [data for name, data in events(body) if name == "message_delta"]
        assert told[0]["usage"]["output_tokens"] <= speaker.tokens


def test_a_body_keeps_all_that_the_client_said(wire: Wire) -> None:
    client = wire.connect()
    client.sends(asking("chat", stream=False, seed=7, unknown={"a": [1, 2.50, "ü"]}))
    told = asked(wire.server())
    assert (told["seed"], told["unknown"]) == (7, {"a": [1, 2.5, "ü"]})
    assert told["stream_options"] == {"include_usage": True}
    loops(wire.server(), Speaker("chat"))
    again = asked(wire.server())
    assert (again["seed"], again["unknown"]) == (7, {"a": [1, 2.5, "ü"]})
    assert again["messages"][0] == told["messages"][0]


@pytest.mark.parametrize("dialect", ["chat", "completions", "messages", "responses"])
def test_a_server_that_dies_in_a_further_attempt_is_one_error(wire: Wire, dialect: str) -> None:
    client = wire.connect()
    client.sends(asking(dialect))
    loops(wire.server(), Speaker(dialect))
    speaker = Speaker(dialect, 2)
    wire.server().says(STREAM + chunk(speaker.begin() + speaker.say("It", " is")))
    wire.server().dies()
    errors = [one for one in events(body_in(client)) if "error" in str(one)]
    assert len(errors) == 1
    assert "upstream_died" in str(errors)
    assert in_flight(wire) == 0


def test_a_server_that_is_gone_before_a_further_attempt_is_one_error(wire: Wire) -> None:
    client = wire.connect()
    client.sends(asking("chat"))
    wire.pool.refuses = "connection refused"
    loops(wire.server(), Speaker("chat"))
    errors = [one for one in events(body_in(client)) if "error" in str(one)]
    assert len(errors) == 1
    assert in_flight(wire) == 0


@pytest.mark.parametrize("stream", [True, False])
def test_a_further_attempt_that_is_refused_ends_the_answer_honestly(
    wire: Wire, stream: bool
) -> None:
    client = wire.connect()
    client.sends(asking("chat", stream=stream))
    loops(wire.server(), Speaker("chat"))
    wire.server().says(REFUSED)
    body = body_in(client)
    assert b"could not be asked for again (400)" in body
    ((head, _),) = answers_in(bytes(client.heard))
    said = dict(head.headers).get(b"x-llmctl-guard")
    assert said == (None if stream else b"exact; step=retry; repeats=69.4; outcome=stopped")
    assert b'"finish_reason":"length"' in body
    assert b'"stop"' not in body
    assert in_flight(wire) == 0


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_goes_in_a_further_attempt_frees_the_server(wire: Wire, stream: bool) -> None:
    client = wire.connect()
    client.sends(asking("chat", stream=stream))
    loops(wire.server(), Speaker("chat"))
    speaker = Speaker("chat", 2)
    wire.server().says(STREAM + chunk(speaker.begin() + speaker.say("It")))
    client.dies()
    assert wire.server().is_shut
    assert in_flight(wire) == 0


def test_a_client_that_goes_while_its_answer_is_held_frees_the_server(wire: Wire) -> None:
    client = wire.connect()
    client.sends(asking("chat"))
    speaker = Speaker("chat")
    wire.server().says(STREAM + chunk(speaker.begin()))
    for _ in range(5):
        wire.server().says(chunk(speaker.say(*BLOCK)))
    assert body_of_chunks(client).count(b" again") < 5, "something is held"
    client.dies()
    assert wire.server().is_shut
    assert in_flight(wire) == 0


def body_of_chunks(client: MemoryTransport) -> bytes:
    return bytes(client.heard).partition(b"\r\n\r\n")[2]


def test_a_server_that_dies_while_something_is_held_is_one_error(wire: Wire) -> None:
    client = wire.connect()
    client.sends(asking("chat"))
    speaker = Speaker("chat")
    wire.server().says(STREAM + chunk(speaker.begin()))
    for _ in range(5):
        wire.server().says(chunk(speaker.say(*BLOCK)))
    wire.server().dies()
    errors = [one for one in events(body_in(client)) if "error" in str(one)]
    assert len(errors) == 1


def test_a_slow_client_pauses_a_further_attempt_too(wire: Wire) -> None:
    client = wire.connect()
    client.sends(asking("chat"))
    client.fills()
    assert wire.server().is_paused
    loops(wire.server(), Speaker("chat"))
    assert len(wire.pool.opened) == 2
    assert wire.server().is_paused
    client.drains()
    assert not wire.server().is_paused
    ends(wire.server(), Speaker("chat", 2))
    assert b"data: [DONE]" in body_in(client)


def test_a_whole_answer_whose_server_dies_is_asked_for_anew(wire: Wire) -> None:
    """Nothing of it has gone out."""
    client = wire.connect()
    client.sends(asking("chat", stream=False))
    speaker = Speaker("chat")
    wire.server().says(STREAM + chunk(speaker.begin() + speaker.say("half")))
    wire.server().dies()
    ends(wire.server(), Speaker("chat", 2))
    told = json.loads(body_in(client))
    assert told["choices"][0]["message"]["content"] == "It is 4."
    assert in_flight(wire) == 0


@pytest.mark.parametrize(("code", "status"), [(500, 500), (400, 400), (7, 500), ("x", 500)])
def test_an_error_in_the_midst_of_a_whole_answer_is_its_status(
    wire: Wire, code: Any, status: int
) -> None:
    client = wire.connect()
    client.sends(asking("chat", stream=False))
    error = {"error": {"code": code, "message": "Context size has been exceeded."}}
    data = b"data: %b\n\n" % json.dumps(error).encode()
    wire.server().says(STREAM + chunk(data) + END)
    ((head, body),) = answers_in(bytes(client.heard))
    assert (head.status_code, json.loads(body)) == (status, error)


def test_an_error_in_the_midst_of_a_whole_message_is_the_servers_own(wire: Wire) -> None:
    """llama-server has another shape for it in a stream of /v1/messages."""
    client = wire.connect()
    client.sends(asking("messages", stream=False))
    error = {"code": 500, "message": "Context size has been exceeded.", "type": "server_error"}
    data = b"event: error\ndata: %b\n\n" % json.dumps(error).encode()
    wire.server().says(STREAM + chunk(Speaker("messages").begin() + data) + END)
    ((head, body),) = answers_in(bytes(client.heard))
    assert (head.status_code, json.loads(body)) == (500, {"error": error})


def test_a_whole_answer_may_end_with_all_of_a_long_prompt(wire: Wire) -> None:
    client = wire.connect()
    client.sends(asking("native", stream=False))
    speaker, prompt = Speaker("native"), "word " * (1 << 20)
    said = speaker.say("It", " is") + speaker.finish()
    said = said.replace(b'"stop":true', b'"stop":true,"prompt":"%b"' % prompt.encode())
    server = wire.server()
    server.says(
        STREAM + b"".join(chunk(said[at : at + 65536]) for at in range(0, len(said), 65536))
    )
    server.says(END)
    ((head, body),) = answers_in(bytes(client.heard))
    told = json.loads(body)
    assert head.status_code == 200
    assert (told["content"], told["prompt"] == prompt) == ("It is", True)


def test_half_a_whole_answer_is_an_error(wire: Wire) -> None:
    client = wire.connect()
    client.sends(asking("chat", stream=False))
    wire.server().says(STREAM + chunk(Speaker("chat").say("half")) + END)
    ((head, body),) = answers_in(bytes(client.heard))
    assert head.status_code == 502
    assert json.loads(body)["error"]["type"] == "llmctl_stream_ended"


def test_what_is_told_of_it_counts_all_attempts(wire: Wire) -> None:
    client = wire.connect()
    client.sends(asking("chat"))
    relay = next(iter(wire.proxy.relays.values()))
    loops(wire.server(), Speaker("chat"))
    ends(wire.server(), Speaker("chat", 2))
    assert relay.record.outcome == "ok"
    assert relay.record.tokens_out is not None
    assert relay.record.tokens_out > 100


def test_what_is_stopped_is_called_so(wire: Wire) -> None:
    wire.keeper.guard = GuardSettings(retries=0, native=False)
    wire._runner.run(wire.proxy.board.look())
    client = wire.connect()
    client.sends(asking("chat"))
    relay = next(iter(wire.proxy.relays.values()))
    loops(wire.server(), Speaker("chat"))
    assert relay.record.outcome == "stopped"
    assert body_in(client).endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("answer", ["ends", "fails", "refuses", "garbles"])
def test_a_server_is_told_to_end_its_reasoning(answer: str) -> None:
    said = {
        "ends": b'HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n{"success":true}',
        "fails": b'HTTP/1.1 200 OK\r\nContent-Length: 17\r\n\r\n{"success":false}',
        "refuses": b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
        "garbles": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n[1]",
    }[answer]

    async def story(wire: Wire) -> bytes:
        client = wire.connect()
        client.sends(asking("chat"))
        server, speaker = wire.server(), Speaker("chat")
        assert asked(server)["reasoning_control"] is True
        server.says(STREAM + chunk(speaker.begin()))
        for _ in range(300):
            if wire.proxy.relays and len(wire.pool.opened) == 1:
                server.says(chunk(speaker.think(*BLOCK)))
                await asyncio.sleep(0)
        await until(lambda: len(wire.pool.opened) == 2)
        control = wire.server()
        assert asked(control) == {"id": "chatcmpl-1", "action": "reasoning_end"}
        control.says(said)
        if answer == "ends":
            await asyncio.sleep(0)
            server.says(chunk(speaker.think(*BLOCK) + speaker.say("So", ": 4.") + speaker.finish()))
            server.says(END)
        else:
            await until(lambda: server.is_shut)
            ends(wire.server(), Speaker("chat", 2))
        return body_in(client)

    with Wire(guard=GuardSettings()) as wire:
        body = wire._runner.run(story(wire))
        assert in_flight(wire) == 0
    assert body.endswith(b"data: [DONE]\n\n")
    assert body.count(b" again") <= 3
    assert (b": 4." in body) == (answer == "ends")


def test_a_server_that_does_not_answer_who_ends_its_reasoning_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(healing, "CONTROL_TIMEOUT_S", 0.05)
    speaker, again = Speaker("chat"), Speaker("chat", 2)
    looping = STREAM + chunk(speaker.begin() + speaker.think(*(BLOCK * 300)))
    well = chunk(again.begin() + again.say("It", " is", " 4.") + again.finish())

    async def story() -> None:
        async with (
            Liar([looping, HANGS], [HANGS], [STREAM, well, END]) as liar,
            proxied(liar, guard=GuardSettings()) as (_, port),
        ):
            assert b" 4." in await asyncio.to_thread(answer_of, port)
            assert liar.heard[1][0].startswith(b"POST /v1/chat/completions/control")
            await until(lambda: len(liar.open) <= 1)

    asyncio.run(story())


def answer_of(port: int) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as one:
        one.sendall(asking("chat").replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1))
        return b"".join(iter(lambda: one.recv(1 << 16), b""))
