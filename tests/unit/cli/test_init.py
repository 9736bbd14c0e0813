"""llmctl init: what it finds, what it writes, and what it leaves alone."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from support.commandline import CommandLine
from support.fakes import FakeHost
from support.heads import write_head
from support.world import DATA
from unit.cli.test_scan import model

from llmctl.core.document import parse_yaml
from llmctl.engine.box import Box

if TYPE_CHECKING:
    from pathlib import Path

HELP = DATA / "llama-server-help-0.7.0.txt"
SERVER = f"""case "$1" in --version) echo "version: 0.7.0 (build 11669, commit x)";;
--help) cat '{HELP}';;
*) echo "Available devices:"; echo "  CUDA0: NVIDIA RTX 5090 (32607 MiB, 32000 MiB free)";; esac"""


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """A home without a file of llmctl's; llama-server is in a build, and not on the PATH."""
    made = CommandLine(tmp_path, monkeypatch)
    (tmp_path / "bin/llama-server").unlink()
    made.program("nvidia-smi", "exit 6")
    build = tmp_path / "llama.cpp/build/bin"
    build.mkdir(parents=True)
    made.program("build", SERVER)
    shutil.move(tmp_path / "bin/build", build / "llama-server")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/sbin:/usr/bin:/sbin:/bin")
    monkeypatch.setattr("llmctl.engine.finding.MODEL_DIRS", ("~/models", "~/.cache/llama.cpp"))
    return made


def coder(home: Path, name: str = "models/Qwen3-Coder-Q4_K_M.gguf") -> None:
    write_head(home / name, model("qwen3_30b"))


def test_a_bare_box_is_set_up_and_the_second_time_changes_nothing(bare: CommandLine) -> None:
    coder(bare.home)
    said = bare("init", "--no-proxy")
    assert said.status == 0, said.stderr
    assert parse_yaml((bare.config_dir / "config.yaml").read_text(), file="c") == {
        "models_dir": "~/models",
        "binaries": {"upstream": "~/llama.cpp/build/bin/llama-server"},
    }
    assert "GPU: CUDA0" in said.stdout
    assert "profiles: qwen3-coder" in said.stdout
    assert (bare.unit_dir / "llm-qwen3-coder.service").exists()
    assert "llmctl switch qwen3-coder" in said.stderr
    again = bare("init", "--no-proxy", "--json")
    assert again.status == 0
    assert again.json["config"]["written"] is False
    assert again.json["known"] == ["Qwen3-Coder-Q4_K_M.gguf"]
    assert (again.json["profiles"], again.json["units"]) == ([], [])


def test_what_cannot_be_served_gets_no_profile_and_a_reason(bare: CommandLine) -> None:
    coder(bare.home)
    (bare.home / "models/broken-Q8_0.gguf").write_bytes(b"GGUF....")
    said = bare("init", "--no-proxy", "--json")
    assert said.status == 0
    assert [one["profile"] for one in said.json["profiles"]] == ["qwen3-coder"]
    assert [one["file"] for one in said.json["left"]] == ["broken-Q8_0.gguf"]
    assert said.json["left"][0]["why"]


def test_without_a_server_or_a_model_nothing_is_written(bare: CommandLine) -> None:
    said = bare("init")
    assert (said.status, said.stdout) == (3, "")
    assert "llmctl init --models DIR" in said.stderr
    coder(bare.home)
    shutil.rmtree(bare.home / "llama.cpp")
    said = bare("init")
    assert (said.status, said.stdout) == (3, "")
    assert "llmctl init --binary PATH" in said.stderr
    assert not bare.config_dir.exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--models", "nowhere"), "There is no GGUF file below"),
        (("--models", "models", "--binary", "/no/server"), "/no/server is not an executable file"),
    ],
)
def test_what_is_not_there_is_not_written_down(
    bare: CommandLine, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], says: str
) -> None:
    """It would stand in the way of saying it right."""
    coder(bare.home)
    monkeypatch.chdir(bare.home)
    said = bare("init", "--no-proxy", *words)
    assert said.status in (2, 3)
    assert says in said.stderr
    assert "llmctl init --" in said.stderr
    assert not bare.config_dir.exists()


def test_a_relative_path_is_from_where_one_is(
    bare: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    coder(bare.home, "my models/Qwen3 (new)-Q4_K_M.gguf")
    monkeypatch.chdir(bare.home)
    monkeypatch.delenv("PWD", raising=False)
    server = "llama.cpp/build/bin/llama-server"
    said = bare("init", "--no-proxy", "--models", "my models", "--binary", server, "--json")
    assert said.status == 0, said.stderr
    assert said.json["models_dir"] == str(bare.home / "my models")
    assert said.json["binary"] == str(bare.home / server)
    assert [one["profile"] for one in said.json["profiles"]] == ["qwen3-new"]


def test_elsewhere_the_box_does_it_itself(
    bare: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proxy's program is there, and so is its path."""
    asked = []

    def on_the_box(box: Box, *words: str) -> None:
        asked.append((box.host.name, words))
        raise SystemExit(7)

    monkeypatch.setattr("llmctl.cli.init.open_box", lambda *_, **__: Box(FakeHost(name="attic")))
    monkeypatch.setattr("llmctl.cli.init.on_the_box", on_the_box)
    assert bare("init", "--host", "attic", "--models", "/srv/m", "--json").status == 7
    assert asked == [("attic", ("init", "--models", "/srv/m", "--json"))]


def test_what_a_person_says_is_taken_unless_a_file_says_it_already(bare: CommandLine) -> None:
    coder(bare.home, "elsewhere/Qwen3-Q4_K_M.gguf")
    said = bare("init", "--no-proxy", "--models", "~/elsewhere", "--json")
    assert said.json["models_dir"] == "~/elsewhere"
    assert [one["profile"] for one in said.json["profiles"]] == ["qwen3"]
    said = bare("init", "--models", "~/models")
    assert said.status == 2
    assert "config.yaml" in said.stderr
