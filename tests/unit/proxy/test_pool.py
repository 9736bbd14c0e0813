"""pool.py: connections that know whose they are, on real sockets."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest
from kit.waiting import until
from support.liar import DIES, ENDS, HANGS, NAMED, Liar

from llmctl.proxy import pool as pool_module
from llmctl.proxy.pool import IDLE_S, Listener, Pool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from llmctl.proxy.upstream import Upstream


class Taken:
    """What `take` gave."""

    def __init__(self) -> None:
        self.upstream: Upstream | None = None
        self.why: str | None = None

    def connected(self, upstream: Upstream) -> None:
        self.upstream = upstream

    def failed(self, why: str) -> None:
        self.why = why

    @property
    def is_there(self) -> bool:
        return self.upstream is not None or self.why is not None


async def take(pool: Pool, *, fresh: bool = False) -> Taken:
    taken = Taken()
    pool.take(taken.connected, taken.failed, fresh=fresh)
    await until(lambda: taken.is_there)
    return taken


@contextlib.asynccontextmanager
async def pooled(liar: Liar) -> AsyncIterator[Pool]:
    async with liar:
        pool = Pool("coder", liar.port, "secret")
        yield pool
        pool.close_idle()


def test_a_connection_is_used_again_while_it_is_young() -> None:
    async def scenario() -> None:
        async with pooled(Liar([NAMED])) as pool:
            one = (await take(pool)).upstream
            assert one is not None
            pool.released(one)
            assert (await take(pool)).upstream is one
            assert (await take(pool)).upstream is not one
            pool.released(one)
            assert (await take(pool, fresh=True)).upstream is not one
            now = pool._now()
            pool._now = lambda: now + IDLE_S + 1
            assert (await take(pool)).upstream is not one
            assert not one.is_open

    asyncio.run(scenario())


def test_the_youngest_is_used_first_and_few_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        liar = Liar([NAMED])
        async with pooled(liar) as pool:
            made = [(await take(pool)).upstream for _ in range(3)]
            for one in made:
                assert one is not None
                pool.released(one)
            await until(lambda: len(liar.open) == 2)
            assert (await take(pool)).upstream is made[1]

    monkeypatch.setattr(pool_module, "MOST_IDLE", 2)
    asyncio.run(scenario())


def test_a_connection_that_was_closed_is_forgotten() -> None:
    async def scenario() -> None:
        liar = Liar([NAMED])
        async with pooled(liar) as pool:
            one = (await take(pool)).upstream
            assert one is not None
            pool.released(one)
            for writer in liar.open:
                writer.close()
            await until(lambda: not one.is_open)
            assert not pool._idle

    asyncio.run(scenario())


async def answered(pool: Pool) -> Upstream:
    """A connection that has carried a request to its end."""
    upstream, listener = (await take(pool)).upstream, Listener()
    assert upstream is not None
    upstream.send(pool.get("/slots"), None, listener)
    assert (await listener.heard)[0] == 200
    return upstream


def test_for_one_that_its_server_ends_after_an_answer_another_is_opened() -> None:
    """As llama-server ends it with each stream."""

    async def scenario() -> None:
        liar = Liar([NAMED, ENDS])
        async with pooled(liar) as pool:
            first = await answered(pool)
            await until(lambda: liar.connections == 2 and not first.is_open)
            await until(lambda: any(one.is_open for _, one in pool._idle))
            second = pool.at_hand()
            assert second not in (None, first)
            assert len(liar.heard) == 1, "it has only been asked for its name"

    asyncio.run(scenario())


@pytest.mark.parametrize("how", ["it was idle", "it is to go", "another is there"])
def test_else_none_is_opened(how: str) -> None:
    async def scenario() -> None:
        liar = Liar([NAMED])
        async with pooled(liar) as pool:
            other = (await take(pool)).upstream if how == "another is there" else None
            one = await answered(pool)
            if other is not None:
                pool.released(other)
            now = pool._now()
            if how == "it was idle":
                pool._now = lambda: now + 1.5
            count = liar.connections
            if how == "it is to go":
                pool.close_idle()
            for writer in liar.open:
                writer.close()
            await until(lambda: not one.is_open and not liar.open)
            await until(lambda: not pool._idle)
            assert (liar.connections, pool._is_opening) == (count, False)

    asyncio.run(scenario())


def test_one_that_comes_when_all_are_to_go_goes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    before = Pool.spent

    def spent(self: Pool, upstream: Upstream) -> None:
        before(self, upstream)
        self.close_idle()

    async def scenario() -> None:
        liar = Liar([NAMED, ENDS])
        async with pooled(liar) as pool:
            await answered(pool)
            await until(lambda: liar.connections == 2)
            await until(lambda: not (pool._is_opening or liar.open))
            assert not pool._idle

    monkeypatch.setattr(Pool, "spent", spent)
    asyncio.run(scenario())


ANSWER = b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b"


@pytest.mark.parametrize(
    ("named", "why"),
    [
        ([NAMED.replace(b'"coder"', b'"gemma"')], "is gemma's now"),
        ([ANSWER % (b"503 X", 2, b"{}")], "it is loading"),
        ([ANSWER % (b"401 X", 2, b"{}")], "/v1/models gave 401"),
        ([ANSWER % (b"200 OK", 2, b"{}")], "it does not say who it is"),
        ([ANSWER % (b"200 OK", 2, b"[]")], "it does not say who it is"),
        ([ANSWER % (b"200 OK", 5, b"garba")], "it does not say who it is"),
        ([b"garbage\r\n\r\n"], "it sent what is no HTTP"),
        ([DIES], "reset"), ([ENDS], "the connection was closed"),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", ENDS], "the connection was closed"),
        ([HANGS], "no answer in time"),
        ([ANSWER[:-2] % (b"200 OK", 2 << 20) + b"x" * (2 << 20)], "it does not say who it is"),
    ],
)  # fmt: skip
def test_who_is_not_the_right_one_is_left(
    named: list[bytes], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no connection stays behind."""

    async def scenario() -> None:
        liar = Liar([NAMED], named=named)
        async with pooled(liar) as pool:
            taken = await take(pool)
            assert taken.upstream is None
            assert taken.why is not None
            assert why in taken.why.lower() or why in taken.why
            await until(lambda: not liar.open)
            assert not pool._idle

    monkeypatch.setattr(pool_module, "CONNECT_TIMEOUT_S", 0.3)
    asyncio.run(scenario())


def test_nobody_listens() -> None:
    async def scenario() -> None:
        async with Liar([NAMED]) as liar:
            port = liar.port
        taken = await take(Pool("coder", port, None))
        assert taken.why == "Connection refused"

    asyncio.run(scenario())
