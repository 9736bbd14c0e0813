"""A real llama-server behind the proxy's data path: what clients see of it, and what it sees of
them."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import subprocess
from typing import TYPE_CHECKING, Any

import anthropic
import openai
import pytest
from kit.waiting import eventually
from support.processes import proxy_process
from usermgr.site import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FAULTS = (openai.APIError, anthropic.APIError)
ENDPOINTS = ["chat", "completions", "messages", "responses"]
PATHS = {
    "chat": "/v1/chat/completions", "completions": "/v1/completions",
    "messages": "/v1/messages", "responses": "/v1/responses",
}  # fmt: skip


class Ends:
    """A llama-server and the proxy before it. Four slots share 1024 tokens, so that four endless
    answers end in an error."""

    def __init__(self, proxy: int, server: int) -> None:
        self.proxy, self.server = proxy, server

    def ask(
        self, method: str, path: str, body: object = None, *, direct: bool = False, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        port = self.server if direct else self.proxy
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        try:
            sent = body if isinstance(body, bytes) else body and json.dumps(body).encode()
            words = {"Content-Type": "application/json"} if body else {}
            connection.request(method, path, sent, {**words, **headers})  # type: ignore[arg-type]
            answer = connection.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    @property
    def busy(self) -> int:
        _, _, body = self.ask("GET", "/slots", direct=True)
        return sum(slot["is_processing"] for slot in json.loads(body))


@pytest.fixture(scope="module")
def ends(llama_server: str, tiny_models: Path) -> Iterator[Ends]:
    yield from _ends(llama_server, tiny_models, 1024)


@pytest.fixture(scope="module")
def roomy(llama_server: str, tiny_models: Path) -> Iterator[Ends]:
    """There is room for an answer that takes seconds."""
    yield from _ends(llama_server, tiny_models, 32768)


def _ends(llama_server: str, tiny_models: Path, ctx: int) -> Iterator[Ends]:
    port = free_port()
    argv = [llama_server, "-m", str(tiny_models / "llama-script.gguf"), "--port", str(port)]
    argv += ["-c", str(ctx), "-t", "1", "--alias", "coder", "--slots", "--sse-ping-interval", "5"]
    server = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with proxy_process(port) as proxy:
            made = Ends(proxy.port, port)
            eventually(lambda: _is_ready(made))
            yield made
    finally:
        server.kill()
        server.wait()


def _is_ready(ends: Ends) -> bool:
    try:
        return ends.ask("GET", "/health", direct=True)[0] == 200
    except OSError:
        return False


def say(word: str) -> Any:
    return [{"role": "user", "content": word}]


async def told(endpoint: str, port: int, word: str, *, stream: bool, most: int = 8) -> str:
    """The text that an SDK reads."""
    url = f"http://127.0.0.1:{port}"
    if endpoint == "messages":
        async with anthropic.AsyncAnthropic(base_url=url, api_key="x", max_retries=0) as claude:
            if stream:
                async with claude.messages.stream(
                    model="coder", max_tokens=most, messages=say(word)
                ) as parts:
                    return "".join([part async for part in parts.text_stream])
            found = await claude.messages.create(model="coder", max_tokens=most, messages=say(word))
            return "".join(getattr(block, "text", "") for block in found.content)
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0) as client:
        if endpoint == "responses":
            answer: Any = await client.responses.create(
                model="coder", input=word, max_output_tokens=most, stream=stream
            )
            if not stream:
                return str(answer.output_text)
            return "".join([getattr(e, "delta", "") async for e in answer])
        asked: Any = {"model": "coder", "max_tokens": most, "stream": stream}
        if endpoint == "chat":
            answer = await client.chat.completions.create(messages=say(word), **asked)
        else:
            answer = await client.completions.create(prompt=word, temperature=0, **asked)
        chunks = [chunk async for chunk in answer] if stream else [answer]
        return "".join(_text(choice) for chunk in chunks for choice in chunk.choices)


def _text(choice: Any) -> str:
    said = getattr(choice, "delta", None) or getattr(choice, "message", None)
    return (said.content if said is not None else choice.text) or ""


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_an_answer_is_the_one_that_the_server_gives(
    ends: Ends, endpoint: str, stream: bool
) -> None:
    words = {
        port: asyncio.run(told(endpoint, port, "PLAIN", stream=stream))
        for port in (ends.proxy, ends.server)
    }
    assert words[ends.proxy] == words[ends.server]
    assert words[ends.proxy] or endpoint == "completions"  # which has no script


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("endpoint", ["chat", "messages", "responses"])
def test_an_error_in_the_midst_of_an_answer_is_raised(
    ends: Ends, endpoint: str, stream: bool
) -> None:
    """Four endless answers fill the context of all: each ends in an error, also on /v1/messages,
    where llama-server's own has a shape that Anthropic's SDK takes for nothing."""

    async def four() -> list[object]:
        asked = (told(endpoint, ends.proxy, "LOOP", stream=stream, most=5000) for _ in range(4))
        return await asyncio.gather(*asked, return_exceptions=True)

    for one in asyncio.run(four()):
        assert isinstance(one, FAULTS), one
        assert "Context size has been exceeded" in str(one)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_who_goes_away_leaves_no_slot_busy(roomy: Ends, endpoint: str, stream: bool) -> None:
    """Whether or not it asked llama-server to go on without it. llama-server looks for the client
    of a plain answer only after a second in which nothing else happened in it (`recv_with_timeout`
    in server-queue.cpp): who asks for /slots more often than that keeps it from looking."""
    body = {
        "model": "coder", "stream": stream, "max_tokens": 8000, "max_output_tokens": 8000,
        "messages": say("LOOP"), "prompt": "<|s_loop|>", "input": "LOOP",
    }  # fmt: skip
    wanted = {k: v for k, v in body.items() if k not in _foreign(endpoint)}
    connection = http.client.HTTPConnection("127.0.0.1", roomy.proxy, timeout=60)
    headers = {"Content-Type": "application/json", "X-Conversation-Id": "mine"}
    with contextlib.closing(connection):
        connection.request("POST", PATHS[endpoint], json.dumps(wanted), headers)
        eventually(lambda: roomy.busy)
    eventually(lambda: not roomy.busy, 8.0, every=1.3)
    left = json.loads(roomy.ask("GET", "/llmctl/status")[2])["requests"]
    assert [one["endpoint"] for one in left] == ["other"], "more than this question itself"


def _foreign(endpoint: str) -> set[str]:
    own = {
        "chat": {"messages", "max_tokens"}, "completions": {"prompt", "max_tokens"},
        "messages": {"messages", "max_tokens"}, "responses": {"input", "max_output_tokens"},
    }  # fmt: skip
    return {"messages", "prompt", "input", "max_tokens", "max_output_tokens"} - own[endpoint]


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "DELETE", "PUT", "PATCH", "POST"])
@pytest.mark.parametrize("path", ["/props", "/slots", "/tokenize", "/no/such/path", "/"])
def test_every_path_and_method_is_answered_as_the_server_does(
    ends: Ends, method: str, path: str
) -> None:
    ours, theirs = (ends.ask(method, path, direct=direct) for direct in (False, True))
    assert ours[0] == theirs[0]
    assert ours[1].pop("x-served-by") == "coder"
    if path != "/slots":
        assert ours[2] == theirs[2]
    kept = {"content-type", "content-length", "server", "accept-ranges", "allow"}
    assert {k: v for k, v in ours[1].items() if k in kept - {"content-length"}} == {
        k: v for k, v in theirs[1].items() if k in kept - {"content-length"}
    }


def test_what_the_server_refuses_is_passed_on(ends: Ends) -> None:
    for path, body in [
        (PATHS["chat"], {"n": 1}),
        ("/tokenize", b"{bad"),
        (PATHS["messages"], {"n": 1}),
    ]:
        ours, theirs = (ends.ask("POST", path, body, direct=direct) for direct in (False, True))
        assert (ours[0], ours[2]) == (theirs[0], theirs[2])
        assert ours[0] >= 400
        assert ours[1]["x-served-by"] == "coder"


def test_a_large_prompt_is_counted_as_the_server_counts_it(ends: Ends) -> None:
    """2 MB go through the disk."""
    body = {"model": "coder", "content": "Hello world. " * 160_000}
    ours, theirs = (ends.ask("POST", "/tokenize", body, direct=d)[2] for d in (False, True))
    assert ours == theirs
    assert len(ours) > 100_000


def test_slots_move_with_the_work_and_with_nothing_else(roomy: Ends) -> None:
    """What stalls.py takes for granted: no clock stands in them."""

    def looks() -> tuple[int, bytes]:
        status, _, body = roomy.ask("GET", "/slots", direct=True)
        return status, body

    roomy.ask("POST", "/v1/chat/completions", {"messages": say("PLAIN"), "max_tokens": 4})
    eventually(lambda: not roomy.busy)
    before = looks()
    assert before[0] == 200
    connection = http.client.HTTPConnection("127.0.0.1", roomy.proxy, timeout=60)
    try:
        body = json.dumps({"messages": say("LOOP"), "max_tokens": 20000, "stream": True})
        connection.request(
            "POST", "/v1/chat/completions", body, {"Content-Type": "application/json"}
        )
        connection.getresponse().read(100)
        first = looks()
        eventually(lambda: looks() != first, why="an answer that goes on moves them")
    finally:
        connection.close()
    eventually(lambda: not roomy.busy)
    after = looks()
    assert before != after
    assert {looks() for _ in range(5)} == {after}
