"""pool.py: connections that know whose they are, on real sockets."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest
from kit.waiting import until
from support.liar import DIES, ENDS, HANGS, NAMED, Liar

from llmctl.proxy import pool as pool_module
from llmctl.proxy.pool import IDLE_S, Pool

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
