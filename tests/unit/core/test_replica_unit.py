"""core/replica_unit.py: what further instances of a profile are started with."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.systemd_syntax import exec_words, values

from llmctl.core.profile import Profile
from llmctl.core.profile_parts import Replicas
from llmctl.core.replica_unit import (
    has_replicas,
    replica_argv,
    replica_context,
    replica_port,
    thread_share,
)
from llmctl.core.unit import Owner, Placement, read_header, render_unit
from llmctl.store.data import template

if TYPE_CHECKING:
    from pathlib import Path

NASTY = st.text(alphabet="a \t\n\\\"'$%{}#;@=-é~`()*", max_size=12)


def profile(most: int = 3, **keys: object) -> Profile:
    return Profile(name="a", model="m.gguf", replicas=Replicas(max=most), **keys)  # type: ignore[arg-type]


def rendered(argv: tuple[str, ...], *, most: int = 3, log_file: str | None = None) -> str:
    place = Placement(12340, rivals=("llm-b.service",), log_file=log_file)
    variables = replica_context(profile(most), argv, place)
    text = template("llm@.service")
    return render_unit("llm-a@.service", text, variables, version="1").text


def argv_of(program: str, *words: str) -> tuple[str, ...]:
    return (program, "--host", "127.0.0.1", "--port", "12340", *words)


def run(text: str, number: int) -> subprocess.CompletedProcess[bytes]:
    """What systemd would execute for that instance."""
    value = values(text, "ExecStart")[0]
    words = exec_words(value.replace(" %i ", f" {number} ", 1))
    return subprocess.run(words, env={"PATH": os.environ["PATH"]}, capture_output=True, timeout=20)


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bin") / "llama server"
    path.write_text(f"#!{sys.executable}\nimport sys; print(sys.argv[1:])\n", "utf-8")
    path.chmod(0o755)
    return path


@given(words=st.lists(NASTY, max_size=6), number=st.integers(2, 3))
@settings(max_examples=25, deadline=None)
def test_the_server_gets_the_firsts_words_and_a_port_of_its_own(
    echo: Path, words: list[str], number: int
) -> None:
    done = run(rendered(argv_of(str(echo), *words)), number)
    expected = ["--host", "127.0.0.1", *words, "--port", str(12340 + number)]
    assert done.stdout.decode().strip() == str(expected)


@pytest.mark.parametrize("number", [-1, 0, 1, 4, 64])
def test_other_numbers_start_nothing(echo: Path, number: int) -> None:
    done = run(rendered(argv_of(str(echo))), number)
    assert done.returncode != 0
    assert done.stdout == b""


def test_it_goes_with_the_first_and_knows_no_rivals() -> None:
    text = rendered(argv_of("/b"))
    assert values(text, "BindsTo") == values(text, "After") == ["llm-a.service"]
    assert values(text, "Conflicts") == values(text, "Before") == []
    assert values(text, "Restart") == ["no"]
    assert "[Install]" not in text
    header = read_header(text)
    assert (header.owner, header.port, header.group) == (Owner.OURS, 12340, "gpu")


def test_each_has_a_log_of_its_own() -> None:
    text = rendered(argv_of("/b"), log_file="/home 100%/logs/a.log")
    assert values(text, "StandardOutput") == ["append:/home 100%%/logs/a@%i.log"]


def test_threads_are_shared() -> None:
    assert thread_share(profile(3, threads=7)) == 2
    assert thread_share(profile(3, threads=1)) == 1
    assert thread_share(profile(3)) is None
    words = ("/b", "--port", "1", "-t", "7", "--x", "-t")
    assert replica_argv(words, threads=2) == ("/b", "-t", "2", "--x", "-t")


def test_ports_follow_the_firsts() -> None:
    assert [replica_port(12340, number) for number in (1, 2, 3)] == [12340, 12342, 12343]


def test_one_instance_is_no_replica() -> None:
    assert not has_replicas(profile(1))
    assert has_replicas(profile(2))
