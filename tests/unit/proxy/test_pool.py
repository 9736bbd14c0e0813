"""pool.py: connections that know whose they are, on real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING

import pytest
from kit.waiting import until
from support.liar import DIES, ENDS, HANGS, NAMED, Liar, Then

from llmctl.proxy import pool as pool_module
from llmctl.proxy.loop import Loop
from llmctl.proxy.pool import IDLE_S, Listener, Pool
from llmctl.proxy.port import holder

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


STREAM = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"
    b"Keep-Alive: timeout=5, max=100\r\n\r\n6\r\nevent\n\r\n0\r\n\r\n"
)


async def say(upstream: Upstream, pool: Pool) -> None:
    """A request, to its end."""
    listener = Listener()
    upstream.send(pool.get("/slots"), None, listener)
    assert (await listener.heard)[0] == 200


async def answered(pool: Pool) -> Upstream:
    """A connection that has carried one."""
    upstream = (await take(pool)).upstream
    assert upstream is not None
    await say(upstream, pool)
    return upstream


def is_at_leisure() -> bool:
    """Is nothing left that was put off?"""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, Loop)
    return not loop._watching.leisure


def idle(pool: Pool) -> list[Upstream]:
    return [one for _, one in pool._idle if one.is_open]


def test_who_answers_is_asked_once() -> None:
    """As long as the same one listens."""

    async def scenario() -> None:
        liar = Liar([NAMED])
        async with pooled(liar) as pool:
            made = [await answered(pool) for _ in range(3)]
            for one in made:
                one.close()
            await until(lambda: not liar.open)
            assert pool.at_hand() not in (None, *made)
            await until(lambda: liar.connections in (2, 4))
            assert liar.asked == 1

    asyncio.run(scenario())


def test_a_fresh_one_has_not_to_be_waited_for_either() -> None:
    async def scenario() -> None:
        liar = Liar([NAMED])
        async with pooled(liar) as pool:
            pool.released(await answered(pool))
            taken = Taken()
            pool.take(taken.connected, taken.failed, fresh=True)
            assert taken.upstream not in (None, *idle(pool))
            assert liar.asked == 1

    asyncio.run(scenario())


def test_the_question_for_its_alias_is_none_that_it_has_carried() -> None:
    """Else the first request that it loses would be sent again, as one that came too late."""

    async def scenario() -> None:
        async with pooled(Liar([NAMED])) as pool:
            upstream = await answered(pool)
            assert not upstream.was_used
            await say(upstream, pool)
            assert upstream.was_used

    asyncio.run(scenario())


def test_where_the_server_lets_nobody_in_there_is_none_at_hand() -> None:
    async def scenario() -> None:
        with socket.socket() as door:
            door.bind(("127.0.0.1", 0))
            door.listen(0)
            pool = Pool("coder", door.getsockname()[1], None)
            pool._holder = holder(pool.port)
            made = [pool.at_hand() for _ in range(8)]
            assert made[0] is not None
            assert made[-1] is None
            for one in made:
                if one is not None:
                    one.close()

    asyncio.run(scenario())


def test_another_one_on_the_port_is_asked_anew() -> None:
    """It listens where the one before did; what was known of that says nothing of it."""

    async def scenario() -> None:
        async with pooled(Liar([NAMED])) as pool:
            one = await answered(pool)
        await until(lambda: not one.is_open)
        other = Liar([NAMED], named=[NAMED.replace(b'"coder"', b'"gemma"')], port=pool.port)
        async with other:
            assert pool.at_hand() is None
            assert pool.at_hand() is None
            await until(lambda: other.connections > 0 and not other.open)
            assert (await take(pool)).why == f"port {pool.port} is gemma's now"
            assert other.connections == 2, "it was tried once, and asked"
            assert pool.at_hand() is None
            assert not other.heard
        same = Liar([NAMED], port=pool.port)
        async with same:
            await answered(pool)
            assert same.asked == 1
            assert pool.at_hand() is not None
            pool.close_idle()

    asyncio.run(scenario())


def test_one_that_takes_over_between_question_and_answer_is_not_believed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The connection is the old one's; who listens now is not known."""
    holders = iter([b"one", b"two"])

    async def scenario() -> None:
        async with pooled(Liar([NAMED])) as pool:
            assert (await take(pool)).upstream is not None
            assert pool.at_hand() is None

    monkeypatch.setattr(pool_module, "holder", lambda _: next(holders))
    asyncio.run(scenario())


def test_where_the_kernel_says_nothing_each_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        liar = Liar([NAMED])
        async with pooled(liar) as pool:
            for _ in range(2):
                (await answered(pool)).close()
                pool.ends_streams = True
            assert liar.asked == liar.connections == 2
            assert pool.at_hand() is None
            (await answered(pool)).close()
            assert pool.ends_streams, "nothing says that another listens"

    monkeypatch.setattr(pool_module, "holder", lambda _: None)
    asyncio.run(scenario())


def test_where_several_may_listen_each_is_asked() -> None:
    """The kernel leads connections to either: with another's alias, none of them is used."""

    async def scenario() -> None:
        ours = Liar([NAMED], is_shared=True)
        async with pooled(ours) as pool:
            (await answered(pool)).close()
            assert pool.at_hand() is None
            gemma = [NAMED.replace(b'"coder"', b'"gemma"')]
            async with Liar([NAMED], named=gemma, port=pool.port, is_shared=True) as other:
                found = [await take(pool) for _ in range(64)]
                assert any(taken.upstream for taken in found)
                assert any(taken.why for taken in found)
                for upstream in (taken.upstream for taken in found):
                    if upstream is not None:
                        await say(upstream, pool)
                assert not other.heard

    asyncio.run(scenario())


def test_for_one_that_its_server_ends_after_a_stream_another_is_opened() -> None:
    """As llama-server does. The first time it is seen; then it is expected."""

    async def scenario() -> None:
        liar = Liar([STREAM, ENDS])
        async with pooled(liar) as pool:
            first = await answered(pool)
            await until(lambda: not first.is_open)
            assert pool.ends_streams
            for count in range(2, 5):
                await until(lambda count=count: liar.connections == count)  # type: ignore[misc]
                (spare,) = idle(pool)
                assert (await answered(pool)) is spare
                await until(lambda spare=spare: not spare.is_open)  # type: ignore[misc]
            assert liar.asked == 1

    asyncio.run(scenario())


def test_a_few_are_opened_beforehand() -> None:
    async def scenario() -> None:
        liar = Liar([STREAM, ENDS])
        async with pooled(liar) as pool:
            first = await answered(pool)
            await until(lambda: not first.is_open)
            taken = [(await take(pool)).upstream for _ in range(9)]
            heard = [Listener() for _ in taken]
            for one, listener in zip(taken, heard, strict=True):
                assert one is not None
                one.send(pool.get("/slots"), None, listener)
            for listener in heard:
                await listener.heard
            await until(lambda: not any(one.is_open for one in taken if one))
            await until(is_at_leisure)
            assert len(idle(pool)) == 4

    asyncio.run(scenario())


def test_one_that_was_used_again_before_it_was_ended_tells_as_much() -> None:
    async def scenario() -> None:
        liar = Liar([STREAM, ENDS])
        async with pooled(liar) as pool:
            upstream, heard = (await take(pool)).upstream, [Listener(), Listener()]
            assert upstream is not None
            upstream.send(pool.get("/slots"), None, heard[0])
            await heard[0].heard
            assert pool.at_hand() is upstream
            assert not pool.ends_streams
            upstream.send(pool.get("/slots"), None, heard[1])
            status, why = await heard[1].heard
            assert status == 0, why
            assert pool.ends_streams

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "says", [([NAMED], [DIES]), ([STREAM], [STREAM[:-9], DIES])], ids=["no stream", "cut"]
)
def test_one_that_is_lost_otherwise_tells_nothing(says: tuple[list[bytes | Then], ...]) -> None:
    async def scenario() -> None:
        async with pooled(Liar(*says)) as pool:
            upstream, listener = await answered(pool), Listener()
            upstream.send(pool.get("/slots"), None, listener)
            await listener.heard
            await until(lambda: not upstream.is_open)
            assert not pool.ends_streams

    asyncio.run(scenario())


def test_one_that_is_expected_to_end_is_closed_at_leisure() -> None:
    """Not before whoever got the answer has passed it on, and whether its server does or not."""

    async def scenario() -> None:
        liar = Liar([STREAM])
        async with pooled(liar) as pool:
            upstream = (await take(pool)).upstream
            assert upstream is not None
            pool.ends_streams = True
            await say(upstream, pool)
            assert upstream.is_open
            assert not idle(pool)
            await until(lambda: (liar.connections, len(liar.open)) == (2, 1))
            (spare,) = idle(pool)
            assert spare is not upstream

    asyncio.run(scenario())


def test_one_that_keeps_its_connections_keeps_them() -> None:
    async def scenario() -> None:
        liar = Liar([STREAM])
        async with pooled(liar) as pool:
            assert (await answered(pool)) is (await answered(pool))
            assert not pool.ends_streams
            assert liar.connections == 1

    asyncio.run(scenario())


def test_the_next_one_may_keep_them_where_the_last_did_not() -> None:
    async def scenario() -> None:
        async with pooled(Liar([STREAM, ENDS])) as pool:
            one = await answered(pool)
            await until(lambda: not one.is_open)
            assert pool.ends_streams
        async with Liar([STREAM], port=pool.port):
            assert (await answered(pool)) is (await answered(pool))
            pool.close_idle()

    asyncio.run(scenario())


@pytest.mark.parametrize("how", ["it was idle", "it is to go", "it was no stream"])
def test_else_none_is_opened(how: str) -> None:
    async def scenario() -> None:
        liar = Liar([NAMED] if how == "it was no stream" else [STREAM])
        async with pooled(liar) as pool:
            one = await answered(pool)
            now = pool._now()
            if how == "it was idle":
                pool._now = lambda: now + 1.5
            if how == "it is to go":
                pool.close_idle()
            for writer in liar.open:
                writer.close()
            await until(lambda: not one.is_open and not liar.open)
            await until(lambda: not pool._idle)
            assert (liar.connections, pool.ends_streams) == (1, False)

    asyncio.run(scenario())


def test_when_all_are_to_go_none_comes_for_the_last_that_ends() -> None:
    """Its stream was under way when the others were closed. Whoever asks next has one again."""

    async def scenario() -> None:
        liar = Liar([STREAM, ENDS])
        async with pooled(liar) as pool:
            one = await answered(pool)
            await until(lambda: len(idle(pool)) == 1 and not one.is_open)
            last, listener = (await take(pool)).upstream, Listener()
            assert last is not None
            pool.close_idle()
            last.send(pool.get("/slots"), None, listener)
            await listener.heard
            await until(lambda: not (last.is_open or liar.open))
            assert not pool._idle
            await answered(pool)
            await until(lambda: len(idle(pool)) == 1)

    asyncio.run(scenario())


def test_a_head_that_is_known_is_known_on_the_next_connection() -> None:
    async def scenario() -> None:
        async with pooled(Liar([STREAM, ENDS])) as pool:
            one = await answered(pool)
            await until(lambda: len(idle(pool)) == 1 and not one.is_open)
            assert one.known is not None
            assert idle(pool)[0].known is one.known

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
    named: list[bytes | Then], why: str, monkeypatch: pytest.MonkeyPatch
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

    if HANGS in named:
        monkeypatch.setattr(pool_module, "CONNECT_TIMEOUT_S", 0.3)
    asyncio.run(scenario())


def test_nobody_listens() -> None:
    async def scenario() -> None:
        async with Liar([NAMED]) as liar:
            port = liar.port
        taken = await take(Pool("coder", port, None))
        assert taken.why == "Connection refused"

    asyncio.run(scenario())
