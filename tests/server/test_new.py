"""From a file to an answer: `scan` finds it, `new` writes its profile, and that serves at once."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from kit.test_fake_llama import get
from server.test_real_switches import GREETING, chat
from support.asking import ask, question
from usermgr.scenarios import back_at_work
from usermgr.site import free_port

if TYPE_CHECKING:
    from usermgr.site import ManagerSite

MODELS = ("llama-script", "qwen3-script", "qwen3-q8", "qwen3moe-script")


@pytest.mark.parametrize("model", MODELS)
def test_a_new_profile_serves_at_once(site: ManagerSite, model: str) -> None:
    written = json.loads(site.llmctl("new", "tiny", f"{model}.gguf", "--json").stdout)
    assert (written["written"], written["fits"]) == (True, True)
    site.llmctl("apply", "tiny")
    site.llmctl("apply", "tiny", "--check")
    told = site.llmctl("switch", "tiny")
    assert "tiny is ready" in told.stdout
    assert chat(site, "hi") == ("tiny", GREETING)
    assert get(site.port, "/props")[1]["default_generation_settings"]["n_ctx"] == written["ctx"]
    back_at_work(site, "tiny")


def test_a_scan_leads_to_a_switch(site: ManagerSite) -> None:
    found = json.loads(site.llmctl("scan", "--json").stdout)
    files = {one["file"]: one for one in found["files"]}
    assert set(files) >= {f"{model}.gguf" for model in MODELS}
    assert {(one["fits"], one["error"]) for one in files.values()} == {(True, None)}
    assert files["qwen3moe-script.gguf"]["active_parameters"]
    site.llmctl("new", "a", "llama-script.gguf")
    site.llmctl("switch", "a")
    assert chat(site, "hi") == ("a", GREETING)
    again = json.loads(site.llmctl("scan", "--json").stdout)["files"]
    assert {one["file"]: one["profiles"] for one in again}["llama-script.gguf"] == ["a"]


def test_a_file_outside_of_models_dir_with_an_odd_name_serves(site: ManagerSite) -> None:
    path = Path(site.home, "a: 'b' #é.gguf")
    path.write_bytes(Path(site.models_dir, "llama-script.gguf").read_bytes())
    site.llmctl("new", "odd", str(path), "--ctx", "2048", "--kv", "q8_0")
    site.llmctl("switch", "odd")
    assert chat(site, "hi") == ("odd", GREETING)
    assert get(site.port, "/props")[1]["model_path"] == str(path)


def test_a_box_is_set_up_in_one_command(site: ManagerSite) -> None:
    """Nothing but a configuration: then profiles, units, the proxy, and an answer through it."""
    port = free_port()
    site.configure(proxy={"listen": [f"127.0.0.1:{port}"]})
    told = json.loads(site.llmctl("init", "--json").stdout)
    try:
        names = {one["profile"] for one in told["profiles"]}
        assert {"llama-script", "qwen3-script"} <= names
        assert told["left"] == []
        assert told["config"]["written"] is False
        assert told["listen"] == [f"http://127.0.0.1:{port}"]
        reply = asyncio.run(ask(port, question("llama-script", "hi", max_tokens=30)))
        assert (reply.is_whole, reply.models) == (True, {"llama-script"})
        again = json.loads(site.llmctl("init", "--json").stdout)
        assert (again["profiles"], again["units"]) == ([], [])
        assert len(again["known"]) == len(names)
    finally:
        site.llmctl("proxy", "uninstall")
