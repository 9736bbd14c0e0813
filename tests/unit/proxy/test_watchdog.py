"""watchdog.py: when a server's slots are looked at, and what follows, before a server that lies."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from support.asking import ask, question, until
from support.liar import ENDS, HANGS, NAMED, Liar
from support.wire import StillKeeper

from llmctl.core.proxy_settings import ProxySettings
from llmctl.proxy.client import Client
from llmctl.proxy.pool import Pool
from llmctl.proxy.server import Proxy
from llmctl.proxy.watchdog import told

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from support.asking import Reply

STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
WORD = b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'
SAYS_ONE_WORD = (STREAM, b"%x\r\n%b\r\n" % (len(WORD), WORD), HANGS)
MINUTES = 60


def slots(number: int) -> bytes:
    body = b'[{"id":0,"is_processing":true,"next_token":[{"n_decoded":%d}]}]' % number
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


class Keeper(StillKeeper):
    """It is restarted when it is told to be: restarted says how often."""

    restarted = 0

    def restart(self, name: str) -> None:
        assert name == "coder"
        self.restarted += 1


class Scene:
    """A proxy before a liar, with a clock of the test's own."""

    def __init__(self, liar: Liar) -> None:
        self.liar, self.seconds = liar, 0.0
        self.keeper = Keeper(settings=ProxySettings(), port=liar.port)
        self.proxy = Proxy(self.keeper, now=lambda: self.seconds)
        self.port = 0

    def ask(self, *, stream: bool) -> asyncio.Task[Reply]:
        return asyncio.create_task(ask(self.port, question("coder", stream=stream)))

    async def passes(self, seconds: int) -> None:
        """Each look is over before the next second."""
        for _ in range(seconds):
            self.seconds += 1
            self.proxy.pulse()
            await until(self._has_looked)

    async def _has_looked(self) -> bool:
        return not self.proxy._watchdog._looking

    async def is_heard(self) -> None:
        async def heard() -> bool:
            return bool(self.liar.heard)

        await until(heard)

    @property
    def looks(self) -> int:
        return sum(head.startswith(b"GET /slots ") for head, _ in self.liar.heard)


def run(liar: Liar, play: Callable[[Scene], Awaitable[None]]) -> Scene:
    async def whole() -> Scene:
        async with liar:
            scene = Scene(liar)
            await scene.proxy.board.look()
            loop = asyncio.get_running_loop()
            server = await loop.create_server(lambda: Client(scene.proxy), "127.0.0.1", 0)
            scene.port = server.sockets[0].getsockname()[1]
            try:
                await asyncio.wait_for(play(scene), 60)
            finally:
                server.close()
                for client in list(scene.proxy.clients):
                    client.abort()
            return scene

    return asyncio.run(whole())


@pytest.mark.parametrize("stream", [True, False])
def test_one_that_stalls_is_restarted_and_its_client_told(stream: bool) -> None:
    async def play(scene: Scene) -> None:
        asked = scene.ask(stream=stream)
        await scene.is_heard()
        await scene.passes(9 * MINUTES)
        assert scene.keeper.restarted == 0
        await scene.passes(4 * MINUTES)
        reply = await asked
        assert reply.ended
        assert (reply.status, reply.error) == (200 if stream else 502, "llmctl_stalled")
        assert "coder has not got on with what it works on for 10m" in reply.body.decode()

        async def is_restarted() -> int:
            return scene.keeper.restarted

        await until(is_restarted)

    assert run(Liar(SAYS_ONE_WORD if stream else [HANGS], [slots(1)]), play).keeper.restarted == 1


def test_a_long_prompt_is_left_alone() -> None:
    async def play(scene: Scene) -> None:
        asked = scene.ask(stream=True)
        await scene.is_heard()
        await scene.passes(60 * MINUTES)
        assert not asked.done()
        asked.cancel()

    scene = run(Liar([HANGS], *([slots(n)] for n in range(99))), play)
    assert scene.looks > 40
    assert scene.keeper.restarted == 0


def test_one_without_work_is_never_asked() -> None:
    """It may be asleep."""

    async def play(scene: Scene) -> None:
        await scene.passes(60 * MINUTES)

    assert run(Liar([slots(1)]), play).liar.connections == 0


def test_one_that_hides_its_slots_is_left_alone() -> None:
    async def play(scene: Scene) -> None:
        asked = scene.ask(stream=True)
        await scene.is_heard()
        await scene.passes(60 * MINUTES)
        asked.cancel()

    liar = Liar([HANGS], [b"HTTP/1.1 501 Not Implemented\r\nContent-Length: 2\r\n\r\n{}"])
    scene = run(liar, play)
    assert scene.looks > 40
    assert scene.keeper.restarted == 0


def test_a_client_that_does_not_read_is_no_stall() -> None:
    """Its answer may have been made long ago."""

    async def play(scene: Scene) -> None:
        asked = scene.ask(stream=True)
        await scene.is_heard()
        (relay,) = scene.proxy.relays.values()
        relay.is_full = True
        await scene.passes(60 * MINUTES)
        asked.cancel()

    assert run(Liar(SAYS_ONE_WORD, [slots(1)]), play).looks == 0


@pytest.mark.parametrize("named", [[NAMED], [HANGS]])
def test_no_answer_is_one_too(named: list[bytes]) -> None:
    async def test() -> None:
        async with Liar([HANGS], named=named) as liar:
            pool = Pool("coder", liar.port, None)
            assert await told(pool, "/slots", within=0.2) == (0, b"")

            async def is_closed() -> bool:
                return not liar.open

            if named == [NAMED]:
                await until(is_closed)

    asyncio.run(test())


def test_nobody_there_is_no_answer() -> None:
    async def test() -> None:
        async with Liar([HANGS]) as liar:
            port = liar.port
        assert await told(Pool("coder", port, None), "/slots") == (0, b"")
        async with Liar([HANGS]) as other:
            assert await told(Pool("writer", other.port, None), "/slots") == (0, b"")

    asyncio.run(test())


def test_one_that_ends_its_connection_before_it_is_asked_gives_none() -> None:
    async def test() -> None:
        async with Liar([HANGS], named=[NAMED, ENDS]) as liar:
            status, _ = await told(Pool("coder", liar.port, None), "/slots")
            assert status == 0

    asyncio.run(test())
