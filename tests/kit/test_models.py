"""The scripted models say what they should, served by the real llama-server."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
from kit import mkgguf
from kit.test_fake_llama import free_port, get
from kit.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(params=sorted(mkgguf.SCRIPTED))
def served(request: pytest.FixtureRequest, llama_server: str, tiny_models: Path) -> Iterator[int]:
    """The port on which a model is served."""
    port = free_port()
    flags = ["-c", "4096", "-np", "1", "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(
        [llama_server, "-m", str(tiny_models / f"{request.param}.gguf"), *flags],
        stderr=subprocess.DEVNULL,
    )
    try:
        eventually(lambda: get(port)[0] == 200)
        yield port
    finally:
        process.kill()
        process.wait()


def ask(port: int, text: str, **more: object) -> dict[str, Any]:
    body = {"messages": [{"role": "user", "content": text}], "max_tokens": 40, **more}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/chat/completions",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        choice: dict[str, Any] = json.load(answer)["choices"][0]
        return choice


CITY = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER = {"type": "function", "function": {"name": "get_weather", "parameters": CITY}}


def test_a_scripted_model_follows_its_scripts(served: int) -> None:
    plain = ask(served, "hi")["message"]["content"]
    assert plain == "Hello! This is a tiny model served by a real llama-server."
    thought = ask(served, "THINK")["message"]
    assert thought["reasoning_content"].strip() == "Let me think; one plus three makes four."
    assert thought["content"] == "The answer is 4."
    call = ask(served, "TOOL", tools=[WEATHER])["message"]["tool_calls"][0]["function"]
    assert (call["name"], json.loads(call["arguments"])) == ("get_weather", {"city": "Paris"})
    assert ask(served, "UTF8")["message"]["content"].startswith("Zürich — 日本語 🙂")
    assert ask(served, "EMPTY")["message"]["content"] == ""
    looped = ask(served, "LOOP")
    assert looped["finish_reason"] == "length"
    assert looped["message"]["content"].startswith("again and again and")


def test_a_sparse_model_is_huge_and_costs_nothing(tmp_path: Path) -> None:
    path = mkgguf.write(tmp_path, ["qwen3-30b-a3b-q4k"])["qwen3-30b-a3b-q4k"]
    assert 16.0 < path.stat().st_size / 2**30 < 16.2
    assert path.stat().st_blocks * 512 < 16 * 2**20
