"""A proxy that is restarted under load, with replicas running."""

from __future__ import annotations

import asyncio
import functools
import os
import signal
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from kit.waiting import eventually
from server.proxy_site import ProxySite, proxied
from server.test_proxy_replicas import CLIENTS, UNITS, all_up, replicas, several
from support.asking import Reply, ask, get, question, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usermgr.site import ManagerSite


@pytest.fixture
def proxy(site: ManagerSite) -> Iterator[ProxySite]:
    """Model a may have three instances of one slot each; it runs."""
    with proxied(site) as made:
        several(made)
        assert asyncio.run(ask(made.port, question("a", max_tokens=1))).is_whole
        yield made


def test_a_proxy_restarted_under_load_starts_nothing_twice(proxy: ProxySite) -> None:
    """16 clients ask all the while. It is killed with an answer under way, and the next one finds
    what runs, counts anew, and ends it when there is nothing to do."""
    restarted, enough = asyncio.Event(), asyncio.Event()
    whole: Counter[int] = Counter()

    async def client(number: int) -> list[Reply]:
        """Asks until all have had an answer of the second proxy."""
        replies = []
        while not enough.is_set():
            asked = question("a", "LONG", stream=number % 2 == 0, max_tokens=16)
            is_new = restarted.is_set()
            try:
                replies.append(await ask(proxy.port, asked, seconds=110))
            except OSError:  # nobody is there: it asks again soon
                await asyncio.sleep(0.02)
                continue
            if is_new and replies[-1].is_whole:
                whole[number] += 1
        return replies

    async def is_held() -> object:
        return (await replicas(proxy))["in_flight"].get("2", 0) > 1

    async def all_served() -> bool:
        return len(whole) == CLIENTS

    async def load() -> list[Reply]:
        await all_up(proxy)
        pids = {unit: proxy.site.show(unit, "MainPID") for unit in UNITS}
        clients = [asyncio.create_task(client(number)) for number in range(CLIENTS)]
        os.kill(int(pids["llm-a@2.service"]), signal.SIGSTOP)  # what it has stays under way
        await until(is_held)
        proxy.kill()
        os.kill(int(pids["llm-a@2.service"]), signal.SIGCONT)
        proxy.again()  # not in a thread: it ends with the one that started it
        restarted.set()
        await until(all_served, seconds=90)
        enough.set()
        found = [reply for replies in await asyncio.gather(*clients) for reply in replies]
        assert {unit: proxy.site.show(unit, "MainPID") for unit in UNITS} == pids
        return found

    replies = asyncio.run(load())
    cut = [one for one in replies if not one.is_whole]
    assert cut, "some answers were under way"
    assert {(one.status, one.ended) for one in cut} <= {(0, False), (200, False)}, "no errors"
    assert {one.models == {"a"} for one in replies if one.is_whole} == {True}
    eventually(proxy.is_idle)
    told = proxy.status()["replicas"]["a"]
    assert told["in_flight"] == {"1": 0, "2": 0, "3": 0}
    assert (told["starting"], told["held"]) == (None, 0)
    assert b"llmctl_replica_starts_total{" not in asyncio.run(get(proxy.port, "/metrics")).body
    for number in (0, 2, 3):
        eventually(functools.partial(is_at_rest, proxy, number), why="no slot works for nobody")
    several(proxy, idle_timeout="1s")
    eventually(lambda: proxy.site.active_units() == {"llm-a.service"}, 30, why="they go")


def is_at_rest(proxy: ProxySite, number: int) -> bool:
    slots = asyncio.run(get(proxy.site.port + number, "/slots")).json
    return not any(one["is_processing"] for one in slots)
