"""far.py: models of other boxes, asked over real sockets; their keys."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING

import pytest
from kit.waiting import until
from msgspec.structs import replace
from support.asking import Reply, ask, question
from support.chains import Models, model
from support.commandline import CommandLine
from support.liar import DIES, Liar
from support.streams import recorded

from llmctl.core.proxy_settings import ProxySettings
from llmctl.proxy.client import Client
from llmctl.proxy.far import FarPool, ctx_of, head_for
from llmctl.proxy.head import Request
from llmctl.proxy.keeper import LocalKeeper
from llmctl.proxy.keys import Keyring, parse_keys
from llmctl.proxy.pool import Listener
from llmctl.proxy.routing import Far, Served
from llmctl.proxy.server import Proxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from llmctl.proxy.keeper import Seen
    from llmctl.proxy.upstream import Upstream

KEY = "sk-0123456789abcdef"
OVERFLOW = (
    b'{"error":{"code":400,"message":"too long","type":"exceed_context_size_error",'
    b'"n_prompt_tokens":5000,"n_ctx":4096}}'
)


def said(status: int, body: bytes) -> bytes:
    return b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
        status,
        len(body),
        body,
    )


STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
CHAT = recorded("chat")
STREAMED = STREAM + b"%x\r\n%b\r\n0\r\n\r\n" % (len(CHAT), CHAT)


class Keyed(Models):
    """A box whose clients need keys."""

    def look(self) -> Seen:
        keys = parse_keys(f"- {{name: box, key: {KEY}}}\n", file="keys")
        return replace(super().look(), keys=Keyring(keys))


@contextlib.asynccontextmanager
async def box(
    *served: Served, keyed: bool = False, at: socket.socket | None = None
) -> AsyncIterator[int]:
    """Another box's proxy, or ours; its port. at: where it listens."""
    kind = Keyed if keyed else Models
    proxy = Proxy(kind(*served, settings=ProxySettings()))
    await proxy.board.look()
    proxy.board.doubt = lambda _: None  # type: ignore[method-assign,assignment]
    at = at or socket.create_server(("127.0.0.1", 0))
    server = await asyncio.get_running_loop().create_server(lambda: Client(proxy), sock=at)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for client in list(proxy.clients):
            client.abort()
        for pool in proxy.board.pools._pools.values():
            pool.close_idle()
        await asyncio.sleep(0)


def attic(port: int, *, name: str = "coder", key: str | None = None) -> Far:
    return Far(box="attic", host="127.0.0.1", port=port, model=name, key=key)


def asked(
    liar: Liar, there: Liar, request: bytes, *, keyed: bool = False, key: str | None = None,
    ctx: int = 4096, ctx_there: int = 4096, name: str = "coder", more: tuple[Served, ...] = (),
) -> Reply:  # fmt: skip
    """Two boxes; what a client of ours reads. Its model is `a`, which may be answered by the other
    box's `coder`."""

    async def play() -> Reply:
        async with liar, there:
            coder = model("coder", port=there.port, ctx=ctx_there, aliases=("nick",))
            async with box(coder, keyed=keyed) as port:
                far = attic(port, name=name, key=key)
                mine = model("a", far, *(one.name for one in more), port=liar.port, ctx=ctx)
                async with box(mine, *more) as here:
                    return await ask(here, request)

    return asyncio.run(play())


def named(name: str) -> bytes:
    return said(200, b'{"object":"list","data":[{"id":"%b"}]}' % name.encode())


def failing(answer: bytes = said(500, b'{"error":{"code":500,"message":"no memory"}}')) -> Liar:
    return Liar([answer], named=(named("a"),))


@pytest.mark.parametrize("keyed", [False, True])
@pytest.mark.parametrize("stream", [False, True])
def test_another_box_answers(keyed: bool, stream: bool) -> None:
    there = Liar([STREAMED if stream else said(200, b'{"model":"coder"}')])
    reply = asked(
        failing(), there, question("a", stream=stream), keyed=keyed, key=KEY if keyed else None
    )
    assert (reply.status, reply.served_by) == (200, "attic/coder")
    assert reply.header("x-fallback-from") == "a"
    assert reply.body == (CHAT if stream else b'{"model":"coder"}')
    ((head, _),) = there.heard
    assert head.startswith(b"POST /v1/chat/completions HTTP/1.1\r\n")
    assert KEY.encode() not in head


def test_a_box_that_wants_a_key_and_gets_none_is_no_answer() -> None:
    there = Liar([said(200, b"{}")])
    reply = asked(failing(), there, question("a"), keyed=True)
    assert (reply.status, reply.served_by) == (500, "a")
    assert not there.heard


def test_a_model_that_is_not_there_is_no_answer() -> None:
    reply = asked(failing(), Liar([said(200, b"{}")]), question("a"), name="other")
    assert (reply.status, reply.served_by) == (500, "a")


def test_an_alias_there_is_resolved_there() -> None:
    there = Liar([said(200, b'{"model":"coder"}')])
    reply = asked(failing(), there, question("a"), name="nick")
    assert reply.served_by == "attic/coder"


@pytest.mark.parametrize(("ctx_there", "status"), [(16384, 200), (4096, 400)])
def test_an_overflow_goes_there_if_it_is_larger(ctx_there: int, status: int) -> None:
    there = Liar([said(200, b'{"model":"coder"}')])
    reply = asked(failing(said(400, OVERFLOW)), there, question("a"), ctx_there=ctx_there)
    assert reply.status == status
    assert reply.served_by == ("attic/coder" if status == 200 else "a")
    assert len(there.heard) == (status == 200)
    assert (reply.body == OVERFLOW) == (status == 400)


def test_two_boxes_that_stand_in_for_each_other_do_not_go_round() -> None:
    """The other one is asked by name, and so follows no chain of its own."""

    async def play() -> tuple[Reply, int, int]:
        at = socket.create_server(("127.0.0.1", 0))
        back = attic(at.getsockname()[1], name="a")
        liar, there = failing(), Liar([DIES], named=(named("coder"),))
        async with (
            liar, there,
            box(model("coder", back, port=there.port)) as port,
            box(model("a", attic(port), port=liar.port), at=at) as here,
        ):  # fmt: skip
            reply = await ask(here, question("a"))
            return reply, len(liar.heard), len(there.heard)

    reply, here, there = asyncio.run(play())
    assert (reply.status, reply.served_by) == (500, "a")
    assert (here, there) == (1, 3)


def test_a_box_that_is_off_or_unknown_is_no_answer() -> None:
    async def play(far: Far) -> Reply:
        async with failing() as liar, box(model("a", far, port=liar.port)) as here:
            return await ask(here, question("a"))

    for host in ("127.0.0.1", "no-such-box.invalid"):
        reply = asyncio.run(play(Far(box="attic", host=host, port=1, model="coder")))
        assert (reply.status, reply.served_by) == (500, "a")


def test_what_a_browser_says_of_its_page_is_not_passed_on() -> None:
    headers = (
        (b"Host", b"here"), (b"Origin", b"https://chat.example"), (b"Cookie", b"x=1"),
        (b"Authorization", b"Bearer mine"), (b"X-Llmctl-Guard", b"off"), (b"X-Mine", b"1"),
    )  # fmt: skip
    request = Request(b"POST", b"/v1/messages", b"beta=true", "1.1", headers)
    far = Far(box="attic", host="fd7a::2", port=99, model="coder", key="k")
    served = Served(name="attic/coder", group=None, port=99, far=far)
    assert head_for(request, b"/v1/messages", served, 7).split(b"\r\n") == [
        b"POST /upstream/coder/v1/messages?beta=true HTTP/1.1", b"Host: [fd7a::2]:99",
        b"X-Llmctl-Guard: off", b"X-Mine: 1", b"Authorization: Bearer k", b"Content-Length: 7",
        b"", b"",
    ]  # fmt: skip


def test_a_context_that_is_not_told() -> None:
    async def play() -> int | None:
        async with box(model("coder")) as port:
            return await ctx_of(FarPool(attic(port, name="other")))

    assert asyncio.run(play()) is None


@pytest.mark.parametrize("is_asked", [False, True], ids=["it was idle", "it was used again"])
def test_a_box_that_ends_one_connection_after_a_stream_keeps_the_others(*, is_asked: bool) -> None:
    """Its proxy was to end. A llama-server would end each (see Pool)."""

    async def play() -> None:
        async with Liar([STREAMED], [DIES]) as liar:
            pool = FarPool(attic(liar.port))
            upstream = await taken(pool)
            for status in (200, 0) if is_asked else (200,):
                heard = Listener()
                upstream.send(pool.get("/"), None, heard)
                assert (await heard.heard)[0] == status
            for writer in liar.open:
                writer.close()
            await until(lambda: not upstream.is_open)
            assert not pool.ends_streams
            assert liar.connections == 1

    asyncio.run(play())


async def taken(pool: FarPool) -> Upstream:
    """A connection of its."""
    found: asyncio.Future[Upstream] = asyncio.get_running_loop().create_future()
    pool.take(found.set_result, lambda why: found.set_exception(OSError(why)))
    return await found


# config.yaml


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    made = CommandLine(tmp_path, monkeypatch)
    made.profile("a", "fallback: [attic/coder, b, attic/nick]\n")
    made.profile("b")
    return made


def configure(home: CommandLine, key: str | None, *, mode: int = 0o600) -> None:
    (home.config_dir / "config.yaml").write_text(
        "boxes: {attic: {url: 'http://attic', key_file: attic.key}}\n"
    )
    if key is not None:
        path = home.config_dir / "attic.key"
        path.write_text(key)
        path.chmod(mode)


def test_the_keeper_knows_the_boxes_and_their_keys(home: CommandLine) -> None:
    configure(home, f"{KEY}\n")
    seen = LocalKeeper().look()
    far = Far(box="attic", host="attic", port=1234, key=KEY, model="coder")
    (found,) = (one for one in seen.served if one.name == "a")
    assert (found.fallback[:2], seen.problems) == ((far, "b"), ())


@pytest.mark.parametrize(("key", "mode", "text"), [
    (None, 0, "there is no such file (boxes: key_file in config.yaml)"),
    (KEY, 0o644, "others may read it (mode 0644); type: chmod 600"),
    ("", 0o600, "expected one API key"), ("two keys\n", 0o600, "expected one API key"),
    ("k\u00e9y", 0o600, "or is no key"),
])  # fmt: skip
def test_a_box_whose_key_cannot_be_had_is_left_out(
    home: CommandLine, key: str | None, mode: int, text: str
) -> None:
    configure(home, key, mode=mode)
    seen = LocalKeeper().look()
    (found,) = (one for one in seen.served if one.name == "a")
    assert found.fallback == ("b",)
    assert text in seen.problems[0]
    assert KEY not in seen.problems[0]
