"""aside.py, looker.py: large bodies are understood in another process, and as small ones are."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING

import pytest
from support.asking import ask, until
from support.liar import Liar, proxied

from llmctl.proxy import aside
from llmctl.proxy.asked import Asked, asked
from llmctl.proxy.dialect import OTHER, Endpoint, Trouble, endpoint_of
from llmctl.proxy.head import Request
from llmctl.proxy.spool import Spool

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from llmctl.proxy.looker import Question

JSON = b"application/json"
CHAT = endpoint_of(b"/v1/chat/completions")
PAD = b'"x":"' + b"\\n" * (aside.LARGE // 2) + b'"'
BODIES = {
    "a chat": b'{"model":"coder",%b,"stream":true}' % PAD,
    "no model": b"{%b}" % PAD,
    "a model that is none": b'{"model":1,%b}' % PAD,
    "cut short": b'{"model":"coder",%b' % PAD,
    "binary": bytes(range(256)) * (aside.LARGE // 200),
    "too deep": b"[" * (aside.LARGE + 9),
    "no object": b"[%b]" % PAD[4:],
    "a name that is long and foreign": json.dumps({"model": "\u00e9" * 400}).encode()[:-1]
    + b",%b}" % PAD,
}  # fmt: skip


_made: list[Spool] = []


@pytest.fixture(autouse=True)
def files() -> Iterator[None]:
    yield
    while _made:
        _made.pop().close()


def spooled(data: bytes) -> Spool:
    _made.append(Spool())
    _made[-1].write(data)
    return _made[-1]


def request(kind: bytes | None = JSON, method: bytes = b"POST") -> Request:
    head = () if kind is None else ((b"Content-Type", kind),)
    return Request(method, b"/v1/chat/completions", b"", "1.1", head)


async def looked(one: Request, endpoint: Endpoint, body: Spool | None) -> Asked | Trouble:
    found: asyncio.Future[Asked | Trouble] = asyncio.get_running_loop().create_future()
    aside.look(one, endpoint, body, found.set_result)
    return await asyncio.wait_for(found, 60)


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def whole() -> None:
        await test()

    asyncio.run(whole())


def nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is looked at here fails the test."""
    monkeypatch.setattr(aside, "asked", lambda *_: pytest.fail("it was looked at here"))


@pytest.mark.parametrize("name", BODIES)
def test_a_large_body_is_understood_as_a_small_one_is(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere_else(monkeypatch)

    async def test() -> None:
        body = spooled(BODIES[name])
        assert body.nbytes > aside.LARGE
        assert await looked(request(), CHAT, body) == asked(request(), CHAT, body.whole())

    run(test)


@pytest.mark.parametrize("kind", [None, b"text/plain", b"multipart/form-data; boundary=x", JSON])
@pytest.mark.parametrize("endpoint", [CHAT, OTHER])
def test_the_head_counts_as_well(kind: bytes | None, endpoint: Endpoint) -> None:
    async def test() -> None:
        body, one = spooled(BODIES["cut short"]), request(kind, b"PUT")
        assert await looked(one, endpoint, body) == asked(one, endpoint, body.whole())

    run(test)


def test_a_small_one_is_understood_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aside, "spawn", lambda *_, **__: pytest.fail("it was looked at aside"))
    found: list[Asked | Trouble] = []
    aside.look(request(), CHAT, spooled(b'{"model":"a"}'), found.append)
    aside.look(request(), CHAT, spooled(b'{"model":"b",%b}' % PAD[:-999] + b'"'), found.append)
    aside.look(request(method=b"GET"), CHAT, None, found.append)
    assert found[0] == Asked("a")
    assert isinstance(found[1], Trouble)
    assert found[2] == Asked()


def test_where_no_process_can_be_started_it_is_understood_here(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def test() -> None:
        for program in ("/nonexistent/python", "/bin/false"):
            monkeypatch.setattr(sys, "executable", program)
            assert await looked(request(), CHAT, spooled(BODIES["a chat"])) == Asked("coder", True)
        assert capsys.readouterr().err.count("no process") == 2

    run(test)


def test_one_that_takes_too_long_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aside, "TIMEOUT_S", 0.0)

    async def test() -> None:
        found = await looked(request(), CHAT, spooled(BODIES["a chat"]))
        assert isinstance(found, Trouble)
        assert (found.status, found.kind) == (503, "busy")

    run(test)


def test_few_are_looked_at_at_once_and_those_that_have_gone_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def test() -> None:
        going, may_end = [0], asyncio.Event()

        async def slow(question: Question, descriptor: int) -> Asked:
            del question, descriptor
            going[0] += 1
            await may_end.wait()
            return Asked("coder")

        monkeypatch.setattr(aside, "_ask", slow)
        found: list[Asked | Trouble] = []
        bodies = [spooled(BODIES["a chat"]) for _ in range(5)]
        for body in bodies:
            aside.look(request(), CHAT, body, found.append)

        async def are_full() -> bool:
            return going[0] == aside.AT_ONCE

        await until(are_full)
        bodies[-1].close()
        may_end.set()

        async def are_done() -> bool:
            return len(found) == 4

        await until(are_done)
        assert going == [4]

    run(test)


@pytest.mark.parametrize("name", ["a chat", "cut short"])
def test_a_client_gets_its_answer(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere_else(monkeypatch)
    says = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"

    async def test() -> None:
        async with Liar([says]) as liar, proxied(liar) as (_, port):
            body = BODIES[name]
            sent = b"%bContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (
                head, len(body),
            )  # fmt: skip
            reply = await ask(port, sent + body)
            if name == "a chat":
                assert (reply.status, reply.body) == (200, b"{}")
                assert liar.heard[0][1] == body
            else:
                assert (reply.status, reply.error) == (400, "llmctl_invalid_json")

    run(test)
