"""The shipped profiles on the box they are from: one GPU of 15.9 GiB.

What its owner saw: `coder` with the experts of 16 layers in host memory and four slots left 559 MiB
of the card; `gemma4` with those of 8 layers left about 2 GiB, and with none it did not fit. The
files here have the real models' tensors in the mix that their names say (support/mixes.py): an even
q4_K throughout, as the oracle has its shapes, would take 0.7 GiB less.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support import mixes
from support.heads import write_head

if TYPE_CHECKING:
    from support.commandline import CommandLine

PROFILES = Path(__file__).parents[3] / "profiles"
CARD = "CUDA0:15.9GiB"
GIB = 1 << 30
FILES = {
    "coder": ("Qwen3-Coder-30B-A3B-Instruct-Q4_K_M.gguf", mixes.coder, 18.55e9),
    "gemma4": ("gemma-4-26B-A4B-it-Q4_K_M.gguf", mixes.gemma4, 16.78e9),
    "qwen36": ("Qwen3.6-27B-TQ3_4S.gguf", mixes.qwen36, 12.9 * GIB),
}


@pytest.fixture
def box(llmctl: CommandLine) -> CommandLine:
    """Their owner's profiles and models. Sizes are the published ones, to a percent (of qwen36's,
    that of its sibling TQ3_1S)."""
    config = "binaries: {upstream: llama-server, tq3: llama-server}\n"
    (llmctl.config_dir / "config.yaml").write_text(config)
    for name, (file, made, nbytes) in FILES.items():
        text = (PROFILES / f"{name}.yaml").read_text()
        (llmctl.config_dir / f"profiles/{name}.yaml").write_text(text)
        path = llmctl.home / "models" / file
        write_head(path, made())
        assert path.stat().st_size == pytest.approx(nbytes, rel=0.01)
    return llmctl


def left(box: CommandLine, *words: str) -> tuple[dict[str, Any], float]:
    """The plan, and GiB of the card that nothing is planned for."""
    told = box("plan", *words, "--device", CARD, "--json").json
    card = told["devices"][0]
    assert card["reserve_bytes"] == 0
    rest = card["free_bytes"] - card["total_need_bytes"]
    return told, rest / GIB


@pytest.mark.parametrize("slots", [(), ("--parallel", "4", "--unified")])
def test_coder_leaves_between_half_and_one_gib(box: CommandLine, slots: tuple[str, ...]) -> None:
    told, rest = left(box, "coder", *slots)
    assert (told["fits"], told["exact"]) == (True, True)
    words = " ".join(told["args"])
    assert "-c 98304 -ngl 49 --n-cpu-moe 16" in words
    assert "-ctk q4_0 -ctv q4_0" in words
    assert 0.5 < rest < 1


def test_the_table_says_what_is_left(box: CommandLine) -> None:
    said = box("plan", "coder", "--device", CARD)
    header, row = said.stdout.splitlines()[:2]
    assert header.split()[-1] == "LEFT"
    number, unit = row.split()[-2:]
    assert (512 < int(number) < 1024, unit) == (True, "MiB")


def test_coder_with_the_context_that_its_owner_could_not_have_is_refused(box: CommandLine) -> None:
    """131072 with 16 layers ran out of memory there."""
    said = box("plan", "coder", "--ctx", "131072", "--device", CARD)
    assert said.status == 4
    assert "coder does not fit" in said.stderr


@pytest.mark.parametrize("slots", [(), ("--parallel", "4", "--unified")])
def test_gemma4_leaves_about_two_gib(box: CommandLine, slots: tuple[str, ...]) -> None:
    told, rest = left(box, "gemma4", *slots)
    assert (told["fits"], told["exact"]) == (True, True)
    assert "--n-cpu-moe 8" in " ".join(told["args"])
    assert rest == pytest.approx(2, abs=0.25)


def test_gemma4_does_not_fit_without_experts_in_host_memory(box: CommandLine) -> None:
    said = box("plan", "gemma4", "--n-cpu-moe", "0", "--device", CARD)
    assert said.status == 4
    assert "gemma4 does not fit" in said.stderr
    told, rest = left(box, "gemma4", "--n-cpu-moe", "0")
    assert not told["fits"]
    assert rest < -1


def test_qwen36_fits_whole_and_its_type_is_said_to_be_a_forks(box: CommandLine) -> None:
    told, rest = left(box, "qwen36")
    assert (told["fits"], told["exact"]) == (True, False)
    assert "-c 40960 -ngl 65" in " ".join(told["args"])
    assert any("type 46" in one for one in told["warnings"])
    assert rest > 0.5
