"""What is told of requests that have ended: all of it, though not at once."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest
from support.wire import Wire

from llmctl.proxy.journal import _MOST_ENDED
from llmctl.proxy.request_log import RequestLog

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.wire import MemoryTransport

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
BODY = b'{"model":"coder"}'
ASK = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b"
    % (len(BODY), BODY)
)  # fmt: skip


@pytest.fixture
def wire() -> Iterator[Wire]:
    with Wire() as made:
        yield made


def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has ended waits, as on a loop."""
    monkeypatch.setattr("llmctl.proxy.journal.asyncio.get_running_loop", NoTime)


class NoTime:
    def call_later(self, *_: object) -> None:
        """It never comes."""


def asked(wire: Wire) -> MemoryTransport:
    client = wire.connect()
    client.sends(ASK)
    wire.server().says(OK)
    assert client.heard.startswith(b"HTTP/1.1 200 OK")
    return client


def counted(wire: Wire) -> int:
    client = wire.connect()
    client.sends(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
    found = re.findall(rb'llmctl_requests_total\{[^}]*"coder"[^}]*\} (\d+)', bytes(client.heard))
    return sum(map(int, found))


def test_a_look_at_the_numbers_misses_nothing(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    later(monkeypatch)
    for number in range(1, _MOST_ENDED + 3):
        asked(wire)
        assert counted(wire) == number


def test_many_that_have_ended_are_noted_without_a_look(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    later(monkeypatch)
    for _ in range(_MOST_ENDED):
        assert len(wire.proxy.journal._ended) < _MOST_ENDED
        asked(wire)
    assert not wire.proxy.journal._ended


def test_who_watches_is_told_at_once_and_of_nothing_that_was_before(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    later(monkeypatch)
    asked(wire)
    watcher = wire.connect()
    watcher.sends(b"GET /llmctl/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
    asked(wire)
    told = [json.loads(one) for one in re.findall(rb'data: (\{"ticket".*)', bytes(watcher.heard))]
    assert [one["state"] for one in told] == ["began", "admitted", "ended"]
    assert len({one["ticket"] for one in told}) == 1


def test_what_has_just_ended_is_written_at_the_end(
    wire: Wire, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    journal = wire.proxy.journal
    journal.log = RequestLog(str(tmp_path / "requests.jsonl"))
    later(monkeypatch)
    asked(wire)
    monkeypatch.undo()
    wire._runner.run(journal.write())
    (line,) = (tmp_path / "requests.jsonl").read_text().splitlines()
    assert json.loads(line)["served"] == "coder"
