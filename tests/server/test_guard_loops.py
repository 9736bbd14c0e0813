"""A real llama-server that loops on demand, behind the guard: every dialect, streamed and not."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, NamedTuple

import anthropic
import openai
import pytest
from kit.waiting import eventually
from server.guarded import Guarded, alike, guarded, request, say
from support.asking import question, vanish
from support.streams import events

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MOST_TOKENS = 4000
"""What all attempts together may take: of a loop of 10 bytes about 300 tokens are seen."""


@pytest.fixture(scope="module")
def site(llama_server: str, tiny_models: Path) -> Iterator[Guarded]:
    proxies: dict[str, dict[str, Any]] = {
        "on": {"mode": "on"}, "log": {"mode": "log"}, "retries": {"native": False},
        "stops": {"retries": 0, "native": False}, "tokens": {"max_tokens": 50},
        "reasoning": {"max_reasoning_tokens": 40}, "time": {"max_time": "1s"},
    }  # fmt: skip
    with guarded(llama_server, tiny_models, ctx=65536, proxies=proxies) as made:
        yield made


@pytest.fixture(scope="module")
def narrow(llama_server: str, tiny_models: Path) -> Iterator[Guarded]:
    """Four slots share 1024 tokens, so that four endless answers end in an error."""
    with guarded(llama_server, tiny_models, ctx=1024, proxies={"log": {"mode": "log"}}) as made:
        yield made


class Told(NamedTuple):
    """What an SDK made of an answer. tokens: that it says were generated."""

    content: str
    reasoning: str
    finish: str | None
    tokens: int | None


async def told(endpoint: str, port: int, word: str, *, stream: bool) -> Told:
    url = f"http://127.0.0.1:{port}"
    if endpoint == "messages":
        async with anthropic.AsyncAnthropic(base_url=url, api_key="x", max_retries=0) as claude:
            return await _message(claude, word, stream=stream)
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0) as client:
        if endpoint == "responses":
            return await _response(client, word, stream=stream)
        if endpoint == "chat":
            return await _chat(client, word, stream=stream)
        return await _completion(client, word, stream=stream)


async def _message(claude: anthropic.AsyncAnthropic, word: str, *, stream: bool) -> Told:
    asked: Any = {"model": "coder", "max_tokens": MOST_TOKENS, "messages": say(word)}
    if stream:
        async with claude.messages.stream(**asked) as parts:
            found: Any = await parts.get_final_message()
    else:
        found = await claude.messages.create(**asked)
    content = "".join(getattr(block, "text", "") for block in found.content)
    reasoning = "".join(getattr(block, "thinking", "") for block in found.content)
    return Told(content, reasoning, found.stop_reason, found.usage.output_tokens)


async def _response(client: openai.AsyncOpenAI, word: str, *, stream: bool) -> Told:
    found: Any = await client.responses.create(model="coder", input=word, stream=stream)
    if stream:
        parts = [event async for event in found]
        said = "".join(e.delta for e in parts if e.type == "response.output_text.delta")
        found = parts[-1].response
        assert found.output_text == said.lstrip(" "), "the end tells another text than the deltas"
    reasoning = "".join(
        part.text for item in found.output if item.type == "reasoning" for part in item.content
    )
    tokens = found.usage.output_tokens if found.usage else None
    return Told(found.output_text, reasoning, found.status, tokens)


async def _chat(client: openai.AsyncOpenAI, word: str, *, stream: bool) -> Told:
    asked: Any = {"model": "coder", "messages": say(word)}
    if not stream:
        found = await client.chat.completions.create(**asked)
        choice: Any = found.choices[0]
        reasoning = getattr(choice.message, "reasoning_content", "")
        tokens = found.usage.completion_tokens if found.usage else None
        return Told(choice.message.content, reasoning, choice.finish_reason, tokens)
    options: Any = {"include_usage": True}
    async with client.chat.completions.stream(**asked, stream_options=options) as parts:
        chunks: list[Any] = [e.chunk async for e in parts if e.type == "chunk"]
    deltas = [choice.delta for one in chunks for choice in one.choices]
    assert len({one.id for one in chunks}) == 1
    assert len({one.created for one in chunks}) <= 2  # a clock's second may pass
    assert sum(delta.role is not None for delta in deltas) == 1
    finish = [choice.finish_reason for one in chunks for choice in one.choices][-1]
    return Told(
        "".join(delta.content or "" for delta in deltas),
        "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas),
        finish, chunks[-1].usage.completion_tokens,
    )  # fmt: skip


async def _completion(client: openai.AsyncOpenAI, word: str, *, stream: bool) -> Told:
    prompt = f"<|s_{word.lower()}|>"
    found: Any = await client.completions.create(model="coder", prompt=prompt, stream=stream)
    parts = [one async for one in found] if stream else [found]
    assert len({one.id for one in parts}) == 1
    text = "".join(one.choices[0].text for one in parts)
    tokens = parts[-1].usage.completion_tokens if parts[-1].usage else None
    return Told(text, "", parts[-1].choices[0].finish_reason, tokens)


DIALECTS = [
    ("chat", "LOOP"), ("chat", "TLOOP"), ("completions", "LOOP"), ("messages", "LOOP"),
    ("messages", "TLOOP"), ("responses", "LOOP"), ("responses", "TLOOP"),
]  # fmt: skip
WELL = {"stop", "end_turn", "completed"}
CUT = {"length", "max_tokens", "incomplete"}


def copies(found: Told) -> int:
    """Of what repeats itself, in all that a client got."""
    return max(found.content.count("again and"), found.reasoning.count("Wait, no. Hmm."))


@pytest.mark.parametrize("proxy", ["on", "retries"])
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(("endpoint", "word"), DIALECTS)
def test_a_loop_is_turned_around(
    site: Guarded, endpoint: str, word: str, stream: bool, proxy: str
) -> None:
    found = asyncio.run(told(endpoint, site.proxies[proxy], word, stream=stream))
    assert found.finish in WELL
    assert "answer is 4" in found.content or "tiny model" in found.content
    assert 1 <= copies(found) <= 2
    assert found.tokens is not None
    assert 200 < found.tokens < MOST_TOKENS, "what was generated in vain is counted, too"
    eventually(lambda: site.busy == 0)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(("endpoint", "word"), DIALECTS)
def test_a_loop_that_cannot_be_turned_around_is_stopped_and_says_so(
    site: Guarded, endpoint: str, word: str, stream: bool
) -> None:
    found = asyncio.run(told(endpoint, site.proxies["stops"], word, stream=stream))
    assert found.finish in CUT
    assert "[llmctl: the answer was stopped" in found.content
    assert 1 <= copies(found) <= 2
    assert found.tokens is None or 200 < found.tokens < MOST_TOKENS
    eventually(lambda: site.busy == 0)


@pytest.mark.parametrize("stream", [True, False])
def test_llama_servers_own_completions_are_guarded(site: Guarded, stream: bool) -> None:
    for proxy, end in (("on", "eos"), ("stops", "limit")):
        _, _, body = site.ask(*request("native", "LOOP", stream=stream), at=proxy)
        parts: list[Any] = [data for _, data in events(body)] if stream else [json.loads(body)]
        text = "".join(one["content"] for one in parts)
        assert 1 <= text.count("again and") <= 2
        assert ("tiny model" in text) == (proxy == "on")
        assert ("[llmctl: " in text) == (proxy == "stops")
        assert parts[-1]["stop"] is True
        assert parts[-1]["stop_type"] == end
        assert 200 < parts[-1]["tokens_predicted"] < MOST_TOKENS


@pytest.mark.parametrize("endpoint", ["chat", "messages", "responses"])
def test_what_was_done_is_said_in_the_stream_or_in_the_head(site: Guarded, endpoint: str) -> None:
    path, body = request(endpoint, "LOOP", stream=True)
    _, _, streamed = site.ask(path, body)
    assert b"\n: llmctl-guard: content: exact repeat" in streamed
    _, headers, _ = site.ask(path, {**body, "stream": False})
    assert headers["x-llmctl-guard"].startswith("exact; step=retry")
    _, headers, _ = site.ask(path, {**body, "stream": False}, at="stops")
    assert headers["x-llmctl-guard"].startswith("exact; step=stop")


def test_what_is_only_logged_is_not_ended(site: Guarded) -> None:
    path, body = request("chat", "LOOP", stream=True, max_tokens=900)
    _, _, streamed = site.ask(path, body, at="log")
    assert alike(streamed) == alike(site.ask(path, body, at="server")[2])
    metrics = site.ask("/metrics", None, at="log")[2].decode()
    assert 'kind="exact"' in metrics
    assert 'outcome="logged"' in metrics


def test_a_request_may_switch_its_guard_off(site: Guarded) -> None:
    path, body = request("chat", "LOOP", stream=True, max_tokens=900)
    _, _, streamed = site.ask(path, body, **{"X-Llmctl-Guard": "off"})
    assert alike(streamed) == alike(site.ask(path, body, at="server")[2])


@pytest.mark.parametrize("word", ["PLAIN", "THINK", "TOOL", "LONG", "UTF8", "EMPTY"])
@pytest.mark.parametrize("endpoint", ["chat", "completions", "native", "messages", "responses"])
def test_a_healthy_stream_is_the_servers_own(site: Guarded, endpoint: str, word: str) -> None:
    more = {"stream_options": {"include_usage": True}} if endpoint == "chat" else {}
    path, body = request(endpoint, word, stream=True, **more)
    _, _, direct = site.ask(path, body, at="server")
    assert alike(site.ask(path, body)[2]) == alike(direct)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("endpoint", ["chat", "messages", "responses"])
def test_an_error_of_the_server_is_raised(narrow: Guarded, endpoint: str, stream: bool) -> None:
    async def crowd() -> list[Told | BaseException]:
        asked = (told(endpoint, narrow.proxies["log"], "LOOP", stream=stream) for _ in range(4))
        return await asyncio.gather(*asked, return_exceptions=True)

    for fault in asyncio.run(crowd()):
        assert isinstance(fault, openai.APIError | anthropic.APIError)
        assert "Context size has been exceeded" in str(fault)


# Budgets


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("endpoint", ["chat", "messages", "responses"])
def test_an_answer_ends_with_its_budget(site: Guarded, endpoint: str, stream: bool) -> None:
    found = asyncio.run(told(endpoint, site.proxies["tokens"], "LONG", stream=stream))
    assert found.finish in CUT
    assert "[llmctl: the answer was stopped: an answer may have 50 tokens here" in found.content
    eventually(lambda: site.busy == 0)


@pytest.mark.parametrize("stream", [True, False])
def test_reasoning_ends_with_its_budget(site: Guarded, stream: bool) -> None:
    found = asyncio.run(told("chat", site.proxies["reasoning"], "TLOOP", stream=stream))
    assert found.finish in WELL | CUT
    assert found.tokens is not None
    assert found.tokens < MOST_TOKENS


# Who goes away


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_goes_frees_its_slot_in_the_midst_of_a_loop(
    site: Guarded, stream: bool
) -> None:
    """Whatever is held for it, and wherever its answer stands."""
    for after in (0.02, 0.05, 0.1, 0.2, 0.3):
        asked = question("coder", "LOOP", stream=stream)
        asyncio.run(vanish(site.proxies["on"], asked, after=after, read=1 << 20))
    eventually(lambda: site.busy == 0)
    eventually(lambda: in_flight(site, "on") == 0)


def in_flight(site: Guarded, proxy: str) -> int:
    """Requests that the model works on, as the proxy counts them."""
    told = json.loads(site.ask("/llmctl/status", None, at=proxy)[2])
    return sum(sum(queue["in_flight"].values()) for queue in told["queues"].values())


def test_a_client_of_a_whole_answer_that_goes_frees_its_slot_while_others_work(
    site: Guarded,
) -> None:
    """llama-server itself looks only after a second in which no result of any task came. Who stays
    began earlier and may have as much: its answer would end first, if the other's went on."""

    async def gone_beside_another() -> bytes:
        port = site.proxies["log"]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(question("coder", "LOOP", stream=True, max_tokens=40000))
        await reader.readexactly(2000)
        one = question("coder", "LOOP", max_tokens=40000)
        going = asyncio.create_task(vanish(port, one, after=0.5, read=1 << 20))
        got = b""
        while not going.done() or await asyncio.to_thread(lambda: site.busy) > 1:
            got = (await reader.read(1 << 20)) or b"ended"
        writer.transport.abort()
        return got

    assert b"[DONE]" not in (got := asyncio.run(gone_beside_another()))
    assert got != b"ended"
    eventually(lambda: site.busy == 0)
