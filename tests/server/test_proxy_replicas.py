"""Replicas of a real model behind the proxy: they come when they are needed, and go."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from kit.waiting import eventually
from server.proxy_site import ProxySite, proxied
from support.asking import Reply, ask, get, question, until

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    eventually(lambda: most(proxy) == 3, why="the profile is read")


def most(proxy: ProxySite) -> int:
    """What the proxy's scheduler may have; asking makes it look."""
    asyncio.run(ask(proxy.port, question("a", max_tokens=1)))
    told = proxy.status()["replicas"]
    return int(told["a"]["max"]) if "a" in told else 0


def long(**more: Any) -> bytes:
    return question("a", "LOOP", stream=True, max_tokens=1500, **more)


async def replicas(proxy: ProxySite) -> Any:
    return (await get(proxy.port, "/llmctl/status")).json["replicas"]["a"]


async def all_busy(proxy: ProxySite) -> object:
    return (await replicas(proxy))["in_flight"] == {"1": 1, "2": 1, "3": 1}


async def streaming(proxy: ProxySite) -> Counter[int]:
    told = (await get(proxy.port, "/llmctl/status")).json["requests"]
    return Counter(one["instance"] for one in told if one["state"] == "streaming")


async def all_up(proxy: ProxySite) -> None:
    """Ask for more than runs until all run."""
    while len((await replicas(proxy))["in_flight"]) < 3:
        asked = [ask(proxy.port, question("a", "LONG", max_tokens=300)) for _ in range(6)]
        assert all(one.is_whole for one in await asyncio.gather(*asked))


async def three_streams(proxy: ProxySite) -> list[asyncio.Task[Reply]]:
    """One on each instance; each is seen to stream."""
    await all_up(proxy)
    tasks = [asyncio.create_task(ask(proxy.port, long(), seconds=110)) for _ in range(3)]
    await until(lambda: all_busy(proxy))

    async def flow() -> bool:
        return await streaming(proxy) == Counter({1: 1, 2: 1, 3: 1})

    await until(flow)
    return tasks


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
        tasks = await three_streams(proxy)
        pid = int(await asyncio.to_thread(proxy.site.show, "llm-a@2.service", "MainPID"))
        os.kill(pid, signal.SIGKILL)
        return await asyncio.gather(*tasks)

    replies = {one.served_by: one for one in asyncio.run(kill_one())}
    assert replies["a@2"].error == "llmctl_upstream_died"
    assert replies["a@2"].events[-1] != "[DONE]"
    assert replies["a"].is_whole
    assert replies["a@3"].is_whole
    eventually(proxy.is_idle)
    assert asyncio.run(ask(proxy.port, question("a", max_tokens=8))).is_whole


def test_one_that_is_gone_before_its_first_byte_is_replaced(proxy: ProxySite) -> None:
    """The client notices nothing: another instance answers."""

    async def is_at(number: str) -> object:
        return (await replicas(proxy))["in_flight"].get(number) == 1

    async def kill_and_ask() -> tuple[Reply, Reply]:
        await all_up(proxy)
        stream = asyncio.create_task(ask(proxy.port, long(), seconds=110))
        await until(lambda: is_at("1"))
        pid = int(await asyncio.to_thread(proxy.site.show, "llm-a@2.service", "MainPID"))
        os.kill(pid, signal.SIGSTOP)  # it takes connections, and says nothing
        waits = asyncio.create_task(ask(proxy.port, question("a", max_tokens=4)))
        await until(lambda: is_at("2"))
        os.kill(pid, signal.SIGKILL)
        return await waits, await stream

    waited, streamed = asyncio.run(kill_and_ask())
    assert waited.is_whole
    assert waited.served_by == "a@3"
    assert streamed.is_whole
    assert streamed.served_by == "a"


def test_a_switch_waits_for_the_replicas_and_for_their_end(proxy: ProxySite) -> None:
    async def switch() -> tuple[list[Reply], Reply]:
        tasks = await three_streams(proxy)
        other = await ask(proxy.port, question("b", max_tokens=4))
        return await asyncio.gather(*tasks), other

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
        tasks = await three_streams(proxy)
        proxy.kill()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(fill())
    pids = {unit: proxy.site.show(unit, "MainPID") for unit in UNITS}
    proxy.again()

    async def and_again() -> list[Reply]:
        return await asyncio.gather(*await three_streams(proxy))

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

    async def talks() -> list[list[str | None]]:
        await all_up(proxy)
        first = await asyncio.gather(*(talk(n, "") for n in range(3)))
        second = await asyncio.gather(*(talk(9, f"X-Session-Id: s{n}\r\n") for n in range(3)))
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
