"""Tool calls in circles, with the real llama-server: what it makes of a nudge."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anthropic
import openai
import pytest
from kit.waiting import eventually
from server.test_proxy_http import Ends, _is_ready
from support.processes import proxy_process
from support.talks import body_of, call, human
from usermgr.site import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

ALTERNATING = Path(__file__).resolve().parents[1] / "data" / "templates" / "alternating.jinja"
PATHS = {
    "chat": "/v1/chat/completions", "legacy": "/v1/chat/completions", "messages": "/v1/messages",
    "responses": "/v1/responses",
}  # fmt: skip
STEPS = {2: None, 3: "state", 5: "forbid", 7: "no_tools"}
WEATHER = call("get_weather", {"city": "Paris"}, "Error: the weather service is down.")
"""The scripted model calls this for ever, whatever comes back."""


def loop(times: int) -> list[Any]:
    return [human("TOOL please"), *[WEATHER] * times]


@contextlib.contextmanager
def server(llama_server: str, tiny_models: Path, *more: str) -> Iterator[Ends]:
    port = free_port()
    argv = [llama_server, "-m", str(tiny_models / "llama-script.gguf"), "--port", str(port)]
    argv += ["-c", "16384", "-t", "1", "--alias", "coder", "--jinja", *more]
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with proxy_process(port, mode="on") as proxy:
            made = Ends(proxy.port, port)
            eventually(lambda: _is_ready(made))
            yield made
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def scripted(llama_server: str, tiny_models: Path) -> Iterator[Ends]:
    with server(llama_server, tiny_models) as made:
        yield made


@pytest.fixture(scope="module")
def strict(llama_server: str, tiny_models: Path) -> Iterator[Ends]:
    with server(llama_server, tiny_models, "--chat-template-file", str(ALTERNATING)) as made:
        yield made


def ask(
    ends: Ends, shape: str, body: dict[str, Any], *, mode: str | None = None
) -> tuple[str | None, Any]:
    """The guard's header, and the answer."""
    headers: Any = {} if mode is None else {"X-Llmctl-Guard": mode}
    status, told, answer = ends.ask("POST", PATHS[shape], body, **headers)
    assert status == 200, answer
    return told.get("x-llmctl-guard"), json.loads(answer)


def called(answer: Any) -> list[str]:
    """Names of the tools that an answer calls, in whatever shape."""
    if "choices" in answer:
        calls = answer["choices"][0]["message"].get("tool_calls", ())
        return [one["function"]["name"] for one in calls]
    parts = answer.get("content") or answer.get("output")
    return [one["name"] for one in parts if one["type"] in ("tool_use", "function_call")]


def tokens_in(answer: Any) -> int:
    usage = answer["usage"]
    counts = ("prompt_tokens", "input_tokens", "cache_read_input_tokens")
    return sum(usage.get(one, 0) for one in counts)


@pytest.mark.parametrize("shape", ["chat", "messages", "responses"])
@pytest.mark.parametrize(("times", "step"), STEPS.items())
def test_each_nudge_reaches_the_model(
    scripted: Ends, shape: str, times: int, step: str | None
) -> None:
    body = body_of(shape, loop(times), max_tokens=48, max_output_tokens=48)
    plain_header, plain = ask(scripted, shape, body, mode="off")
    header, answer = ask(scripted, shape, body)
    assert plain_header is None
    assert called(plain) == ["get_weather"]
    if step is None:
        assert (header, called(answer)) == (None, ["get_weather"])
        assert tokens_in(answer) == tokens_in(plain)
        return
    assert header == f"tool; step={step}; repeats={times}"
    assert called(answer) == ([] if step == "no_tools" else ["get_weather"])
    if shape != "messages" or step != "no_tools":  # there the tools leave the prompt
        assert tokens_in(answer) > tokens_in(plain) + 40


def test_the_old_function_calls_are_nudged_too(scripted: Ends) -> None:
    """llama-server has no tools in this shape, and takes the request all the same."""
    header, answer = ask(scripted, "legacy", body_of("legacy", loop(7), max_tokens=48))
    assert header == "tool; step=no_tools; repeats=7"
    assert called(answer) == []


@pytest.mark.parametrize("shape", ["chat", "messages", "responses"])
@pytest.mark.parametrize("times", STEPS)
def test_a_template_that_wants_roles_to_alternate_takes_a_nudge(
    strict: Ends, shape: str, times: int
) -> None:
    header, _ = ask(strict, shape, body_of(shape, loop(times), max_tokens=4, max_output_tokens=16))
    assert (header is not None) == (times > 2)


def test_that_template_refuses_a_message_of_its_own(strict: Ends) -> None:
    """Why the note stands in the result."""
    body = body_of("chat", [*loop(3), human("A note.")], max_tokens=4)
    status, _, answer = strict.ask("POST", PATHS["chat"], body)
    assert status >= 400
    assert b"alternate" in answer


# As the SDKs see it


async def _chat(port: int, times: int) -> tuple[str | None, str | None, list[str]]:
    body = body_of("chat", loop(times), max_tokens=48)
    url = f"http://127.0.0.1:{port}/v1"
    async with openai.AsyncOpenAI(base_url=url, api_key="x", max_retries=0) as client:
        raw = await client.chat.completions.with_raw_response.create(**body, stream=True)
        names, finish = [], None
        async for chunk in raw.parse():
            for choice in chunk.choices:
                finish = choice.finish_reason or finish
                for one in choice.delta.tool_calls or ():
                    names += [one.function.name] if one.function and one.function.name else []
        return raw.headers.get("x-llmctl-guard"), finish, names


async def _messages(port: int, times: int) -> tuple[str | None, str | None, list[str]]:
    body = body_of("messages", loop(times))
    url = f"http://127.0.0.1:{port}"
    async with (
        anthropic.AsyncAnthropic(base_url=url, api_key="x", max_retries=0) as client,
        client.messages.stream(**body) as parts,
    ):
        found = await parts.get_final_message()
        names = [one.name for one in found.content if one.type == "tool_use"]
        return parts.response.headers.get("x-llmctl-guard"), found.stop_reason, names


async def _responses(port: int, times: int) -> tuple[str | None, str | None, list[str]]:
    body = body_of("responses", loop(times), max_output_tokens=48)
    url = f"http://127.0.0.1:{port}/v1"
    async with openai.AsyncOpenAI(base_url=url, api_key="x", max_retries=0) as client:
        raw = await client.responses.with_raw_response.create(**body, stream=True)
        names, finish = [], None
        async for event in raw.parse():
            if event.type == "response.completed":
                finish = event.response.status
                names = [one.name for one in event.response.output if one.type == "function_call"]
        return raw.headers.get("x-llmctl-guard"), finish, names


SDKS: dict[str, tuple[Any, str, str]] = {
    "chat": (_chat, "tool_calls", "stop"), "messages": (_messages, "tool_use", "end_turn"),
    "responses": (_responses, "completed", "completed"),
}  # fmt: skip


@pytest.mark.parametrize("shape", SDKS)
@pytest.mark.parametrize(("times", "step"), STEPS.items())
def test_the_sdks_read_the_streams_of_nudged_requests(
    scripted: Ends, shape: str, times: int, step: str | None
) -> None:
    read, calls, ends = SDKS[shape]
    header, finish, names = asyncio.run(read(scripted.proxy, times))
    assert header == (step and f"tool; step={step}; repeats={times}")
    is_free = step != "no_tools"
    assert names == (["get_weather"] if is_free else [])
    assert finish == (calls if is_free else ends)
