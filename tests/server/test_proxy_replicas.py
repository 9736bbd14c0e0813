"""Replicas of a real model behind the proxy: they come when they are needed, and go."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from typing import TYPE_CHECKING, Any

import pytest
from kit.waiting import eventually
from server.proxy_site import ProxySite, proxied
from support.asking import Reply, ask, get, question, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Iterator

    from usermgr.site import ManagerSite

CLIENTS = 16
UNITS = {"llm-a.service", "llm-a@2.service", "llm-a@3.service"}


@pytest.fixture
def proxy(site: ManagerSite) -> Iterator[ProxySite]:
    """Model a may have three instances of one slot each; it runs."""
    with proxied(site) as made:
        several(made)
        assert asyncio.run(ask(made.port, question("a", max_tokens=1))).is_whole
        yield made


def several(proxy: ProxySite, idle_timeout: str = "10m", **keys: Any) -> None:
    replicas = {"max": 3, "idle_timeout": idle_timeout}
    proxy.profile("a", ctx=8192, parallel=1, threads=2, replicas=replicas, **keys)
    proxy.reload()
    eventually(lambda: most(proxy) == 3, why="the profile is read")


def most(proxy: ProxySite) -> int:
    """What the proxy's scheduler may have; asking makes it look."""
    asyncio.run(ask(proxy.port, question("a", max_tokens=1)))
    told = proxy.status()["replicas"]
    return int(told["a"]["max"]) if "a" in told else 0


def long(tokens: int = 200) -> bytes:
    """What is held lasts as long as it is held; else: 7000 a second are the most ever seen."""
    return question("a", "LOOP", stream=True, max_tokens=tokens)


@contextlib.asynccontextmanager
async def held(proxy: ProxySite, *units: str) -> AsyncIterator[dict[str, int]]:
    """Servers that take connections and say nothing, until the end of it; their pids."""
    shown = [asyncio.to_thread(proxy.site.show, unit, "MainPID") for unit in units]
    pids = dict(zip(units, map(int, await asyncio.gather(*shown)), strict=True))
    try:
        for pid in pids.values():
            os.kill(pid, signal.SIGSTOP)
        yield pids
    finally:
        for pid in pids.values():
            with contextlib.suppress(ProcessLookupError):  # some are killed meanwhile
                os.kill(pid, signal.SIGCONT)


async def replicas(proxy: ProxySite) -> Any:
    return (await get(proxy.port, "/llmctl/status")).json["replicas"]["a"]


async def all_busy(proxy: ProxySite) -> object:
    return (await replicas(proxy))["in_flight"] == {"1": 1, "2": 1, "3": 1}


async def one_waits(proxy: ProxySite) -> object:
    """For its turn in the group."""
    return (await get(proxy.port, "/llmctl/status")).json["queues"]["gpu"]["waiting"] == ["b"]


async def all_up(proxy: ProxySite) -> None:
    """Ask for more than runs until all run."""
    while len((await replicas(proxy))["in_flight"]) < 3:
        asked = [ask(proxy.port, question("a", "LONG", max_tokens=300)) for _ in range(6)]
        assert all(one.is_whole for one in await asyncio.gather(*asked))


@contextlib.asynccontextmanager
async def three_streams(
    proxy: ProxySite, tokens: int = 200
) -> AsyncIterator[tuple[list[Stream], dict[str, int]]]:
    """One on each instance; they flow from the end of it on. And the servers' pids."""
    await all_up(proxy)
    async with held(proxy, *UNITS) as pids:
        streams = [Stream(proxy, tokens) for _ in UNITS]
        await until(lambda: all_busy(proxy))
        yield streams, pids


class Stream:
    """A long answer, and whether it has begun."""

    def __init__(self, proxy: ProxySite, tokens: int) -> None:
        self.flows = asyncio.Event()
        asked = ask(proxy.port, long(tokens), seconds=110, flows=self.flows)
        self.task = asyncio.create_task(asked)


async def replies(streams: list[Stream]) -> list[Reply]:
    return await asyncio.gather(*(one.task for one in streams))


def test_sixteen_clients_get_three_instances(proxy: ProxySite) -> None:
    """None is started twice, all answers are right, and they go when there is nothing to do."""

    async def client(number: int, seen: set[str | None]) -> list[Reply]:
        """Asks until all three have answered somebody."""
        replies = []
        while len(seen) < 3:
            asked = question("a", "LONG", stream=number % 2 == 0, max_tokens=400)
            replies.append(await ask(proxy.port, asked, seconds=110))
            seen.add(replies[-1].served_by)
        return replies

    async def all_at_once() -> list[Reply]:
        seen: set[str | None] = set()
        found = await asyncio.gather(*(client(number, seen) for number in range(CLIENTS)))
        return [reply for replies in found for reply in replies]

    replies = asyncio.run(all_at_once())
    assert all(reply.is_whole and reply.models == {"a"} for reply in replies), replies
    assert {reply.served_by for reply in replies} == {"a", "a@2", "a@3"}
    eventually(proxy.is_idle)
    assert proxy.site.active_units() == UNITS
    starts = asyncio.run(get(proxy.port, "/metrics")).body.decode()
    assert 'llmctl_replica_starts_total{model="a",outcome="ready"} 2' in starts
    assert 'outcome="failed"' not in starts
    assert 'llmctl_instances{model="a"} 3' in starts
    several(proxy, idle_timeout="1s")
    eventually(lambda: proxy.site.active_units() == {"llm-a.service"}, 30, why="they go")


def test_a_replica_that_dies_takes_one_stream_with_it(proxy: ProxySite) -> None:
    async def kill_one() -> list[Reply]:
        async with three_streams(proxy, 2500) as (streams, pids):
            os.kill(pids["llm-a@2.service"], signal.SIGCONT)
            began = [asyncio.create_task(one.flows.wait()) for one in streams]
            await asyncio.wait(began, return_when=asyncio.FIRST_COMPLETED)
            os.kill(pids["llm-a@2.service"], signal.SIGKILL)
        return await replies(streams)

    ended = {one.served_by: one for one in asyncio.run(kill_one())}
    assert ended["a@2"].error == "llmctl_upstream_died"
    assert ended["a@2"].events[-1] != "[DONE]"
    assert ended["a"].is_whole
    assert ended["a@3"].is_whole
    eventually(proxy.is_idle)
    assert asyncio.run(ask(proxy.port, question("a", max_tokens=8))).is_whole


def test_one_that_is_gone_before_its_first_byte_is_replaced(proxy: ProxySite) -> None:
    """The client notices nothing: another instance answers."""

    async def is_at(number: str) -> object:
        return (await replicas(proxy))["in_flight"].get(number) == 1

    async def kill_and_ask() -> tuple[Reply, Reply]:
        await all_up(proxy)
        async with held(proxy, "llm-a.service", "llm-a@2.service") as pids:
            stream = asyncio.create_task(ask(proxy.port, long(), seconds=110))
            await until(lambda: is_at("1"))
            waits = asyncio.create_task(ask(proxy.port, question("a", max_tokens=4)))
            await until(lambda: is_at("2"))
            os.kill(pids["llm-a@2.service"], signal.SIGKILL)
            waited = await waits
        return waited, await stream

    waited, streamed = asyncio.run(kill_and_ask())
    assert waited.is_whole
    assert waited.served_by == "a@3"
    assert streamed.is_whole
    assert streamed.served_by == "a"


def test_a_switch_waits_for_the_replicas_and_for_their_end(proxy: ProxySite) -> None:
    async def switch() -> tuple[list[Reply], Reply]:
        async with three_streams(proxy) as (streams, _):
            other = asyncio.create_task(ask(proxy.port, question("b", max_tokens=4)))
            await until(lambda: one_waits(proxy))
        return await replies(streams), await other

    streams, other = asyncio.run(switch())
    assert all(one.is_whole for one in streams), streams
    assert other.is_whole
    assert other.models == {"b"}
    assert proxy.site.active_units() == {"llm-b.service"}
    again = asyncio.run(ask(proxy.port, question("a", max_tokens=4)))
    assert again.is_whole
    assert again.served_by == "a"


def test_a_restarted_proxy_finds_its_replicas(proxy: ProxySite) -> None:
    async def fill() -> None:
        async with three_streams(proxy) as (streams, _):
            proxy.kill()
            await asyncio.gather(*(one.task for one in streams), return_exceptions=True)

    asyncio.run(fill())
    pids = {unit: proxy.site.show(unit, "MainPID") for unit in UNITS}
    proxy.again()

    async def and_again() -> list[Reply]:
        async with three_streams(proxy) as (streams, _):
            pass
        return await replies(streams)

    assert all(one.is_whole for one in asyncio.run(and_again()))
    assert proxy.site.active_units() == UNITS
    assert {unit: proxy.site.show(unit, "MainPID") for unit in UNITS} == pids


def test_a_conversation_stays_where_its_cache_is(proxy: ProxySite) -> None:
    """By the header of its client, or by its messages."""

    async def talk(n: int, header: str) -> list[str | None]:
        said: list[dict[str, str]] = [{"role": "system", "content": "Be short."}]
        seats = []
        for turn in range(4):
            said.append({"role": "user", "content": f"LONG {n} {turn}"})
            reply = await ask(proxy.port, with_messages(said, header))
            assert reply.is_whole
            seats.append(reply.served_by)
            said.append(reply.json["choices"][0]["message"])
        return seats

    async def side_by_side(*talks: Coroutine[Any, Any, list[str | None]]) -> list[list[str | None]]:
        """Each begins while the others' first answers last, so that each has a place of its own:
        one that begins when another pauses may share its place, and is then in its way."""
        async with held(proxy, *UNITS):
            begun = [asyncio.create_task(one) for one in talks]
            await until(lambda: all_busy(proxy))
        return await asyncio.gather(*begun)

    async def talks() -> list[list[str | None]]:
        await all_up(proxy)
        first = await side_by_side(*(talk(n, "") for n in range(3)))
        second = await side_by_side(*(talk(9, f"X-Session-Id: s{n}\r\n") for n in range(3)))
        return [*first, *second]

    for seats in asyncio.run(talks()):
        assert len(set(seats)) == 1, seats


def with_messages(messages: list[dict[str, str]], header: str) -> bytes:
    content = json.dumps({"model": "a", "messages": messages, "max_tokens": 60}).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{header}"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content
