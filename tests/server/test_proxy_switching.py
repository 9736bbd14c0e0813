"""The proxy and its models under load: nothing is lost, and the right model answers."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from kit.waiting import eventually
from server.proxy_site import ProxySite, proxied
from support.asking import Reply, ask, get, question, until, vanish

if TYPE_CHECKING:
    from usermgr.site import ManagerSite

CLIENTS = 16
SWITCHES = 200 if os.environ.get("LLMCTL_SOAK") else 30


async def client(port: int, number: int, until: asyncio.Event, seen: Counter[str]) -> None:
    """Asks for both models, streaming or not, until it is told to stop."""
    rng = random.Random(number)
    while not until.is_set():
        model, stream = rng.choice("ab"), rng.random() < 0.5
        reply = await ask(port, question(model, stream=stream, max_tokens=8))
        seen["asked"] += 1
        assert reply.is_whole, (model, stream, reply)
        assert reply.models == {model}
        assert reply.served_by == model


async def under_load(proxy: ProxySite, seen: Counter[str]) -> None:
    until = asyncio.Event()
    clients = [asyncio.create_task(client(proxy.port, n, until, seen)) for n in range(CLIENTS)]
    while (await asyncio.to_thread(proxy.queue))["switches"] < SWITCHES:
        await asyncio.sleep(0.2)
        for one in clients:
            if one.done():
                one.result()
    until.set()
    await asyncio.gather(*clients)


@pytest.mark.timeout(300 if SWITCHES < 200 else 1800)
def test_switches_under_load_lose_nothing(site: ManagerSite) -> None:
    """Zero failed requests, zero cut streams, every answer from the right model."""
    with proxied(site, max_wait="100ms") as proxy:
        seen: Counter[str] = Counter()
        began = time.monotonic()
        asyncio.run(under_load(proxy, seen))
        took, queue = time.monotonic() - began, proxy.queue()
        assert seen["asked"] > SWITCHES
        # Nobody is made to wait for less than max_wait, so a switch costs at least that.
        assert queue["switches"] <= 1 + took / 0.1
        eventually(proxy.is_idle)


def test_six_requests_in_turn_cost_at_most_two_switches(site: ManagerSite) -> None:
    async def in_turn(port: int) -> list[Reply]:
        asked = []
        for model in "ababab":
            asked.append(asyncio.create_task(ask(port, question(model, max_tokens=8))))
            await asyncio.sleep(0.01)
        return await asyncio.gather(*asked)

    with proxied(site) as proxy:
        replies = asyncio.run(in_turn(proxy.port))
        assert [one.models for one in replies] == [{one} for one in "ababab"]
        assert proxy.queue()["switches"] <= 2


def test_clients_that_vanish_leave_nothing_behind(site: ManagerSite) -> None:
    """Queued, loading, in prefill, streaming: no slot stays busy, and no switch is stranded."""

    async def come_and_go(port: int) -> None:
        rng = random.Random(1)
        for _ in range(12):
            await asyncio.gather(*(
                vanish(
                    port,
                    question(rng.choice("ab"), "LOOP", stream=rng.random() < 0.7, max_tokens=3000),
                    after=rng.choice([0.001, 0.02, 0.2, 0.6]),
                    read=rng.choice([1, 300, 5000]),
                )
                for _ in range(6)
            ))  # fmt: skip

    with proxied(site, max_wait="100ms") as proxy:
        asyncio.run(come_and_go(proxy.port))
        eventually(proxy.is_idle, why="nothing waits and nothing is under way")
        for model in "ab":
            reply = asyncio.run(ask(proxy.port, question(model, max_tokens=8)))
            assert reply.models == {model}
            eventually(lambda: not proxy.busy_slots(), why="no slot is busy")


def listed(proxy: ProxySite) -> dict[str, tuple[str, int]]:
    """State and context of each model."""
    told = asyncio.run(get(proxy.port, "/v1/models")).json["data"]
    assert all(one["ctx"] == one["meta"]["n_ctx"] for one in told)
    return {one["id"]: (one["state"], one["ctx"]) for one in told}


def test_the_context_that_is_told_is_what_one_request_may_use(site: ManagerSite) -> None:
    """Four slots share what `-c` says, and none goes beyond what the model was trained for."""
    with proxied(site) as proxy:
        proxy.profile("a", ctx=65536, parallel=2)  # trained for 8192
        proxy.reload()
        stopped = {"a": ("stopped", 32768), "b": ("stopped", 1024)}
        eventually(lambda: listed(proxy) == stopped, why="the profiles are read")
        assert asyncio.run(ask(proxy.port, question("a", max_tokens=2))).is_whole
        eventually(lambda: listed(proxy)["a"] == ("ready", 8192), why="the server has told")
        assert asyncio.run(ask(proxy.port, question("b", max_tokens=2))).is_whole
        eventually(lambda: listed(proxy) == {"a": ("stopped", 8192), "b": ("ready", 1024)})
        slots = asyncio.run(get(proxy.port, "/slots")).json
        assert {one["n_ctx"] for one in slots} == {1024}


def pid_of(proxy: ProxySite, name: str) -> int:
    return int(proxy.site.show(f"llm-{name}.service", "MainPID"))


def long(proxy: ProxySite) -> None:
    """Answers of `a` may take a dozen seconds: longer than it takes to see one, and to end it."""
    proxy.profile("a", ctx=32768, parallel=1)


async def killed(proxy: ProxySite, pid: int, *, phase: str) -> Reply:
    """A stream whose model is killed before, or in the midst of, its answer."""
    stream = question("a", "LOOP", stream=True, max_tokens=30000)
    asked = asyncio.create_task(ask(proxy.port, stream))
    if phase == "streaming":
        await until(lambda: is_in(proxy, "streaming"))
    os.kill(pid, signal.SIGKILL)
    return await asked


async def is_in(proxy: ProxySite, phase: str) -> bool:
    """Is the chat that the proxy has in that phase?"""
    told = await get(proxy.port, "/llmctl/status")
    return any(one["endpoint"] == "chat" and one["state"] == phase for one in told.json["requests"])


def test_a_model_that_dies_in_its_answer_is_told_and_the_next_request_works(
    site: ManagerSite,
) -> None:
    with proxied(site) as proxy:
        long(proxy)
        asyncio.run(ask(proxy.port, question("a", max_tokens=1)))
        reply = asyncio.run(killed(proxy, pid_of(proxy, "a"), phase="streaming"))
        assert reply.status == 200
        assert reply.ended
        assert reply.error == "llmctl_upstream_died"
        assert reply.events[-1] != "[DONE]"
        again = asyncio.run(ask(proxy.port, question("a", max_tokens=8)))
        assert again.is_whole


def test_a_model_that_dies_before_its_answer_is_asked_again(site: ManagerSite) -> None:
    """systemd restarts it, and nobody notices more than the wait."""
    with proxied(site) as proxy:
        asyncio.run(ask(proxy.port, question("a", max_tokens=1)))
        os.kill(pid_of(proxy, "a"), signal.SIGKILL)
        reply = asyncio.run(ask(proxy.port, question("a", max_tokens=8)))
        assert reply.is_whole


def test_a_model_that_hangs_is_restarted_and_named(site: ManagerSite) -> None:
    async def stopped(proxy: ProxySite, pid: int) -> tuple[Reply, Reply]:
        asked = asyncio.create_task(
            ask(proxy.port, question("a", "LOOP", stream=True, max_tokens=30000))
        )
        await until(lambda: is_in(proxy, "streaming"))
        os.kill(pid, signal.SIGSTOP)
        waits = asyncio.create_task(ask(proxy.port, question("b", max_tokens=8)))
        return await asked, await waits

    with proxied(site, hang_timeout="1s", max_wait="100ms") as proxy:
        long(proxy)
        asyncio.run(ask(proxy.port, question("a", max_tokens=1)))
        cut, other = asyncio.run(stopped(proxy, pid_of(proxy, "a")))
        assert cut.error == "llmctl_hung"
        assert "a has not answered for 1s" in cut.events[-1]["error"]["message"]
        assert other.is_whole


@pytest.mark.parametrize("phase", ["waiting", "streaming"])
def test_a_proxy_that_is_killed_leaves_no_work_behind(site: ManagerSite, phase: str) -> None:
    """Its connections are gone, so its models stop what they do; the next one goes on."""
    with proxied(site) as proxy:
        long(proxy)
        model = "a"
        if phase == "streaming":
            asyncio.run(ask(proxy.port, question(model, max_tokens=1)))

        async def kill_it() -> Reply:
            loop = question(model, "LOOP", stream=True, max_tokens=30000)
            asked = asyncio.create_task(ask(proxy.port, loop))
            await until(lambda: is_in(proxy, phase))
            proxy.kill()
            return await asked

        assert not asyncio.run(kill_it()).ended
        proxy.again()
        assert asyncio.run(ask(proxy.port, question("b", max_tokens=8))).is_whole
        assert asyncio.run(ask(proxy.port, question("a", max_tokens=8))).is_whole
        eventually(lambda: not proxy.busy_slots(), why="no slot is busy")
