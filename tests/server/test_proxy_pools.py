"""A pool of real models behind the proxy: they run together as long as they fit."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Any

import pytest
from kit.waiting import eventually
from server.proxy_site import ProxySite
from support.asking import Reply, ask, get, question, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from usermgr.site import ManagerSite

TWO_FIT = "100MiB"
"""Each of them needs 37 to 45 MB: a context of 16384 tokens at 2048 bytes, and some."""
MODELS = {"a": "llama-script.gguf", "b": "qwen3-script.gguf", "c": "llama-script.gguf"}


class PoolSite(ProxySite):
    """a, b and c are a pool; two of them fit. None runs."""

    def configure(self, *, max_wait: str = "10m", **keys: Any) -> None:
        self.site.configure(
            groups={"gpu": {"port": self.site.port, "mode": "pool"}},
            proxy={"listen": [f"127.0.0.1:{self.port}"], "max_wait": max_wait},
            devices={"RAM": {"total": TWO_FIT, "reserve": 0}}, guard={"mode": "off"}, **keys,
        )  # fmt: skip
        for name in MODELS:
            self.member(name)

    def member(self, name: str, **keys: Any) -> None:
        """Its profile."""
        self.profile(name, MODELS[name], ctx=16384, threads=1, **keys)

    def reload(self) -> None:
        """The proxy reads what was changed, and soon."""
        self.process.send_signal(signal.SIGHUP)

    def whole(self, name: str) -> None:
        """It answers."""
        reply = asyncio.run(ask(self.port, question(name, max_tokens=4)))
        assert reply.is_whole, reply
        assert reply.models == {name}
        assert reply.served_by == name

    def pid(self, name: str) -> int:
        return int(self.site.show(f"llm-{name}.service", "MainPID"))

    def metrics(self) -> str:
        return asyncio.run(get(self.port, "/metrics")).body.decode()

    async def members(self) -> Any:
        told = (await get(self.port, "/llmctl/status")).json
        return told["pools"]["gpu"]["members"]


@pytest.fixture
def proxy(site: ManagerSite) -> Iterator[PoolSite]:
    made = PoolSite(site)
    try:
        eventually(lambda: set(made.status()["pools"].get("gpu", {"members": ()})["members"]))
        yield made
    finally:
        made.close()


def test_two_that_fit_stay_and_the_third_makes_one_go(proxy: PoolSite) -> None:
    for name in "ab":
        proxy.whole(name)
    pids = {name: proxy.pid(name) for name in "ab"}
    for name in "abab":
        proxy.whole(name)
    assert {name: proxy.pid(name) for name in "ab"} == pids
    assert proxy.status()["pools"]["gpu"]["evictions"] == 0
    proxy.whole("c")
    (gone,) = {"a", "b"} - {name for name in "ab" if proxy.pid(name) == pids[name]}
    (stays,) = {"a", "b"} - {gone}
    assert proxy.site.active_units() == {f"llm-{stays}.service", "llm-c.service"}
    told = proxy.metrics()
    assert f'llmctl_evictions_total{{model="{gone}",why="room"}} 1' in told
    assert f'llmctl_evictions_total{{model="{stays}"' not in told
    states = {
        one["id"]: (one["state"], one["instances"], one["unloaded"] and one["unloaded"]["why"])
        for one in asyncio.run(get(proxy.port, "/v1/models")).json["data"]
    }
    assert states == {
        gone: ("stopped", 0, "room"), stays: ("ready", 1, None), "c": ("ready", 1, None),
    }  # fmt: skip


def test_a_busy_one_stays_and_the_one_that_ends_first_goes(
    proxy: PoolSite, fake_llama: Path
) -> None:
    """Two stand-ins write two words each, and then no more until their clients go."""
    proxy.configure(binaries={"upstream": proxy.site.server, "held": str(fake_llama)})
    for name in "ab":
        proxy.member(name, binary="held", env={"FAKE_LLAMA": "stalls=2"})
    proxy.reload()

    async def held(name: str) -> tuple[asyncio.StreamWriter, asyncio.StreamReader]:
        """A stream that has begun. Its connection ends with either of them."""
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(question(name, "one two three four", stream=True))
        await reader.readuntil(b'"content"')
        return writer, reader

    async def third_waits() -> object:
        seen = await proxy.members()
        return seen["c"]["waiting"] and seen["a"]["holds_bytes"] and seen["b"]["holds_bytes"]

    async def play() -> Reply:
        streams = [await held(name) for name in "ab"]
        pids = [await asyncio.to_thread(proxy.pid, name) for name in "ab"]
        third = asyncio.create_task(ask(proxy.port, question("c", max_tokens=4), seconds=110))
        await until(third_waits)
        assert pids == [await asyncio.to_thread(proxy.pid, name) for name in "ab"]
        streams[1][0].close()
        reply = await third
        assert pids[0] == await asyncio.to_thread(proxy.pid, "a")
        streams[0][0].close()
        return reply

    reply = asyncio.run(play())
    assert (reply.is_whole, reply.models) == (True, {"c"})
    assert proxy.site.active_units() == {"llm-a.service", "llm-c.service"}


def test_three_of_which_two_fit_are_all_served(proxy: PoolSite) -> None:
    """Without a pause: nobody starves, and a start is followed by many answers."""
    proxy.configure(max_wait="1s")
    proxy.reload()
    answers = dict.fromkeys("abc", 0)

    async def client(name: str) -> None:
        while min(answers.values()) < 4:
            reply = await ask(proxy.port, question(name, max_tokens=4), seconds=110)
            assert reply.is_whole, reply
            assert reply.models == {name}
            answers[name] += 1

    async def all_at_once() -> None:
        await asyncio.gather(*(client(name) for name in "abc"))

    asyncio.run(all_at_once())
    told = proxy.status()
    starts = sum(one["switches"] for one in told["queues"].values())
    assert starts == 2 + told["pools"]["gpu"]["evictions"]
    assert 2 * starts <= sum(answers.values())
    assert len(proxy.site.active_units()) == 2


def test_what_had_nothing_to_do_is_unloaded_and_what_is_pinned_stays(proxy: PoolSite) -> None:
    proxy.member("b", pin=True)
    proxy.member("a", ttl="1s")
    proxy.reload()
    for name in "ba":
        proxy.whole(name)
    before = proxy.pid("b")
    eventually(lambda: 'llmctl_evictions_total{model="a",why="ttl"} 1' in proxy.metrics())
    assert proxy.site.active_units() == {"llm-b.service"}
    for name in "ac":
        proxy.whole(name)
    assert proxy.site.active_units() == {"llm-b.service", "llm-c.service"}
    assert proxy.pid("b") == before
