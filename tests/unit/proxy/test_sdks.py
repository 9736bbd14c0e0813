"""What the official SDKs make of the proxy's words: their own exceptions, and never a whole answer
that was none."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import anthropic
import openai
import pytest
from kit.waiting import until
from support.liar import DIES, ENDS, Liar, proxied
from support.streams import ERRORS, EXCEEDED, recorded

from llmctl.proxy.served_by import comment
from llmctl.proxy.turns import stopped_by_hand

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from support.liar import Then

    from llmctl.proxy.dialect import Trouble

    Ask = Callable[[int], Awaitable[list[Any]]]

ASK: Any = [{"role": "user", "content": "Hello"}]
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
ENDPOINTS = ["chat", "completions", "messages", "responses"]
FAULTS = (openai.APIError, anthropic.APIError)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def reply(status: bytes, body: bytes, length: int | None = None) -> bytes:
    length = len(body) if length is None else length
    head = b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    return head % (status, length) + body


async def collected(stream: AsyncIterator[Any]) -> list[Any]:
    return [event async for event in stream]


async def ask(endpoint: str, port: int, *, stream: bool) -> Any:
    """One request with the SDK of the endpoint: its events, or its answer."""
    url = f"http://127.0.0.1:{port}"
    if endpoint == "messages":
        async with anthropic.AsyncAnthropic(base_url=url, api_key="x", max_retries=0) as claude:
            found: Any = await claude.messages.create(
                model="coder", max_tokens=9, messages=ASK, stream=stream
            )
            return await collected(found) if stream else found
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0) as client:
        if endpoint == "chat":
            found = await client.chat.completions.create(model="coder", messages=ASK, stream=stream)
        elif endpoint == "completions":
            found = await client.completions.create(model="coder", prompt="Hello", stream=stream)
        else:
            found = await client.responses.create(model="coder", input="Hello", stream=stream)
        return await collected(found) if stream else found


def told(endpoint: str, *says: Sequence[bytes | Then], stream: bool = True) -> Any:
    """What an SDK makes of what a server says."""

    async def scenario() -> Any:
        async with Liar(*says) as liar, proxied(liar) as (_, port):
            async with asyncio.timeout(20):
                return await ask(endpoint, port, stream=stream)

    return asyncio.run(scenario())


def first_events(endpoint: str) -> bytes:
    return b"\n\n".join(recorded(endpoint).split(b"\n\n")[:2]) + b"\n\n"


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_a_whole_stream_is_understood(endpoint: str) -> None:
    data = recorded(endpoint)
    found = told(endpoint, [STREAM + chunk(data), b"0\r\n\r\n"])
    assert len(found) == data.count(b"\ndata: {") + data.startswith(b"data: {")


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_a_comment_that_says_who_answers_is_skipped(endpoint: str) -> None:
    """Of several lines, where the head was out before it was known."""
    said = comment("gemma4", ["coder"])
    found = told(endpoint, [STREAM + chunk(b":\n\n" + said + recorded(endpoint)), b"0\r\n\r\n"])
    assert said.startswith(b": X-Served-By: gemma4\n: X-Fallback-From: coder\n")
    assert found == told(endpoint, [STREAM + chunk(recorded(endpoint)), b"0\r\n\r\n"])


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize(
    ("status", "openais", "anthropics"),
    [(b"400 Bad Request", openai.BadRequestError, anthropic.BadRequestError),
     (b"404 Not Found", openai.NotFoundError, anthropic.NotFoundError),
     (b"500 Internal Server Error", openai.InternalServerError, anthropic.InternalServerError)],
)  # fmt: skip
def test_a_refusal_of_the_server(
    endpoint: str,
    status: bytes,
    openais: type[Exception],
    anthropics: type[Exception],
    stream: bool,
) -> None:
    body = b'{"error":{"code":400,"message":"the request exceeds the context","type":"x"}}'
    with pytest.raises(
        anthropics if endpoint == "messages" else openais, match="exceeds the context"
    ):
        told(endpoint, [reply(status, body)], stream=stream)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_a_server_that_dies_before_it_answers(endpoint: str, stream: bool) -> None:
    kind = anthropic.InternalServerError if endpoint == "messages" else openai.InternalServerError
    with pytest.raises(kind, match="coder went away"):
        told(endpoint, [DIES], stream=stream)


@pytest.mark.parametrize("how", [DIES, ENDS, b"0\r\n\r\n"])
@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_a_server_that_dies_in_its_stream(endpoint: str, how: bytes | Then) -> None:
    """Also one that ends it as if it were whole."""
    script = [STREAM + chunk(first_events(endpoint)), chunk(b"data: {"), how]
    words = "before it was finished" if isinstance(how, bytes) else "went away"
    with pytest.raises(FAULTS, match=words):
        told(endpoint, script)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_a_server_that_fails_in_its_stream(endpoint: str) -> None:
    """As it does when the context of all slots is full."""
    script = [STREAM + chunk(first_events(endpoint) + ERRORS[endpoint]), b"0\r\n\r\n"]
    with pytest.raises(FAULTS, match="Context size has been exceeded"):
        told(endpoint, script)


@pytest.mark.parametrize("how", [DIES, ENDS])
@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_a_server_that_dies_in_a_plain_answer(endpoint: str, how: Then) -> None:
    kind = anthropic.APIConnectionError if endpoint == "messages" else openai.APIConnectionError
    with pytest.raises(kind):
        told(endpoint, [reply(b"200 OK", b'{"id":"x","choices":[', 500), how], stream=False)


async def waited(endpoint: str, script: Sequence[bytes | Then]) -> Any:
    """A stream whose client hears signs of life before its server answers."""
    async with Liar(script) as liar, proxied(liar) as (proxy, port):
        work = asyncio.ensure_future(ask(endpoint, port, stream=True))
        arrive = proxy.board.arrive
        proxy.board.arrive = lambda *_, **__: None  # type: ignore[method-assign]
        async with asyncio.timeout(20):
            await until(lambda: [one for one in proxy.relays.values() if one.served])
            (relay,) = proxy.relays.values()
            for _ in range(3):
                relay.look(relay.record.began + 60)
            proxy.board.arrive = arrive  # type: ignore[method-assign]
            relay.admitted()
            return await work


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_signs_of_life_before_a_stream_are_understood(endpoint: str) -> None:
    data = recorded(endpoint)
    found = asyncio.run(waited(endpoint, [STREAM + chunk(data), b"0\r\n\r\n"]))
    assert len(found) == data.count(b"\ndata: {") + data.startswith(b"data: {")


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("as_event", [False, True])
def test_a_refusal_after_signs_of_life(endpoint: str, as_event: bool) -> None:
    refusal = [reply(b"400 Bad Request", b'{"error":%b}' % EXCEEDED)]
    event = [STREAM + chunk(ERRORS[endpoint]) + b"0\r\n\r\n"]
    with pytest.raises(FAULTS, match="Context size has been exceeded"):
        asyncio.run(waited(endpoint, event if as_event else refusal))


@pytest.mark.parametrize("endpoint", ["chat", "messages"])
def test_who_is_told_that_somebody_stopped_the_model_does_not_ask_again(endpoint: str) -> None:
    """By default both SDKs do, twice and within a second, which would start it again."""

    async def scenario() -> int:
        async with Liar([ENDS]) as liar, proxied(liar) as (proxy, port):
            asked = 0

            def refused(*_: object) -> Trouble:
                nonlocal asked
                asked += 1
                return stopped_by_hand("coder", "coder")

            proxy.way = refused  # type: ignore[method-assign,assignment]
            url = f"http://127.0.0.1:{port}"
            if endpoint == "messages":
                async with anthropic.AsyncAnthropic(base_url=url, api_key="x") as claude:
                    with pytest.raises(anthropic.APIStatusError, match="llmctl switch coder"):
                        await claude.messages.create(model="coder", max_tokens=9, messages=ASK)
            else:
                async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="x") as client:
                    with pytest.raises(openai.APIStatusError, match="llmctl switch coder"):
                        await client.chat.completions.create(model="coder", messages=ASK)
            return asked

    assert asyncio.run(scenario()) == 1
