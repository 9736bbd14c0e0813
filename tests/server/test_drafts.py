"""Drafts on the real llama-server: the right one is found and used, and takes what was said."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from kit import mkgguf
from kit.test_fake_llama import free_port, get
from kit.waiting import eventually
from server.test_real_switches import GREETING, profile, request
from usermgr.site import PROFILE

from llmctl.core.drafts import Seat, model_words
from llmctl.core.flags import parse_help
from llmctl.core.gguf import read_buffer
from llmctl.core.memory import Device, Estimator, Model, Settings, model_of
from llmctl.core.memory.context import shape_of
from llmctl.core.memory.drafting import Drafting
from llmctl.core.memory.place import CPU

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usermgr.site import ManagerSite

MIB = 1 << 20
SMALL_STEPS_MIB = 4
"""Of a tiny model's compute buffer, steps that do not count in a large one are a good part."""
TOKEN, OTHER = b"<|pad0|>", b"<|pax0|>"
EOS = b"tokenizer.ggml.eos_token_id"


@pytest.fixture
def drafts(site: ManagerSite) -> Path:
    """models_dir: a model, one that drafts for it, and some that must not."""
    site.models_dir = f"{site.home}/models"
    site.configure()
    directory = Path(site.models_dir)
    mkgguf.write(directory, ["llama-deep", "llama-script"])  # the second: too large to be worth it
    mkgguf.write(directory / "maker/draft", ["llama-draft"])
    right = (directory / "maker/draft/llama-draft.gguf").read_bytes()
    assert right.count(TOKEN) == 1
    (directory / "a-stranger.gguf").write_bytes(right.replace(TOKEN, OTHER))
    (directory / "cut-short.gguf").write_bytes(right[:-1000])
    (directory / "nothing.gguf").write_bytes(b"GGUF")
    return directory


def timings(site: ManagerSite) -> dict[str, Any]:
    with request(site, "LONG", max_tokens=60) as answer:
        found: dict[str, Any] = json.load(answer)["timings"]
    return found


@pytest.mark.parametrize("eos", [None, b"\0\0\0\0"], ids=["its eos", "another eos"])
def test_auto_finds_the_model_with_the_same_tokens_and_it_drafts(
    site: ManagerSite, drafts: Path, eos: bytes | None
) -> None:
    """Which token ends a text does not matter to llama.cpp, unless it is added to prompts."""
    path = drafts / "maker/draft/llama-draft.gguf"
    if eos is not None:
        before, key, after = path.read_bytes().partition(EOS)
        path.write_bytes(before + key + after[:4] + eos + after[8:])
    profile(site, "a", model="llama-deep.gguf", draft="auto")
    site.llmctl("switch", "a")
    shown = json.loads(site.llmctl("show", "a", "--json").stdout)
    found = str(path)
    assert shown["draft"]["model"] == found
    assert shown["values"]["draft"]["value"] == found
    pid = site.show("llm-a.service", "MainPID")
    given = site.read(f"/proc/{pid}/cmdline").split("\0")
    assert given[given.index("-md") + 1] == found
    told = timings(site)
    assert told["draft_n"] == told["draft_n_accepted"] > 0


def test_a_plan_follows_what_models_dir_holds(site: ManagerSite, drafts: Path) -> None:
    profile(site, "a", model="llama-deep.gguf", draft="auto")
    site.llmctl("apply")
    site.llmctl("apply", "--check")
    mkgguf.write(drafts, ["qwen3moe-script"])  # one more that is smaller; it changes nothing
    site.llmctl("apply")
    (drafts / "maker/draft/llama-draft.gguf").unlink()
    site.llmctl("switch", "a")
    shown = json.loads(site.llmctl("show", "a", "--json").stdout)
    assert shown["draft"]["model"] is None
    assert "is too large to make it faster" in shown["draft"]["reason"]
    assert "draft_n" not in timings(site)


@pytest.mark.usefixtures("drafts")
def test_a_draft_with_another_vocabulary_is_refused_before_anything_stops(
    site: ManagerSite,
) -> None:
    profile(site, "good", model="llama-script.gguf")
    site.llmctl("switch", "good")
    profile(site, "bad", model="llama-deep.gguf", draft="a-stranger.gguf")
    told = site.llmctl("switch", "bad", status=PROFILE)
    assert re.search(r'token \d+ is "<\|pax0\|>", and "<\|pad0\|>" in the model', told.stderr)
    with request(site, "hi") as answer:
        assert json.load(answer)["choices"][0]["message"]["content"] == GREETING


@pytest.mark.usefixtures("drafts")
def test_mtp_is_refused_for_a_model_without_such_layers(site: ManagerSite) -> None:
    profile(site, "bad", model="llama-deep.gguf", draft="mtp")
    told = site.llmctl("switch", "bad", status=PROFILE)
    assert "has no next-token layers" in told.stderr


# Bytes


def model(path: Path) -> Model:
    return model_of(read_buffer(path.read_bytes()))


def printed(server: str, words: list[str]) -> str:
    """All that a server says until it is ready."""
    port = free_port()
    argv = [server, *words, "--host", "127.0.0.1", "--port", str(port), "-lv", "4"]
    process = subprocess.Popen(
        [*argv, "--fit", "off"], stderr=subprocess.PIPE, text=True, errors="replace"
    )
    try:
        eventually(lambda: get(port)[0] == 200)
    finally:
        process.terminate()
        said = process.communicate()[1]
    return said


def sizes(said: str) -> Iterator[tuple[str, str, float]]:
    """What, where and how many MiB, of the draft model."""
    _, _, rest = said.partition("loading draft model")
    line = re.compile(r"(\w+) +(model|KV|RS|compute) buffer size = +([\d.]+) MiB")
    for where, what, mib in line.findall(rest):
        yield what, "host" if where.endswith(("_Host", "CPU", "_Mapped")) else where, float(mib)


def compared(server: str, target: Path, draft: Path, devices: list[str], home: int) -> None:
    """A draft on one of the devices, or on the CPU: what it takes is what is logged."""
    asked = Settings(
        ctx=5000, parallel=3, type_k="q8_0", type_v="q8_0", n_draft=3,
        tensor_split=(1,) * len(devices) if len(devices) > 1 else (),
    )  # fmt: skip
    drafting = Drafting(model(draft), "q4_0", "q4_0", home)
    estimator = Estimator(model(target), [Device(name) for name in devices])
    n_ctx = shape_of(estimator.model, asked).n_ctx
    own, host = estimator.drafting(drafting.at(asked, n_ctx))
    flags = parse_help(subprocess.run([server, "--help"], capture_output=True, text=True).stdout)
    device = devices[home] if home != CPU else "none" if devices else None
    seat = Seat("q4_0", "q4_0", 0 if home == CPU else 2, device)
    said = printed(server, [
        *("-m", str(target), "-c", "5000", "-np", "3", "-ctk", "q8_0", "-ctv", "q8_0"),
        *("--load-mode", "none", "-ngl", "999"),
        *(("-ts", ",".join("1" * len(devices))) if len(devices) > 1 else ()),
        *model_words(str(draft), 3, flags, seat),
    ])  # fmt: skip
    logged = {(what, where): mib for what, where, mib in sizes(said)}
    for need in (*own, host):
        where = need.name
        assert logged.get(("model", where), 0) == pytest.approx(
            need.weights_bytes / MIB, abs=0.0101
        )
        assert logged.get(("KV", where), 0) == pytest.approx(need.kv_bytes / MIB, abs=0.0101)
        off = logged.get(("compute", where), 0) - need.compute_bytes / MIB
        assert abs(off) <= need.compute_error_bytes / MIB + SMALL_STEPS_MIB


def test_a_draft_in_host_memory_takes_what_is_predicted(
    llama_server: str, tiny_models: Path
) -> None:
    pair = (tiny_models / "llama-deep.gguf", tiny_models / "llama-draft.gguf")
    compared(llama_server, *pair, [], CPU)


@pytest.mark.parametrize("home", [0, 1, CPU])
def test_a_draft_beside_gpus_takes_what_is_predicted(
    vulkan_server: str, tiny_models: Path, monkeypatch: pytest.MonkeyPatch, home: int
) -> None:
    monkeypatch.setenv("GGML_VK_VISIBLE_DEVICES", "0,0")
    pair = (tiny_models / "llama-deep.gguf", tiny_models / "llama-draft.gguf")
    compared(vulkan_server, *pair, ["Vulkan0", "Vulkan1"], home)
