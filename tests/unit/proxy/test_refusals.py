"""refusals.py: what is no request gets an answer, headers for its page, and a line in the log."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from support.proxybench import bench, served
from support.wire import answers_in

from llmctl.core.proxy_settings import ProxySettings
from llmctl.proxy import patience
from llmctl.proxy.request_log import RequestLog

if TYPE_CHECKING:
    from pathlib import Path

PAGE = "https://chat.example.org"
ORIGIN = b"Host: localhost\r\nOrigin: https://chat.example.org\r\n"
TWICE = b"Content-Length: 1\r\nContent-Length: 2\r\n"
CASES = {
    "garbage": (b"GET / SSH/2.0\r\n\r\n", 400, "other"),
    "an unknown method": (b"PROPFIND2 / HTTP/1.1\r\n\r\n", 501, "other"),
    "a long head": (b"GET / HTTP/1.1\r\nX: " + b"a" * (65 << 10), 431, "other"),
    "no host": (b"POST /v1/messages HTTP/1.1\r\nContent-Length: 1\r\n\r\n", 400, "messages"),
    "a foreign fault": (
        b"POST /v1/chat/completions HTTP/1.1\r\n%bExpect: more\r\nContent-Length: 1\r\n\r\n"
        % ORIGIN, 417, "chat",
    ),
}  # fmt: skip


def told(log: RequestLog, data: bytes, *, slow: bool = False) -> bytes:
    """What a client gets that sends this."""
    got = b""

    async def test() -> None:
        nonlocal got
        settings = ProxySettings(cors=(PAGE,))
        async with bench(served("coder"), ready="coder", settings=settings, log=log) as it:
            client = it.connect("10.0.0.9")
            client.send(data)
            if slow:
                now = it.proxy.now() + patience.HEAD_TIMEOUT_S + 1
                it.proxy.now = lambda: now
                it.proxy.pulse()
            got = client.got

    asyncio.run(test())
    return got


def entry(log: RequestLog) -> dict[str, Any]:
    log.flush()
    (line,) = log.numbered(0).read_text().splitlines()
    found = json.loads(line)
    assert isinstance(found, dict)
    return found


@pytest.fixture
def log(tmp_path: Path) -> RequestLog:
    return RequestLog(str(tmp_path / "requests.jsonl"))


@pytest.mark.parametrize("name", CASES)
def test_it_is_noted_down(log: RequestLog, name: str) -> None:
    data, status, endpoint = CASES[name]
    ((answer, _),) = answers_in(told(log, data))
    assert answer.status_code == status
    assert (b"connection", b"close") in answer.headers
    one = entry(log)
    assert (one["status"], one["endpoint"], one["peer"]) == (status, endpoint, "10.0.0.9")
    assert one["outcome"] == ("head_too_large" if status == 431 else "bad_request")
    assert one["served"] is None


def test_a_page_that_may_ask_may_read_why_not(log: RequestLog) -> None:
    ((answer, _),) = answers_in(told(log, CASES["a foreign fault"][0]))
    assert (b"access-control-allow-origin", PAGE.encode()) in answer.headers
    assert (b"vary", b"Origin") in answer.headers


def test_a_head_that_never_ends_is_noted_down_with_its_time(log: RequestLog) -> None:
    ((answer, _),) = answers_in(told(log, b"GET / HT", slow=True))
    assert answer.status_code == 408
    one = entry(log)
    assert one["outcome"] == "too_slow"
    assert one["total_s"] >= patience.HEAD_TIMEOUT_S
