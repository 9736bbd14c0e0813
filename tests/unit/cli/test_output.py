"""cli/output.py: stdout is the answer, stderr is the conversation."""

from __future__ import annotations

import io
import json

import pytest

from llmctl.cli import output
from llmctl.errors import HostError, NothingRunsError, SwitchError


class Terminal(io.StringIO):
    """A stream that somebody watches."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("count", "text"),
    [(None, "-"), (0, "0 MiB"), (512 << 20, "512 MiB"), (1 << 30, "1.0 GiB"),
     (int(1.94 * (1 << 30)), "1.9 GiB"), ((1 << 30) - 1, "1024 MiB")],
)  # fmt: skip
def test_bytes_for_people(count: int | None, text: str) -> None:
    assert output.gib(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (0.0, "0s"), (59.9, "59s"), (60.0, "1m 0s"), (184.0, "3m 4s"),
     (7500.0, "2h 5m"), (3600.0, "1h 0m"), (273600.0, "3d 4h")],
)  # fmt: skip
def test_seconds_for_people(seconds: float | None, text: str) -> None:
    assert output.duration(seconds) == text


def test_a_table_in_a_pipe_is_plain(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(("NAME", "STATE"), [("coder", "ready"), ("a", "x")])
    assert capsys.readouterr().out == "NAME   STATE\ncoder  ready\na      x\n"


def test_a_table_without_rows_has_its_header(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(("NAME", "STATE"), [])
    assert capsys.readouterr().out == "NAME  STATE\n"


def test_a_cell_is_never_markup_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr("sys.stdout", screen)
    monkeypatch.setenv("TERM", "xterm")
    output.table(("MODEL",), [("/models/[abliterated]/[/bold]:smile:.gguf",)])
    assert "/models/[abliterated]/[/bold]:smile:.gguf" in screen.getvalue()


def test_a_narrow_terminal_cuts_nothing_off(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr("sys.stdout", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("NO_COLOR", "1")
    path = "models/Qwen3-Coder-30B-A3B-Instruct-Q4_K_M.gguf"
    output.table(("FILE", "PARAMS"), [(path, "116.8B-A5.7B")])
    lines = screen.getvalue().splitlines()[1:]
    assert max(map(len, lines)) <= 40
    assert "116.8B-A5.7B" in lines[0]
    assert "".join(line.replace("116.8B-A5.7B", "").strip() for line in lines) == path


@pytest.mark.parametrize(
    ("cell", "colour"),
    [("fits, ctx 8192", "\x1b[32m"), ("no: 3.2 GiB too much", "\x1b[31m"), ("fitsx", "")],
)
def test_a_cell_has_the_colour_of_the_word_it_begins_with(
    monkeypatch: pytest.MonkeyPatch, cell: str, colour: str
) -> None:
    screen = Terminal()
    monkeypatch.setattr("sys.stdout", screen)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    output.table(("A",), [(cell,)])
    assert f"\n{colour}{cell}" in screen.getvalue()


def test_an_entry_of_a_log_is_one_line_on_any_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr("sys.stdout", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "40")
    entry = ("2026-11-21 14:07:41", "chat", "a" * 20, "ok")
    output.table(("TIME", "ENDPOINT", "ASKED", "OUTCOME"), [entry], folds=False)
    lines = [line.split() for line in screen.getvalue().splitlines()]
    assert lines[1:] == [" ".join(entry).split()]


def test_colours_are_left_out_when_nobody_wants_them(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr("sys.stdout", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    output.table(("STATE",), [("ready",)])
    assert "\x1b[3" not in screen.getvalue()


@pytest.mark.parametrize(("term", "yes"), [("xterm", True), ("dumb", False)])
def test_a_dumb_terminal_is_like_a_pipe(
    monkeypatch: pytest.MonkeyPatch, term: str, yes: bool
) -> None:
    monkeypatch.setenv("TERM", term)
    assert output.is_terminal(Terminal()) is yes


def test_json_is_readable_and_keeps_letters(capsys: pytest.CaptureFixture[str]) -> None:
    output.answer_json({"name": "Zoë", "list": [1]})
    said = capsys.readouterr().out
    assert "Zoë" in said
    assert json.loads(said) == {"name": "Zoë", "list": [1]}


def test_an_error_and_its_hint_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    output.complain(HostError("it is so.", hint="Do this."), as_json=False)
    assert capsys.readouterr() == ("", "error: it is so.\nhint: Do this.\n")


@pytest.mark.parametrize(
    ("words", "typed"),
    [
        (["status", "--host", "big"], "llmctl status --host big"),
        (["status", "--host=big"], "llmctl status --host big"),
        (["status", "--host", "a", "--host", "b"], "llmctl status"),
        (["status"], "llmctl status"),
    ],
)
def test_what_is_to_be_typed_is_meant_for_the_same_box(
    words: list[str],
    typed: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.argv", ["llmctl", *words])
    error = HostError("it is so.", hint="Run `llmctl status`.")
    output.complain(error, as_json=False)
    output.complain(error, as_json=True)
    said = capsys.readouterr()
    assert f"hint: Run `{typed}`.\n" in said.err
    assert json.loads(said.out)["error"]["hint"] == f"Run `{typed}`."


def test_the_servers_last_words_come_before_the_error(capsys: pytest.CaptureFixture[str]) -> None:
    output.complain(SwitchError("it is so.", evidence=["a", "b"]), as_json=False)
    assert capsys.readouterr().err == "  | a\n  | b\nerror: it is so.\n"


def test_of_many_last_words_the_last_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    output.complain(SwitchError("x", evidence=[f"line {n}" for n in range(200)]), as_json=False)
    shown = capsys.readouterr().err.splitlines()
    assert shown[-2] == "  | line 199"
    assert len(shown) < 25


def test_an_error_as_json_goes_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    output.complain(NothingRunsError("it is so.", evidence=["a"]), as_json=True)
    said = capsys.readouterr()
    assert json.loads(said.out) == {
        "error": {"message": "it is so.", "hint": None, "status": 7, "evidence": ["a"]}
    }
    assert said.err == ""


def test_a_failure_ends_with_its_status(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught, output.guarded():
        raise HostError("it is so.")
    assert caught.value.code == 5
    assert capsys.readouterr().err == "error: it is so.\n"


def test_a_bug_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError), output.guarded():
        raise ZeroDivisionError
