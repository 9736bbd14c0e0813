"""cli/several.py: `--host` given more than once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import typer

from llmctl.cli.several import Told, ask_each, complain_of_each, leave, names_of, notes_of
from llmctl.core.progress import Note, Waiting
from llmctl.errors import HostError, ProfileError

if TYPE_CHECKING:
    from support.commandline import CommandLine

    from llmctl.engine.box import Box

DEAD = "ssh://127.0.0.1:1"  # nobody listens on tcpmux


def test_this_machine_is_meant_where_none_is_named() -> None:
    assert names_of(None) == names_of([]) == ["local"]
    assert names_of(["a", "b", "a"]) == ["a", "b"]


def test_one_box_answers_as_ever(llmctl: CommandLine) -> None:
    for command in ("status", "list", "off"):
        assert llmctl(command, "--host", "local", "--json").json == llmctl(command, "--json").json


def test_a_dead_box_is_a_row_of_status_and_the_rest_answers(llmctl: CommandLine) -> None:
    said = llmctl("status", "--host", "local", "--host", DEAD)
    header, here, there = said.stdout.splitlines()
    assert header.split()[:4] == ["BOX", "MODEL", "GROUP", "STATE"]
    assert here.split()[:4] == ["local", "-", "gpu", "stopped"]
    assert there.split()[:5] == [DEAD, "-", "-", "no", "answer"]
    assert f"error: {DEAD} refuses connections" in said.stderr
    assert said.status == HostError.exit_status


def test_a_dead_box_is_a_row_of_list_and_the_rest_answers(llmctl: CommandLine) -> None:
    said = llmctl("list", "--host", DEAD, "--host", "local")
    header, there, *here = said.stdout.splitlines()
    assert header.split()[:2] == ["BOX", "NAME"]
    assert there.split()[0] == DEAD
    assert "no answer" in there
    assert [row.split()[:2] for row in here] == [["local", "coder"], ["local", "gemma4"]]
    assert said.status == HostError.exit_status


def test_off_tells_what_it_did_on_each(llmctl: CommandLine) -> None:
    said = llmctl("off", "--host", "local", "--host", DEAD)
    assert said.stdout == "local: nothing was running\n"
    assert f"error: {DEAD} refuses connections" in said.stderr
    assert said.status == HostError.exit_status


@pytest.mark.parametrize("command", ["status", "list", "off"])
def test_json_holds_for_each_box_what_it_answers_alone(llmctl: CommandLine, command: str) -> None:
    said = llmctl(command, "--host", "local", "--host", DEAD, "--json")
    here, there = said.json["boxes"]
    assert here == {"host": "local", "answer": llmctl(command, "--json").json, "error": None}
    assert (there["host"], there["answer"]) == (DEAD, None)
    assert set(there["error"]) == {"message", "hint", "status"}
    assert said.status == there["error"]["status"] == HostError.exit_status


def test_the_variable_may_name_several(
    llmctl: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMCTL_HOST", f"local {DEAD}")
    assert [one["host"] for one in llmctl("status", "--json").json["boxes"]] == ["local", DEAD]


def test_problems_bear_the_name_of_their_box(llmctl: CommandLine) -> None:
    llmctl.profile("bad", "ctx: many\n")
    for command in ("status", "list"):
        assert "warning: local: " in llmctl(command, "--host", "local", "--host", DEAD).stderr


def test_an_error_bears_the_name_of_its_box_once(capsys: pytest.CaptureFixture[str]) -> None:
    errors = (HostError("big is gone."), HostError("systemctl stop failed."))
    complain_of_each([Told("big", answer=None, error=one) for one in errors])
    assert capsys.readouterr().err.splitlines() == [
        "error: big is gone.",
        "error: big: systemctl stop failed.",
    ]


def test_the_highest_status_is_that_of_the_command() -> None:
    failures: list[Told[int]] = [
        Told("a", answer=1, error=None),
        Told("b", answer=None, error=HostError("gone")),
        Told("c", answer=None, error=ProfileError("wrong")),
    ]
    leave(failures[:1])
    with pytest.raises(typer.Exit) as caught:
        leave(failures)
    assert caught.value.exit_code == HostError.exit_status


def test_a_bug_is_not_hidden() -> None:
    def broken(box: Box) -> None:
        raise ZeroDivisionError(box.host.name)

    with pytest.raises(ZeroDivisionError, match="local"):
        ask_each(["local"], broken)


def test_of_progress_only_notes_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    report = notes_of("big")
    report(Waiting("coder stops", 3.0))
    report(Note("a stranger holds the port"))
    assert capsys.readouterr().err == "warning: big: a stranger holds the port\n"


@pytest.mark.parametrize(
    "words", [["switch", "coder"], ["apply"], ["logs"], ["show", "coder", "--json"]]
)
def test_who_takes_one_box_takes_no_second(llmctl: CommandLine, words: list[str]) -> None:
    """Of two, the last alone would count, and nobody would be told."""
    said = llmctl(*words, "--host", DEAD, "--host=local")
    assert said.status == 2
    assert "expected one box; status, list and off take several" in said.stdout + said.stderr
    assert llmctl("apply", "--host", "local", "--host=local").status == 0
