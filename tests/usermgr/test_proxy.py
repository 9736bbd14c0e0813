"""The proxy with servers that do what real ones will not do on demand."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from kit.waiting import eventually
from server.proxy_site import ProxySite
from support.asking import Reply, ask, get, question, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usermgr.site import ManagerSite


@pytest.fixture
def proxy(site: ManagerSite) -> Iterator[ProxySite]:
    """A proxy with two stand-ins, a and b, neither of them running."""
    site.profiles({"a": "", "b": ""})
    made = ProxySite(site, switch_timeout="2s", max_wait="100ms", hang_timeout="2s")
    try:
        eventually(lambda: len(asyncio.run(get(made.port, "/v1/models")).json["data"]) == 2)
        yield made
    finally:
        made.close()


def asked(proxy: ProxySite, model: str, *, stream: bool = False) -> Reply:
    return asyncio.run(ask(proxy.port, question(model, "a few words", stream=stream)))


def works(proxy: ProxySite, model: str) -> bool:
    reply = asked(proxy, model)
    assert reply.is_whole, reply
    return reply.models == {model}


def test_the_stand_ins_answer_and_switch(proxy: ProxySite) -> None:
    assert works(proxy, "a")
    assert works(proxy, "b")


@pytest.mark.parametrize(
    ("words", "cause"),
    [("exit=1", ""), ("oom", "out of memory"), ("corrupt", "corrupt"), ("never", ""), ("hang", "")],
)
def test_a_model_that_does_not_get_ready_is_told_and_the_other_is_back(
    proxy: ProxySite, words: str, cause: str
) -> None:
    """Bounded, named, and the next request works."""
    assert works(proxy, "a")
    proxy.site.behave("b", words)
    plain, stream = asked(proxy, "b"), asked(proxy, "b", stream=True)
    assert plain.status == 503
    assert plain.header("retry-after") == "10"
    for reply in (plain, stream):
        assert reply.error == "llmctl_switch_failed"
        assert cause in reply.body.decode()
    assert works(proxy, "a")
    assert proxy.site.group() == ("a", "ready")


def test_a_model_that_exits_in_a_loop_is_not_started_for_each_request(proxy: ProxySite) -> None:
    proxy.site.behave("b", "exit=1")
    assert {asked(proxy, "b").status for _ in range(20)} == {503}
    assert proxy.queue()["switches"] == 1


def test_a_slow_stop_is_waited_for(proxy: ProxySite) -> None:
    proxy.site.behave("a", "slowstop=1")
    assert works(proxy, "a")
    assert works(proxy, "b")


def test_a_load_is_waited_for(proxy: ProxySite) -> None:
    proxy.site.behave("a", "load=1")
    assert works(proxy, "a")


def test_a_server_that_dies_in_its_answer_ends_it_with_an_error(proxy: ProxySite) -> None:
    proxy.site.behave("a", "abort@2,pace=0.3")
    reply = asyncio.run(ask(proxy.port, question("a", "one two three " * 9, stream=True)))
    assert reply.ended
    assert reply.error == "llmctl_upstream_died"
    assert reply.events[-1] != "[DONE]"


def test_a_switch_by_hand_lets_go_who_waits_for_it(proxy: ProxySite) -> None:
    """Without any switch of the proxy's own."""
    proxy.site.behave("b", "load=1")
    proxy.site.llmctl("switch", "a")
    proxy.kill()
    proxy.configure(autoswitch=False)
    proxy.again()
    assert works(proxy, "a")
    assert asked(proxy, "b").status == 409
    begun = proxy.site.begin("switch", "b")
    eventually(lambda: proxy.queue()["coming"] == "b" or proxy.queue()["ready"] == "b")
    assert works(proxy, "b")
    assert begun.result().returncode == 0


def test_an_off_is_not_undone_by_what_waited(proxy: ProxySite) -> None:
    """A stream, a plain request, one for another model: each is told, and the GPU is free. What
    comes later starts a model."""
    proxy.configure(max_wait="1m")
    proxy.site.behave("a", "stalls=0,slowstop=0.5")
    proxy.site.llmctl("switch", "a")
    eventually(lambda: proxy.queue()["ready"] == "a")
    replies = asyncio.run(turned_off(proxy))
    begun, plain, other = replies
    assert begun.error == "llmctl_upstream_died"
    for reply, model in ((plain, "a"), (other, "b")):
        assert reply.error == "llmctl_stopped"
        assert f"Type: llmctl switch {model}" in reply.body.decode()
    assert plain.status == 503
    assert plain.header("x-should-retry") == "false"
    assert proxy.site.group() == (None, "stopped")
    assert proxy.queue()["switches"] == 0
    assert works(proxy, "b")


@pytest.mark.parametrize("by", ["systemctl", "llmctl"])
def test_a_stop_while_a_model_loads_is_told_and_the_next_request_starts_it(
    proxy: ProxySite, by: str
) -> None:
    """The proxy started it; nothing is wrong with it, so nothing keeps later requests out."""
    proxy.site.behave("a", "load=300")
    plain, stream = asyncio.run(stopped_while_loading(proxy, by))
    assert (plain.status, plain.error) == (503, "llmctl_stopped")
    assert plain.header("x-should-retry") == "false"
    assert stream.error == "llmctl_stopped"
    assert "Type: llmctl switch a" in plain.body.decode()
    assert proxy.site.group() == (None, "stopped")
    proxy.site.behave("a", "")
    assert works(proxy, "a")


async def stopped_while_loading(proxy: ProxySite, by: str) -> list[Reply]:
    waits = [
        asyncio.create_task(ask(proxy.port, question("a", "a few words", stream=stream)))
        for stream in (False, True)
    ]

    async def it_loads() -> bool:
        status = (await get(proxy.port, "/llmctl/status")).json
        return len(status["requests"]) == 3 and bool(status["queues"]["gpu"]["switching"])

    await until(it_loads)
    await asyncio.to_thread(eventually, lambda: proxy.site.group() == ("a", "loading"))
    if by == "llmctl":
        await asyncio.to_thread(proxy.site.llmctl, "off")
    else:
        await asyncio.to_thread(proxy.site.systemctl, "stop", "llm-a.service")
    return list(await asyncio.gather(*waits))


async def turned_off(proxy: ProxySite) -> list[Reply]:
    waits = [
        asyncio.create_task(ask(proxy.port, question(model, "a few words", stream=stream)))
        for model, stream in (("a", True), ("a", False), ("b", True))
    ]

    async def all_are_there() -> bool:
        return len((await get(proxy.port, "/llmctl/status")).json["requests"]) == 4

    await until(all_are_there)
    await asyncio.to_thread(proxy.site.llmctl, "off")
    return list(await asyncio.gather(*waits))


def test_an_answer_of_another_model_is_never_passed_on(proxy: ProxySite) -> None:
    """The port is b's by now, though the proxy has not seen it yet."""
    assert works(proxy, "a")
    proxy.site.llmctl("switch", "b")
    for _ in range(5):
        assert works(proxy, "a")
        assert works(proxy, "b")


def test_a_server_that_is_well_and_gets_nowhere_is_restarted_and_named(proxy: ProxySite) -> None:
    proxy.configure(stall_timeout="2s", max_wait="100ms")
    proxy.site.behave("a", "stalls=2")
    proxy.site.llmctl("switch", "a")
    pid = proxy.site.show("llm-a.service", "MainPID")
    asked = asyncio.run(both(proxy, proxy.site))
    for reply, is_stream in zip(asked, (True, False), strict=True):
        assert reply.ended
        assert reply.error == "llmctl_stalled"
        assert reply.status == (200 if is_stream else 502)
        assert "a has not got on with what it works on for 2s" in reply.body.decode()
    eventually(lambda: proxy.site.show("llm-a.service", "MainPID") != pid, why="it is restarted")
    assert works(proxy, "a")
    counted = asyncio.run(get(proxy.port, "/metrics")).body.decode()
    assert 'llmctl_restarts_total{model="a",why="stalled"} 1' in counted


async def both(proxy: ProxySite, site: ManagerSite) -> list[Reply]:
    """A stream and a plain answer of a server that stalls; the next one will not."""
    made = [
        asyncio.create_task(ask(proxy.port, question("a", "a few words", stream=stream)))
        for stream in (True, False)
    ]
    await until(lambda: streams(proxy))
    site.behave("a", "")
    return list(await asyncio.gather(*made))


async def streams(proxy: ProxySite) -> bool:
    told = (await get(proxy.port, "/llmctl/status")).json
    return "streaming" in [one["state"] for one in told["requests"]]


def test_a_slow_server_that_gets_on_is_left_alone(proxy: ProxySite) -> None:
    """Without a byte for thrice as long as nothing may move."""
    proxy.configure(stall_timeout="2s")
    proxy.site.behave("a", "pace=0.5")
    words = " ".join(["word"] * 12)
    reply = asyncio.run(ask(proxy.port, question("a", words)))
    assert reply.is_whole
    assert "llmctl_restarts_total{" not in asyncio.run(get(proxy.port, "/metrics")).body.decode()
