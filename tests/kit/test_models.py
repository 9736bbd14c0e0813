"""The scripted models say what they should, served by the real llama-server."""

from __future__ import annotations

import contextlib
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


WHOLE = sorted(set(mkgguf.SCRIPTED) - {"llama-draft70"})
"""Those that know all of the scripts."""


@contextlib.contextmanager
def served_by(argv: list[str]) -> Iterator[int]:
    """The port on which a server answers once its model is loaded."""
    port = free_port()
    process = subprocess.Popen(
        [*argv, "--host", "127.0.0.1", "--port", str(port)], stderr=subprocess.DEVNULL
    )
    try:
        eventually(lambda: get(port)[0] == 200)
        yield port
    finally:
        process.kill()
        process.wait()


@pytest.fixture(params=WHOLE)
def served(request: pytest.FixtureRequest, llama_server: str, tiny_models: Path) -> Iterator[int]:
    """The port on which a model is served."""
    model = str(tiny_models / f"{request.param}.gguf")
    flags = ["-c", "4096", "-np", "1", "--no-repack"]  # MLA aborts with repacked weights on AMX
    with served_by([llama_server, "-m", model, *flags]) as port:
        yield port


def ask(port: int, text: str, **more: object) -> dict[str, Any]:
    """What a model says."""
    choice: dict[str, Any] = whole(port, text, **more)["choices"][0]
    return choice


def whole(port: int, text: str, **more: object) -> dict[str, Any]:
    """All of the answer."""
    body = {"messages": [{"role": "user", "content": text}], "max_tokens": 40, **more}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/chat/completions",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        said: dict[str, Any] = json.load(answer)
        return said


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


def test_a_poor_draft_has_some_of_it_right(llama_server: str, tiny_models: Path) -> None:
    argv = [llama_server, "-c", "4096", "-np", "1", "--spec-type", "draft-simple"]
    for draft, least, most in (("llama-draft", 1.0, 1.0), ("llama-draft70", 0.2, 0.9)):
        models = ["-m", tiny_models / "llama-script.gguf", "-md", tiny_models / f"{draft}.gguf"]
        with served_by([*argv, *map(str, models)]) as port:
            timings = whole(port, "LONG", max_tokens=280)["timings"]
        assert least <= timings["draft_n_accepted"] / timings["draft_n"] <= most
