"""llmctl bench and tune on a real llama-server. How fast it is is nobody's business here."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from kit.test_fake_llama import get
from kit.waiting import eventually
from server.test_real_switches import chat, profile, request
from usermgr.site import INTERRUPTED, USAGE, ManagerSite

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kit.managers import UserManager

QUICK = ("--prompt", "40", "--generate", "16", "--runs", "2")
DRAFT = {"model": "llama-draft70.gguf", "n_max": 8}
ONE = {"threads": 1}
"""On a busy machine threads that wait for each other are slow beyond reason."""
PATIENCE_S = 300.0


def deep(site: ManagerSite, draft: object = "off") -> None:
    profile(site, "a", model="llama-deep.gguf", draft=draft, **ONE)


def said(site: ManagerSite, *words: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(site.llmctl(*words, "--json", timeout=PATIENCE_S).stdout)
    return found


def is_busy(site: ManagerSite) -> bool:
    _, body = get(site.port, "/slots")
    return any(one["is_processing"] for one in body)


def bench(site: ManagerSite, *words: str) -> dict[str, Any]:
    return said(site, "bench", "a", *QUICK, *words)


def case(facts: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any]
    (found,) = facts["cases"]
    return found


def test_a_running_model_is_measured_and_compared_with_itself(site: ManagerSite) -> None:
    deep(site)
    told = site.llmctl("bench", "a", status=USAGE)
    assert "hint: llmctl switch a" in told.stderr
    site.llmctl("switch", "a")
    first, second = bench(site), bench(site, "--concurrency", "1")
    assert first["build"].startswith("b")
    assert first["flags"]["model"].endswith("llama-deep.gguf")
    assert first["digest"] == second["digest"]
    found = case(first)
    assert found["tokens_per_s"]["min"] <= found["tokens_per_s"]["median"]
    assert found["tokens_per_s"]["min"] > 0
    assert found["prompt_tokens"] >= 40  # nothing came from a cache
    assert found["compared"] == []
    (beside,) = case(second)["compared"]
    assert (beside["same"], beside["time"]) == (True, found["time"])
    assert len(site.read(f"{site.state_dir}/bench.jsonl").splitlines()) == 2


def test_more_at_once_than_slots_is_refused_and_two_are_measured(site: ManagerSite) -> None:
    profile(site, "a", parallel=2, **ONE)
    site.llmctl("switch", "a")
    assert case(bench(site, "--concurrency", "2"))["concurrency"] == 2
    told = site.llmctl("bench", "a", "--concurrency", "3", status=USAGE)
    assert "a serves 2 requests at once, not 3" in told.stderr
    told = site.llmctl("bench", "a", "--prompt", "4000", status=USAGE)
    assert "do not fit: a slot of a has 1024" in told.stderr


def test_a_request_of_somebody_else_spoils_it(site: ManagerSite) -> None:
    profile(site, "a", ctx=60000, **ONE)  # room for a loop that lasts
    site.llmctl("switch", "a")
    with request(site, "LOOP", stream=True, max_tokens=-1) as answer:
        answer.readline()
        told = site.llmctl("bench", "a", *QUICK, status=USAGE)
        assert "1 of its slots is busy" in told.stderr
    assert not site.exists(f"{site.state_dir}/bench.jsonl")


def test_an_interrupted_measurement_leaves_the_server_idle(site: ManagerSite) -> None:
    profile(site, "a", **ONE)
    site.llmctl("switch", "a")
    process = site.popen("bench", "a", "--prompt", "64", "--generate", "500", "--runs", "100000")
    eventually(lambda: is_busy(site), 60, why="the server works on it")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == INTERRUPTED, err
    assert "Traceback" not in err
    assert out == ""
    assert "interrupted: what is not shown was not measured." in err
    assert chat(site, "hi")[0] == "a"


def test_a_draft_is_judged_by_what_was_measured_without_it(site: ManagerSite) -> None:
    deep(site)
    site.llmctl("switch", "a")
    without = case(bench(site))
    assert (without["drafted_tokens"], without["draft_cost"]) == (0, None)
    deep(site, DRAFT)
    site.llmctl("switch", "a")
    found = case(bench(site))
    assert 0 < found["accepted_tokens"] < found["drafted_tokens"]
    assert found["draft_cost"] >= 0
    assert found["draft_speedup"] > 0
    (beside,) = found["compared"]
    assert (beside["same"], beside["time"]) == (False, without["time"])
    assert "spec_type none -> draft-simple" in beside["differs"]
    (shown,) = said(site, "status")["instances"]
    draft = shown["draft"]
    assert draft["accepted_tokens"] == sum(draft["accepted_by_position"])
    assert draft["drafted_tokens"] >= found["drafted_tokens"]
    assert (draft["cost"], draft["cost_measured"]) == (found["draft_cost"], True)
    assert f"of {draft['drafted_tokens']} tokens accepted" in site.llmctl("status").stdout


def test_next_token_layers_of_the_model_itself_are_counted(site: ManagerSite) -> None:
    profile(site, "a", model="qwen35-mtp.gguf", draft="mtp", **ONE)
    site.llmctl("switch", "a")
    assert case(bench(site))["drafted_tokens"] > 0
    (shown,) = said(site, "status")["instances"]
    assert shown["draft"]["drafted_tokens"] > 0


# Tune


def test_drafts_are_tried_and_what_ran_before_runs_again(site: ManagerSite) -> None:
    deep(site, DRAFT)
    profile(site, "b", **ONE)
    site.llmctl("switch", "b")
    text = site.read(site.profile_path("a"))
    words = ("tune", "a", "--draft", "--values", "2", *QUICK)
    listed = said(site, *words, "--check")["points"]
    assert [one["point"] for one in listed] == ["draft off", "n_max 2", "n_max 8"]
    assert all(one["fits"] and one["measured"] is None for one in listed)
    assert not site.exists(site.unit_path("a"))
    found = said(site, *words)
    off, two, eight = (one["measured"] for one in found["points"])
    assert off["drafted_tokens"] == 0
    assert two["acceptance"] > eight["acceptance"]
    assert two["draft_cost"] is not None
    assert found["best"] in [one["point"] for one in listed]
    assert chat(site, "hi")[0] == "b"
    assert site.read(site.profile_path("a")) == text
    assert not site.exists(site.unit_path("a"))


def test_an_interrupted_sweep_brings_back_what_ran_before(site: ManagerSite) -> None:
    deep(site, DRAFT)
    site.llmctl("switch", "a")
    site.llmctl("apply")
    unit = site.read(site.unit_path("a"))
    log = f"{site.state_dir}/bench.jsonl"
    process = site.popen("tune", "a", "--draft", *QUICK)
    eventually(
        lambda: Path(log).exists() or process.poll() is not None, 120, why="one point is measured"
    )
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=120)
    assert process.returncode == INTERRUPTED, err
    assert "a runs again, as before." in err
    assert site.read(site.unit_path("a")) == unit
    (shown,) = said(site, "status")["instances"]
    assert (shown["state"], shown["notes"]) == ("ready", [])


@pytest.fixture
def gpu(user_manager: UserManager, vulkan_server: str, tiny_models: Path) -> Iterator[ManagerSite]:
    made = ManagerSite(user_manager, vulkan_server)
    made.models_dir = str(tiny_models)
    made.configure()
    yield made
    made.close()


def test_experts_are_moved_and_the_winner_is_written(gpu: ManagerSite) -> None:
    env = {"GGML_VK_VISIBLE_DEVICES": "0"}
    profile(gpu, "a", model="qwen3moe-script.gguf", devices=["Vulkan0"], env=env, **ONE)
    words = ("tune", "a", "--values", "2", "-p", "8", "-g", "2", "-r", "2", "--write")
    found = said(gpu, *words)
    assert [one["point"] for one in found["points"]] == ["n_cpu_moe 0", "n_cpu_moe 2"]
    assert all(one["measured"]["tokens_per_s"]["min"] > 0 for one in found["points"])
    text = gpu.read(gpu.profile_path("a"))
    assert ("n_cpu_moe: 2" in text) == (found["best"] == "n_cpu_moe 2") == bool(found["written"])
    assert gpu.group() == (None, "stopped")
