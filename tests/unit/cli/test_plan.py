"""llmctl plan: what people and scripts read."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest
from support import cards as real
from support.heads import write_head
from support.oracle import oracle

if TYPE_CHECKING:
    from pathlib import Path

    from support.commandline import CommandLine

GIB = 1 << 30
CODER = ["--ctx", "98304", "--kv", "q4_0", "--parallel", "4", "--unified"]
KEYS = {
    "name", "total_bytes", "free_bytes", "weights_bytes", "kv_bytes", "state_bytes",
    "compute_bytes", "total_need_bytes",
}  # fmt: skip


@pytest.fixture
def coder(llmctl: CommandLine) -> Path:
    """The file of the shipped profile `coder`, by its head."""
    path = llmctl.home / "models/coder-Q4_K_M.gguf"
    write_head(path, oracle()["models"]["qwen3_30b"])
    return path


def test_a_file_is_planned_without_config_and_binary(llmctl: CommandLine, coder: Path) -> None:
    (llmctl.home / "bin/llama-server").unlink()
    said = llmctl("plan", str(coder), "--device", "CUDA0:15.9GiB", "--json", *CODER)
    assert said.status == 0
    facts = said.json
    assert (facts["profile"], facts["fits"], facts["exact"]) == (str(coder), True, True)
    assert set(facts["devices"][0]) >= KEYS
    assert set(facts["host"]) >= KEYS
    words = facts["args"]
    assert words[words.index("-ngl") + 1] == "49"
    assert int(words[words.index("--n-cpu-moe") + 1]) <= 16


def test_a_profile_is_planned_for_declared_devices(llmctl: CommandLine) -> None:
    llmctl.profile("shipped", "ctx: 98304\nkv: q4_0\nn_cpu_moe: 16\n")
    write_head(llmctl.home / "models/shipped-Q4_K_M.gguf", oracle()["models"]["qwen3_30b"])
    words = ["plan", "shipped", "--device", "CUDA0:15.9GiB", "--parallel", "4", "--unified"]
    facts = llmctl(*words, "--json").json
    first = facts["devices"][0]
    assert facts["fits"]
    assert first["weights_bytes"] + first["kv_bytes"] > 13 * GIB
    assert "--n-cpu-moe 16" in " ".join(facts["args"])


def test_a_model_is_no_projector(llmctl: CommandLine, coder: Path) -> None:
    """llama-server would load the model and then exit."""
    llmctl.profile("seeing", f"mmproj: {coder.name}\n")
    write_head(llmctl.home / "models/seeing-Q4_K_M.gguf", oracle()["models"]["qwen3_30b"])
    said = llmctl("plan", "seeing", "--device", "CUDA0:24GiB")
    assert said.status == 3
    assert "seeing.yaml: mmproj: " in said.stderr
    assert "is no projector" in said.stderr


def test_what_does_not_fit_is_status_4_with_what_would(llmctl: CommandLine, coder: Path) -> None:
    words = ["plan", str(coder), "--device", "CUDA0:15.9GiB", "--n-cpu-moe", "0", *CODER]
    said = llmctl(*words)
    assert said.status == 4
    assert "does not fit: CUDA0 needs" in said.stderr
    assert "n_cpu_moe: " in said.stderr
    told = llmctl(*words, "--json")
    assert told.status == 4
    assert (told.json["fits"], told.json["error"]["status"]) == (False, 4)
    assert len(told.json["remedies"]) == 3


def test_people_get_a_table_and_a_bar(llmctl: CommandLine, coder: Path) -> None:
    said = llmctl("plan", str(coder), "--device", "CUDA0:24GiB", "--device", "RAM:64GiB")
    lines = said.stdout.splitlines()
    assert lines[0].split() == [
        "DEVICE", "WEIGHTS", "KV", "STATE", "COMPUTE", "OTHER", "NEEDS", "OF", "LEFT",
    ]  # fmt: skip
    bar = next(line for line in lines if line.startswith("CUDA0") and "[" in line)
    assert "###" in bar
    assert "# weights" in bar
    assert any(line.startswith("flags: -c ") for line in lines)
    assert any(line.startswith("offer: kv: q8_0 would give ctx ") for line in lines)


@pytest.mark.parametrize(
    ("device", "free"),
    [
        ("CUDA0:24GiB", 24 * 1024 - 768), ("CUDA0:24GiB:20GiB", 20 * 1024),
        ("Vulkan0:24GiB", 24 * 1024 - 512), ("CUDA0:1MiB", 0),
    ],
)  # fmt: skip
def test_of_a_declared_device_what_the_runtime_takes_is_not_free(
    llmctl: CommandLine, coder: Path, device: str, free: int
) -> None:
    facts = llmctl("plan", str(coder), "--device", device, "--json").json
    (card,) = facts["devices"]
    assert card["free_bytes"] == free << 20
    assert card["reserve_bytes"] == 0


def test_the_devices_of_the_box_are_asked(llmctl: CommandLine, coder: Path) -> None:
    llmctl.program(
        "llama-server",
        'case "$1" in --version) echo "version: 0.7.0 (build 11669, commit x)";; *)'
        f"\ncat <<'END'\n{real.CUDA}END\n;; esac",
    )
    llmctl.program("nvidia-smi", f"cat <<'END'\n{real.SMI}END")
    facts = llmctl("plan", str(coder), "--json").json
    assert [one["name"] for one in facts["devices"]] == ["CUDA0", "CUDA1"]
    assert facts["devices"][0]["reserve_bytes"] > 0
    assert "-ts" in facts["args"]


def test_the_head_is_kept_for_its_owner_alone(llmctl: CommandLine, coder: Path) -> None:
    llmctl("plan", str(coder), "--device", "CUDA0:24GiB")
    (kept,) = (llmctl.home / ".cache/llmctl/gguf").iterdir()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    first = llmctl("plan", str(coder), "--device", "CUDA0:24GiB").stdout
    kept.write_bytes(b"nonsense")
    assert llmctl("plan", str(coder), "--device", "CUDA0:24GiB").stdout == first


@pytest.mark.parametrize(
    "words",
    [
        ["--device", "CUDA0"], ["--device", "CUDA0:24"], ["--device", "CUDA0:1GiB:2GiB"],
        ["--device", "A:1GiB", "--device", "A:1GiB"], ["--kv", "q9"], ["--ctx", "many"],
        ["--devices", "24GiB", "--device", "CUDA0:24GiB"], ["--gpu-layers", "-1"],
        ["--flash-attn", "perhaps"], ["--parallel", "0"], ["--parallel", "257"],
        ["--device", "host:24GiB"], ["--device", "CPU:24GiB"], ["--tensor-split", "1,x"],
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_status_2(
    llmctl: CommandLine, coder: Path, words: list[str]
) -> None:
    base = [] if "--device" in words else ["--device", "CPU0:24GiB"]
    said = llmctl("plan", str(coder), *(base if "--devices" not in words else []), *words)
    assert said.status == 2, said.stderr


@pytest.mark.parametrize(
    "content", [b"", b"GGUF", b"not a model", b"GGUF\x03\0\0\0" + b"\xff" * 64]
)
def test_a_file_that_is_no_model_is_status_3(llmctl: CommandLine, content: bytes) -> None:
    path = llmctl.home / "broken.gguf"
    path.write_bytes(content)
    said = llmctl("plan", str(path), "--device", "CUDA0:24GiB")
    assert said.status == 3
    assert str(path) in said.stderr


def test_a_name_that_cannot_be_written_is_refused(llmctl: CommandLine) -> None:
    said = llmctl("plan", "bad\udcff.gguf", "--device", "CUDA0:24GiB")
    assert said.status == 2
    assert "rename the file" in said.stderr


def test_what_a_file_says_moves_no_cursor(llmctl: CommandLine) -> None:
    path = llmctl.home / "odd.gguf"
    write_head(path, {"metadata": {"general.architecture": "[red]\x1b[31m"}, "tensors": []})
    said = llmctl("plan", str(path), "--device", "CUDA0:24GiB")
    assert said.status == 3
    assert str(path) in said.stderr
    assert "\x1b" not in said.stderr


@pytest.mark.parametrize(
    ("width", "device", "taken"),
    [(128, "CUDA0", "on"), (160, "CUDA0", "off"), (160, "Vulkan0", "on")],
)
def test_flash_attention_is_left_to_llama_cpp_where_cuda_has_it(
    llmctl: CommandLine, width: int, device: str, taken: str
) -> None:
    llmctl.profile("wide", "ctx: 8192\nflash_attn: auto\n")
    head = oracle()["models"]["qwen3_30b"]
    widths = {f"qwen3moe.attention.{name}_length": width for name in ("key", "value")}
    write_head(
        llmctl.home / "models/wide-Q4_K_M.gguf",
        {**head, "metadata": {**head["metadata"], **widths}},
    )
    facts = llmctl("plan", "wide", "--device", f"{device}:40GiB", "--json").json
    assert f"-fa {taken}" in " ".join(facts["args"])
    assert f"flash_attn is auto: the plan takes it to be {taken}." in facts["warnings"]
