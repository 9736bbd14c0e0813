"""A proxy that is killed while a replica loads: the next one waits, and starts no other."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from kit.waiting import eventually
from server.proxy_site import ProxySite
from support.asking import ask, get, question, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from usermgr.site import ManagerSite

TWO = "llm-a@2.service"


@pytest.fixture
def proxy(site: ManagerSite, tiny_models: Path) -> Iterator[ProxySite]:
    """Model a may run twice, with a slot each; it runs, and gets nowhere with what it is asked."""
    model = str(tiny_models / "llama-script.gguf")
    site.profile("a", "stalls=2", model=model, ctx=2048, parallel=1, replicas={"max": 2})
    made = ProxySite(site)
    try:
        site.llmctl("switch", "a")
        yield made
    finally:
        made.close()


def stream(proxy: ProxySite) -> asyncio.Task[object]:
    return asyncio.create_task(ask(proxy.port, question("a", "one two three", stream=True)))


async def facts(proxy: ProxySite) -> Any:
    return (await get(proxy.port, "/llmctl/status")).json["replicas"].get("a")


async def is_held(proxy: ProxySite) -> bool:
    """One works on the first instance, and one waits for the second, which loads."""
    told = await facts(proxy)
    return bool(
        told
        and (told["in_flight"], told["held"]) == ({"1": 1}, 1)
        and [one["state"] for one in told["instances"]] == ["loading"]
    )


async def two_ask(proxy: ProxySite) -> list[asyncio.Task[object]]:
    tasks = [stream(proxy), stream(proxy)]
    await until(lambda: is_held(proxy), seconds=60)
    return tasks


def test_a_load_that_outlives_the_proxy_is_waited_for(proxy: ProxySite) -> None:
    async def killed() -> None:
        proxy.site.behave("a", "never")
        tasks = await two_ask(proxy)
        proxy.kill()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def again() -> None:
        tasks = await two_ask(proxy)
        told = await facts(proxy)
        assert told["starting"] is None, "it was started before"
        await asyncio.to_thread(eventually, lambda: starts(proxy) == 2, why="both have begun")
        proxy.site.behave("a", "stalls=2")
        await asyncio.to_thread(proxy.site.systemctl, "kill", "--signal=KILL", TWO)

        async def is_let_go() -> bool:
            told = await facts(proxy)
            return (told["in_flight"], told["held"]) == ({"1": 1, "2": 1}, 0)

        await until(is_let_go, seconds=60)  # nobody waits for what died: one more comes
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(killed())
    proxy.again()
    asyncio.run(again())
    assert starts(proxy) == 3
    metrics = asyncio.run(get(proxy.port, "/metrics")).body.decode()
    assert 'llmctl_replica_starts_total{model="a",outcome="ready"} 1' in metrics
    assert proxy.site.active_units() == {"llm-a.service", TWO}


def starts(proxy: ProxySite) -> int:
    """Processes that were started, of both instances."""
    return [one.word for one in proxy.site.events()].count("start")
