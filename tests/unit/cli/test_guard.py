"""cli/guard.py: `llmctl guard log`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from support.commandline import CommandLine

from llmctl.cli.guard import row

if TYPE_CHECKING:
    from pathlib import Path

ENTRY: dict[str, Any] = {
    "time": "2026-11-21T12:00:00.123Z", "key": "laptop", "endpoint": "chat", "model": "coder",
    "kind": "tool", "channel": None, "step": "forbid", "outcome": "nudged", "attempt": None,
    "block": 2, "copies": 5.0, "held_characters": 0, "saved_tokens": 0, "tools": ["read", "run"],
    "sample": None,
}  # fmt: skip


@pytest.fixture
def llmctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    return CommandLine(tmp_path, monkeypatch)


def write(llmctl: CommandLine, *entries: dict[str, Any]) -> None:
    path = llmctl.home / ".local/state/llmctl/guard.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text("".join(json.dumps(one) + "\n" for one in entries))


def test_findings_are_rows(llmctl: CommandLine) -> None:
    write(llmctl, ENTRY)
    header, line = llmctl("guard", "log").stdout.splitlines()
    assert header.split()[:4] == ["TIME", "MODEL", "ENDPOINT", "KIND"]
    assert line.split() == [
        "2026-11-21", "12:00:00", "coder", "chat", "tool", "-", "forbid", "nudged", "5", "2", "0",
        "read,", "run",
    ]  # fmt: skip


def test_what_is_not_known_is_a_dash() -> None:
    assert row({}) == ("-",) * 11


def test_the_last_ones_are_shown(llmctl: CommandLine) -> None:
    write(llmctl, *({**ENTRY, "block": n} for n in range(30)))
    assert len(llmctl("guard", "log").stdout.splitlines()) == 21
    told = llmctl("guard", "log", "-n", "2", "--json").json
    assert [one["block"] for one in told] == [28, 29]


def test_json_is_what_the_log_has(llmctl: CommandLine) -> None:
    write(llmctl, ENTRY)
    assert llmctl("guard", "log", "--json").json == [ENTRY]


def test_nothing_is_said_to_be_nothing(llmctl: CommandLine) -> None:
    assert "has found nothing" in llmctl("guard", "log").stderr
    assert llmctl("guard", "log", "--json").json == []


def test_following_prints_what_comes(llmctl: CommandLine) -> None:
    llmctl.program("tail", f"echo '{json.dumps(ENTRY)}'")
    header, line = llmctl("guard", "log", "-f").stdout.splitlines()
    assert header.index("TOOLS") == line.index("read")
    assert json.loads(llmctl("guard", "log", "-f", "--json").stdout) == ENTRY
