"""cli/requests.py: `llmctl requests`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from support.commandline import CommandLine

from llmctl.cli.requests import row

if TYPE_CHECKING:
    from pathlib import Path

ENTRY: dict[str, Any] = {
    "time": "2026-11-20T12:00:00.123Z", "key": "laptop", "peer": "127.0.0.1", "endpoint": "chat",
    "asked": "gpt-4", "served": "coder", "stream": True, "status": 200, "outcome": "ok",
    "queue_s": 0.25, "ttft_s": 0.31, "total_s": 12.04, "tokens_in": 100, "tokens_out": 20,
    "tokens_per_s": 50.51, "draft_tokens": None, "draft_accepted": None,
}  # fmt: skip


@pytest.fixture
def llmctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    return CommandLine(tmp_path, monkeypatch)


def write(llmctl: CommandLine, *entries: dict[str, Any]) -> None:
    path = llmctl.home / ".local/state/llmctl/requests.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text("".join(json.dumps(one) + "\n" for one in entries))


def test_requests_are_rows(llmctl: CommandLine) -> None:
    write(llmctl, ENTRY)
    header, line = llmctl("requests").stdout.splitlines()
    assert header.split()[:5] == ["TIME", "KEY", "ENDPOINT", "ASKED", "SERVED"]
    assert line.split() == [
        "2026-11-20", "12:00:00", "laptop", "chat", "gpt-4", "coder", "100", "20", "250", "ms",
        "310", "ms", "12.0", "s", "50.5", "-", "ok",
    ]  # fmt: skip


def test_what_is_not_known_is_a_dash() -> None:
    assert row({}) == ("-",) * 13


def test_the_last_ones_are_shown(llmctl: CommandLine) -> None:
    write(llmctl, *({**ENTRY, "tokens_in": n} for n in range(30)))
    assert len(llmctl("requests").stdout.splitlines()) == 21
    told = llmctl("requests", "-n", "2", "--json").json
    assert [one["tokens_in"] for one in told] == [28, 29]


def test_json_is_what_the_log_has(llmctl: CommandLine) -> None:
    write(llmctl, ENTRY)
    assert llmctl("requests", "--json").json == [ENTRY]


def test_nothing_is_said_to_be_nothing(llmctl: CommandLine) -> None:
    told = llmctl("requests")
    assert "has noted down no requests" in told.stderr
    assert llmctl("requests", "--json").json == []


def test_following_prints_what_comes(
    llmctl: CommandLine, capfd: pytest.CaptureFixture[str]
) -> None:
    llmctl.program("tail", f"echo 'it has become inaccessible' >&2; echo '{json.dumps(ENTRY)}'")
    header, line = llmctl("requests", "-f").stdout.splitlines()
    assert "inaccessible" not in capfd.readouterr().err  # a rotated file is no news for a person
    assert header.index("OUTCOME") == line.rindex("ok")
    assert json.loads(llmctl("requests", "-f", "--json").stdout) == ENTRY
