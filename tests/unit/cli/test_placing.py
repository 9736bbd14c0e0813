"""Units carry a plan's numbers, and get stale only when something a plan is made from changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support import cards as real
from support.heads import write_head
from support.oracle import oracle
from support.world import DATA

if TYPE_CHECKING:
    from support.commandline import CommandLine


def server(llmctl: CommandLine, devices: str) -> None:
    """A llama-server that lists what a file says."""
    (llmctl.home / "devices").write_text(devices)
    llmctl.program(
        "llama-server",
        f"""echo "$1" >> '{llmctl.home}/asked'
case "$1" in
--version) echo "version: 0.7.0 (build 11669, commit x)";;
--list-devices) cat '{llmctl.home}/devices';;
*) cat '{DATA / "llama-server-help-0.7.0.txt"}';;
esac""",
    )


def asked(llmctl: CommandLine) -> int:
    """How often devices were listed."""
    return (llmctl.home / "asked").read_text().count("--list-devices")


def started_by(llmctl: CommandLine) -> str:
    """The installed unit's text without its line breaks."""
    text = (llmctl.unit_dir / "llm-big.service").read_text()
    return " ".join(text.replace("\\\n", " ").split())


@pytest.fixture
def big(llmctl: CommandLine) -> CommandLine:
    llmctl.program("nvidia-smi", "exit 6")
    server(llmctl, real.CUDA)
    llmctl.profile("big", "kv: q8_0\n")
    write_head(llmctl.home / "models/big-Q4_K_M.gguf", oracle()["models"]["qwen3_30b"])
    (llmctl.config_dir / "profiles/coder.yaml").unlink()
    (llmctl.config_dir / "profiles/gemma4.yaml").unlink()
    return llmctl


def test_a_unit_carries_the_numbers_of_the_plan(big: CommandLine) -> None:
    assert big("apply").status == 0
    text = started_by(big)
    planned = " ".join(big("plan", "big", "--json").json["args"])
    for flag in ("-c ", "-ngl ", "-ts "):
        value = planned.partition(flag)[2].split()[0]
        assert f"{flag}{value} " in text


def test_free_memory_does_not_make_a_unit_stale(big: CommandLine) -> None:
    big("apply")
    less = real.CUDA.replace("14960 MiB free", "200 MiB free")
    assert less != real.CUDA
    (big.home / "devices").write_text(less)
    before = asked(big)
    assert big("list", "--json").json[0]["stale"] is False
    assert big("apply", "--check").status == 0
    assert asked(big) == before


def test_another_profile_is_planned_anew(big: CommandLine) -> None:
    big("apply")
    big.profile("big", "kv: q4_0\nctx: 4096\n")
    write_head(big.home / "models/big-Q4_K_M.gguf", oracle()["models"]["qwen3_30b"])
    assert big("list", "--json").json[0]["stale"] is True
    assert big("apply").status == 0
    assert "-c 4096 -ngl 49 " in started_by(big)


def test_what_is_given_in_full_is_not_planned(big: CommandLine) -> None:
    big.profile("big", "ctx: 4096\ngpu_layers: all\nn_cpu_moe: 0\ntensor_split: [1]\n")
    big("apply")
    assert not (big.home / "asked").read_text().count("--list-devices")


def test_show_says_what_was_planned(big: CommandLine) -> None:
    values = big("show", "big", "--json").json["values"]
    assert values["gpu_layers"] == {"value": 49, "from": "auto: planned"}
    assert sum(values["tensor_split"]["value"]) == 49
    assert values["n_cpu_moe"] == {"value": 0, "from": "auto: planned"}


def test_a_model_that_cannot_be_read_is_served_as_before(big: CommandLine) -> None:
    (big.home / "models/big-Q4_K_M.gguf").write_bytes(b"GGUF....")
    shown = big("show", "big", "--json").json
    assert "-c" not in shown["args"]
    assert shown["not_planned"]


def test_devices_that_are_not_known_are_not_taken_for_none(big: CommandLine) -> None:
    big.program(
        "llama-server",
        f"""case "$1" in --list-devices|--version) exit 1;;
*) cat '{DATA / "llama-server-help-0.7.0.txt"}';; esac""",
    )
    shown = big("show", "big", "--json").json
    assert "devices are not known" in shown["not_planned"]
    server(big, real.CUDA)  # and it is asked again
    assert big("show", "big", "--json").json["not_planned"] is None
