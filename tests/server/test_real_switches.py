"""The main job on a real llama-server: switch, chat, fail, come back."""

from __future__ import annotations

import http.client
import json
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from kit.test_fake_llama import get
from usermgr.scenarios import back_at_work, last_words
from usermgr.site import FAILED, NOTHING, PROFILE, to_yaml

if TYPE_CHECKING:
    from usermgr.site import ManagerSite

GREETING = "Hello! This is a tiny model served by a real llama-server."


def profile(site: ManagerSite, name: str, **keys: Any) -> None:
    content = {"model": "llama-script.gguf", "ctx": 2048, **keys}
    site.put({site.profile_path(name): to_yaml(content)})


def request(
    site: ManagerSite, text: str, *, key: str = "", **more: object
) -> http.client.HTTPResponse:
    body = {"messages": [{"role": "user", "content": text}], "max_tokens": 400, **more}
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
    url = f"http://127.0.0.1:{site.port}/v1/chat/completions"
    asked = urllib.request.Request(url, json.dumps(body).encode(), headers)
    answer: http.client.HTTPResponse = urllib.request.urlopen(asked, timeout=30)
    return answer


def chat(site: ManagerSite, text: str, *, key: str = "") -> tuple[str, str]:
    """Which model answered, and what."""
    with request(site, text, key=key) as answer:
        said = json.load(answer)
    return said["model"], said["choices"][0]["message"]["content"]


def test_a_chat_after_each_switch_is_answered_by_the_right_model(site: ManagerSite) -> None:
    profile(site, "a")
    profile(site, "b", model="qwen3-script.gguf", kv="q8_0")
    for name in ("a", "b", "a"):
        told = site.llmctl("switch", name)
        assert f"{name} is ready" in told.stdout
        assert chat(site, "hi") == (name, GREETING)
        back_at_work(site, name)
    assert chat(site, "UTF8")[1].startswith("Zürich — 日本語 🙂")
    # The server tells the speed since it was last asked, which the chat above was after.
    assert site.status()["instances"][0]["tokens_per_s"] > 0
    assert "model loaded" in site.llmctl("logs", "-n", "10000").stdout


def test_the_server_takes_every_flag_that_a_full_profile_renders(site: ManagerSite) -> None:
    profile(
        site, "a", kv={"k": "q8_0", "v": "q4_0"}, allow_mixed_kv=True, gpu_layers=1, n_cpu_moe=1,
        parallel=2, batch=256, ubatch=64, threads=1, stop_timeout="20s",
        sampling={"temperature": 0.5, "top_k": 5, "top_p": 0.5, "min_p": 0.1, "seed": 3,
                  "presence_penalty": 0.1, "frequency_penalty": 0.1, "repeat_penalty": 1.1},
        args=["--reasoning-budget", "100"],
    )  # fmt: skip
    site.llmctl("switch", "a")
    assert chat(site, "hi")[0] == "a"
    pid = site.show("llm-a.service", "MainPID")
    given = site.read(f"/proc/{pid}/cmdline").split("\0")
    assert given[given.index("--fit") + 1] == "off"


def broken(site: ManagerSite, tiny_models: Path, keep: int) -> str:
    """A model that was not fetched to its end."""
    path = Path(site.home, "broken.gguf")
    path.write_bytes((tiny_models / "llama-script.gguf").read_bytes()[:keep])
    return str(path)


@pytest.mark.parametrize("keep", [0, 3, 4, 200, 20_000, -1000])
def test_a_model_that_is_not_whole_is_named_and_the_old_one_comes_back(
    site: ManagerSite, tiny_models: Path, keep: int
) -> None:
    profile(site, "good")
    profile(site, "bad", model=broken(site, tiny_models, keep))
    site.llmctl("switch", "good")
    told = site.llmctl("switch", "bad", status=FAILED)
    assert "corrupt" in told.stderr
    if keep not in (0, 3):  # those are seen before anything is stopped
        assert "good is ready again." in told.stderr
        assert any("gguf" in line or "model" in line for line in last_words(told))
    assert chat(site, "hi") == ("good", GREETING)
    back_at_work(site, "good")


@pytest.mark.parametrize(
    ("args", "says", "line"),
    [
        (["-ot", "x=y=z"], "llama-server refused the value of -ot", "-ot"),
        (["--reasoning-budget", "many"], "refused the value of --reasoning-budget", "budget"),
        (["--chat-template", "{{"], "", ""),
        (["--lora", "/nowhere.gguf"], "", "nowhere"),
    ],
)
def test_a_value_that_the_server_refuses_is_named_and_the_old_one_comes_back(
    site: ManagerSite, args: list[str], says: str, line: str
) -> None:
    profile(site, "good")
    profile(site, "bad", args=args)
    site.llmctl("switch", "good")
    told = site.llmctl("switch", "bad", status=FAILED)
    assert "error: bad failed: " in told.stderr
    assert says in told.stderr
    assert any(line in one for one in last_words(told)), told.stderr
    assert chat(site, "hi") == ("good", GREETING)
    back_at_work(site, "good")


def test_a_port_that_is_taken_is_named_with_its_holder(site: ManagerSite) -> None:
    place = f"--host 127.0.0.1 --port {site.port} -m {site.models_dir}/llama-script.gguf -c 512"
    text = f"[Service]\nExecStart={site.server} {place}\n"
    site.manager.install("stranger.service", text)
    site.systemctl("start", "stranger.service")
    profile(site, "a")
    told = site.llmctl("switch", "a", status=NOTHING)
    pid = site.show("stranger.service", "MainPID")
    assert f"port {site.port} is taken by pid {pid}, {site.server} " in told.stderr
    assert " in stranger.service" in told.stderr


@pytest.mark.parametrize("ending", ["switch", "off"])
def test_an_open_stream_holds_a_stop_for_a_ping_interval_at_most(
    site: ManagerSite, ending: str
) -> None:
    profile(site, "a", ctx=32768)
    profile(site, "b")
    site.llmctl("apply")
    site.llmctl("switch", "a")
    with request(site, "LOOP", stream=True, max_tokens=-1) as stream:
        assert stream.readline().startswith(b"data: ")
        began = time.monotonic()
        site.llmctl(*(("switch", "b") if ending == "switch" else ("off",)))
        assert time.monotonic() - began < 9  # the interval is 5 s, its default 30 s
        with pytest.raises(http.client.IncompleteRead) as cut:
            stream.read()
    assert b"[DONE]" not in cut.value.partial
    assert site.show("llm-a.service", "Result") == "success"


@pytest.mark.parametrize("where", ["profile", "manager", "file"])
def test_a_key_is_no_obstacle(site: ManagerSite, where: str) -> None:
    keys: dict[str, Any] = {}
    if where == "profile":
        keys = {"env": {"LLAMA_API_KEY": "sesame"}}
    elif where == "manager":
        site.systemctl("set-environment", "LLAMA_API_KEY=sesame")
    else:
        site.put({f"{site.home}/keys": "sesame\n"})
        keys = {"args": ["--api-key-file", f"{site.home}/keys"]}
    profile(site, "a", **keys)
    site.llmctl("switch", "a")
    back_at_work(site, "a")
    assert get(site.port)[0] == 200
    assert get(site.port, "/v1/models")[0] == 401
    assert chat(site, "hi", key="sesame") == ("a", GREETING)


def test_a_flag_that_was_removed_is_refused_with_what_replaces_it(site: ManagerSite) -> None:
    profile(site, "good")
    site.llmctl("switch", "good")
    for flag in ("--draft-max", "--no-such-flag"):
        profile(site, "bad", args=[flag, "4"])
        told = site.llmctl("switch", "bad", status=PROFILE)
        assert f"args[0]: this llama-server has no {flag}: " in told.stderr
    back_at_work(site, "good")


def test_words_reach_the_real_server_as_they_were_written(site: ManagerSite) -> None:
    """It opens the file, so its path came through; a template shows in what it says."""
    name = "a $HOME %n 'é' \"x\" \\ model.gguf"
    source = Path(site.models_dir, "llama-script.gguf")
    Path(site.home, name).write_bytes(source.read_bytes())
    profile(site, "a", model=f"{site.home}/{name}", env={"MY": "$HOME %n"})
    site.llmctl("switch", "a")
    assert get(site.port, "/props")[1]["model_path"] == f"{site.home}/{name}"
    assert chat(site, "hi") == ("a", GREETING)
