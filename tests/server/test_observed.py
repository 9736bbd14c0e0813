"""What real servers log of their memory, beside what was predicted: through a real journal."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from kit.waiting import eventually
from server.test_real_switches import profile
from usermgr.site import ManagerSite

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from kit.managers import UserManager

AS_IN_THE_FILE = ["--no-repack"]  # weights that are laid out anew take what they take


def parts(facts: Any, device: str = "host") -> dict[str, dict[str, Any]]:
    """The observed parts of one device by name."""
    found = next(one for one in facts["observed"]["devices"] if one["name"] == device)
    return {one["part"]: one for one in found["parts"]}


def observed(site: ManagerSite, *words: str) -> Any:
    """`plan a --observed`, once the journal has what the server wrote."""

    def read() -> Any:
        facts = site.json("plan", "a", "--observed", *words)
        return facts if facts["observed"] else None

    return eventually(read, 10, why="a start was observed")


@pytest.mark.parametrize(
    ("model", "keys"),
    [
        ("llama-script", {}),
        ("qwen3-script", {"kv": "q8_0", "parallel": 2}),
        ("qwen3-q8", {"ctx": 5000, "parallel": 3}),
        ("qwen3moe-script", {"ctx": 4096, "args": [*AS_IN_THE_FILE, "-kvu"], "parallel": 4}),
    ],
)
@pytest.mark.parametrize("logs", ["journal", "file"])
def test_weights_and_kv_are_what_was_predicted(
    site: ManagerSite, model: str, keys: dict[str, Any], logs: str
) -> None:
    site.configure(logs=logs)
    profile(site, "a", **{"model": f"{model}.gguf", "args": AS_IN_THE_FILE, **keys})
    site.llmctl("switch", "a")
    facts = observed(site)
    assert facts["observed"]["build"]
    assert facts["observed"]["differs"] == []
    assert facts["observed"]["report"] is None
    found = parts(facts)
    for part in ("weights", "kv"):
        assert found[part]["verdict"] == "equal", found
        assert abs(found[part]["difference_bytes"]) <= 0.0051 * 2**20 * 12
    assert facts["compute_from"] == "observed"
    assert facts["host"]["compute_bytes"] == found["compute"]["observed_bytes"]


@pytest.fixture
def gpus(user_manager: UserManager, vulkan_server: str, tiny_models: Path) -> Iterator[ManagerSite]:
    """A site whose server sees two GPUs, made of software."""
    made = ManagerSite(user_manager, vulkan_server)
    made.models_dir = str(tiny_models)
    made.configure()
    yield made
    made.close()


@pytest.mark.parametrize(
    ("model", "keys"),
    [
        ("llama-script", {"kv": "q8_0"}),
        ("gemma3-script", {"ctx": 5000, "parallel": 3}),
        ("qwen3moe-script", {"n_cpu_moe": 1, "tensor_split": [2, 3]}),
        ("qwen3moe-script", {"gpu_layers": 2}),
        ("qwen35-mtp", {"draft": "mtp", "kv": "q8_0"}),
        ("llama-deep", {"draft": "llama-draft.gguf"}),
    ],
)
def test_on_gpus_it_is_what_was_predicted_and_then_what_is_planned(
    gpus: ManagerSite, model: str, keys: dict[str, Any]
) -> None:
    both = {"devices": ["Vulkan0", "Vulkan1"], "env": {"GGML_VK_VISIBLE_DEVICES": "0,0"}}
    more = {"args": [*AS_IN_THE_FILE, "--load-mode", "none"], **both, **keys}  # no spans of a file
    profile(gpus, "a", **{"model": f"{model}.gguf", **more})
    gpus.llmctl("switch", "a")
    facts = observed(gpus)
    assert facts["observed"]["differs"] == []
    assert facts["observed"]["report"] is None
    seen = [part for one in facts["observed"]["devices"] for part in one["parts"]]
    verdicts: dict[str, set[str]] = {part["part"]: set() for part in seen}
    for part in seen:
        verdicts[part["part"]].add(part["verdict"])
    for part in {"weights", "kv", "state"} & verdicts.keys():
        assert verdicts[part] == {"equal"}, seen
    assert not any("beyond" in ones for ones in verdicts.values()), seen
    assert ("draft" in verdicts) == ("draft" in keys)
    assert facts["compute_from"] == "observed"
    needs = {one["name"]: one for one in (*facts["devices"], facts["host"])}
    for one in facts["observed"]["devices"]:
        for part in one["parts"]:
            if part["part"] in ("compute", "draft"):
                assert needs[one["name"]][f"{part['part']}_bytes"] == part["observed_bytes"]


def test_a_switch_notes_it_and_the_next_start_is_another_record(site: ManagerSite) -> None:
    profile(site, "a", args=AS_IN_THE_FILE)
    site.llmctl("switch", "a")
    observed(site)
    kept = f"{site.home}/.local/state/llmctl/observed/a.json"
    first = json.loads(site.read(kept))["records"]
    profile(site, "a", args=AS_IN_THE_FILE, ctx=8192)
    before = site.json("plan", "a", "--observed")
    assert before["compute_from"] == "estimated"
    assert before["observed"]["differs"] == ["ctx 2048, now 8192"]
    assert parts(before)["kv"]["verdict"] == "equal"  # of what ran, predicted for what ran
    site.llmctl("switch", "a")
    eventually(lambda: observed(site)["observed"]["differs"] == [], 10, why="the new start is read")
    both = json.loads(site.read(kept))["records"]
    assert [one["said"]["ctx"] for one in both] == ["2048", "8192"]
    assert both[0] == first[0]


def test_what_systemd_started_is_read_when_asked_for(site: ManagerSite) -> None:
    profile(site, "a", args=AS_IN_THE_FILE)
    site.llmctl("apply")
    assert (
        "observed: nothing yet. `llmctl switch a`" in site.llmctl("plan", "a", "--observed").stdout
    )
    site.systemctl("start", "llm-a.service")
    site.await_state("a", "ready")
    assert parts(observed(site))["kv"]["verdict"] == "equal"
    said = site.llmctl("plan", "a", "--observed").stdout
    assert "observed: a start of build " in said
    row = next(line.split() for line in said.splitlines() if line.startswith("host    kv"))
    assert row == ["host", "kv", "4.00", "4.00", "+0.00", "equal"]


def test_llama_cpp_itself_agrees(site: ManagerSite) -> None:
    profile(site, "a", model="qwen3-script.gguf", ctx=16384)
    facts = site.json("plan", "a", "--verify")
    (host,) = facts["verified"]["devices"]
    assert host["name"] == "host"
    assert abs(host["context_bytes"] - facts["host"]["kv_bytes"]) < 1 << 20
    assert abs(host["weights_bytes"] - facts["host"]["weights_bytes"]) < 1 << 20
    assert "LLAMA-FIT-PARAMS MIB" in site.llmctl("plan", "a", "--verify").stdout
