"""A whole answer that is put together from a stream is the one that the server itself gives."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from server.guarded import Guarded, guarded, request, say

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def site(llama_server: str, tiny_models: Path) -> Iterator[Guarded]:
    with guarded(llama_server, tiny_models, ctx=8192, proxies={"on": {"mode": "on"}}) as made:
        yield made


_VARIES = re.compile(
    r"^(id|call_id|created|created_at|completed_at|id_slot|cache_n|prompt_n|cached_tokens"
    r"|cache_read_input_tokens|input_tokens|tokens_cached|.*_ms|.*_per_second)$"
)


def settled(told: Any) -> Any:
    """Without the values that are different each time; their kinds stay."""
    if isinstance(told, dict):
        return {
            key: type(value).__name__ if _VARIES.match(key) and key != "tokens" else settled(value)
            for key, value in told.items()
        }
    return [settled(one) for one in told] if isinstance(told, list) else told


def numbers_alike(told: Any) -> Any:
    """JSON has one kind of number: 0.0 and 0 are equal."""
    return json.loads(json.dumps(told).replace('"float"', '"number"').replace('"int"', '"number"'))


WORDS = ("PLAIN", "THINK", "TOOL", "LONG", "UTF8", "EMPTY")
LIMIT = {"chat": "max_tokens", "messages": "max_tokens", "responses": "max_output_tokens"}
SAMPLES = [
    *((one, word, {}) for one in (*LIMIT, "completions", "native") for word in WORDS),
    *((one, "LONG", {limit: 200}) for one, limit in LIMIT.items()),
    *((one, word, {limit: most}) for one, limit in LIMIT.items() for word in ("THINK", "TOOL")
      for most in (1, 6)),
    ("chat", "PLAIN", {"stop": ["tiny"]}), ("messages", "PLAIN", {"stop_sequences": ["tiny"]}),
    ("completions", "PLAIN", {"stop": ["tiny"]}), ("native", "PLAIN", {"stop": ["tiny"]}),
    ("completions", "LONG", {"max_tokens": 200}), ("native", "LONG", {"n_predict": 200}),
    ("native", "PLAIN", {"return_tokens": True}),
    ("chat", "THINK", {"logprobs": True, "top_logprobs": 2}), ("chat", "TOOL", {"logprobs": True}),
    ("completions", "PLAIN", {"logprobs": 2}), ("native", "PLAIN", {"n_probs": 1}),
    ("chat", "PLAIN", {"timings_per_token": True}), ("chat", "PLAIN", {"n": 2}),
    ("chat", "THINK", {"reasoning_format": "none"}),
    ("chat", "TOOL", {"response_format": {"type": "json_object"}}),
]  # fmt: skip


@pytest.mark.parametrize(("endpoint", "word", "more"), SAMPLES)
def test_it_is_the_servers_own(site: Guarded, endpoint: str, word: str, more: Any) -> None:
    path, body = request(endpoint, word, stream=False, **more)
    status, headers, theirs = site.ask(path, body, at="server")
    ours = site.ask(path, body)
    assert (ours[0], ours[1]["content-type"]) == (status, headers["content-type"])
    told = numbers_alike(settled(json.loads(ours[2])))
    assert told == numbers_alike(settled(json.loads(theirs)))


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"messages": say("PLAIN"), "tools": 3}),
        ("/v1/chat/completions", {"messages": say("word " * 9000)}),
        ("/v1/messages", {"messages": say("word " * 9000), "max_tokens": 9}),
        ("/v1/completions", {"prompt": "word " * 9000}),
        ("/v1/completions", {}),
        ("/v1/chat/completions", {"messages": say("PLAIN"), "stream": 1}),
        ("/v1/messages", {"messages": say("PLAIN"), "max_tokens": 900, "stream": "no"}),
    ],
)
def test_a_refusal_is_the_servers_own(site: Guarded, path: str, body: Any) -> None:
    status, _, theirs = site.ask(path, body, at="server")
    ours = site.ask(path, body)
    assert status >= 400
    assert (ours[0], json.loads(ours[2])) == (status, json.loads(theirs))


def test_a_large_request_is_guarded_too(site: Guarded) -> None:
    """It lies in a file while it waits."""
    path, body = request("chat", "LOOP", stream=False, metadata={"long": "x" * (3 << 20)})
    status, headers, answer = site.ask(path, body)
    assert status == 200
    assert "exact; step=retry" in headers["x-llmctl-guard"]
    assert json.loads(answer)["choices"][0]["finish_reason"] == "stop"
