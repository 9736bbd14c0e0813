"""Fallback among real models, and to a real proxy: here its own, as if it were another box's."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from typing import TYPE_CHECKING, Any

from kit.waiting import eventually
from server.proxy_site import ProxySite
from support.asking import Reply, ask, get, question, until
from usermgr.site import free_port

if TYPE_CHECKING:
    from usermgr.site import ManagerSite

ENDPOINTS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {}, "/v1/messages": {}, "/v1/responses": {"input": "PLAIN"},
    "/v1/completions": {"prompt": "PLAIN"},
}  # fmt: skip
TOO_LONG = "word " * 500
"""More than one slot of b has, and less than that of c."""


class Mirrored(ProxySite):
    """a cannot be started, and b of the box `mirror` answers for it; c answers for b."""

    def configure(self, **settings: Any) -> None:
        mirror = {"url": f"http://127.0.0.1:{self.port}"}
        listen = {"listen": [f"127.0.0.1:{self.port}"], **settings}
        self.site.configure(proxy=listen, guard={"mode": "off"}, boxes={"mirror": mirror})
        broken = f"{self.site.manager.env['HOME']}/broken.gguf"
        self.site.put({broken: "GGUF, but nothing more"})
        self.profile("a", model=broken, fallback=["mirror/b"])
        self.profile("b", group="none", port=free_port(), fallback=["c"])
        self.profile("c", group="none", port=free_port(), ctx=8192, parallel=1)


def models(proxy: ProxySite) -> set[str]:
    return {one["id"] for one in asyncio.run(get(proxy.port, "/v1/models")).json["data"]}


def whose(reply: Reply) -> tuple[str | None, str | None]:
    """Who answered, and for whom: as its headers say it, or a comment where the head was out."""
    found = {
        name.strip().lower(): value.strip()
        for line in reply.body.decode().split("\n")
        if line.startswith(": X-")
        for name, _, value in [line[2:].partition(":")]
    }
    return (
        reply.served_by or found.get("x-served-by"),
        reply.header("x-fallback-from") or found.get("x-fallback-from"),
    )


def named(reply: Reply) -> set[str]:
    """Every `model` that is said anywhere in the body."""
    found: set[str] = set()

    def look(value: Any) -> None:
        if isinstance(value, dict):
            found.update([value["model"]] if isinstance(value.get("model"), str) else [])
            for one in value.values():
                look(one)
        elif isinstance(value, list):
            for one in value:
                look(one)

    is_stream = reply.header("content-type") == "text/event-stream"
    look(reply.events if is_stream else json.loads(reply.body))
    return found


async def killed_before_its_answer(proxy: ProxySite) -> Reply:
    pid = int(await asyncio.to_thread(proxy.site.show, "llm-b.service", "MainPID"))
    os.kill(pid, signal.SIGSTOP)
    asked = asyncio.create_task(ask(proxy.port, question("b", max_tokens=2)))

    async def is_under_way() -> object:
        status = (await get(proxy.port, "/llmctl/status")).json
        return status["queues"]["none:b"]["in_flight"] == {"b": 1}

    await until(is_under_way)
    os.kill(pid, signal.SIGKILL)
    return await asked


def logged(site: ManagerSite) -> list[list[str]]:
    return [one["fallback_from"] for one in site.json("requests", "--json", "-n", "3")]


def test_whoever_can_answers_and_says_so_on_every_endpoint(site: ManagerSite) -> None:
    with contextlib.closing(Mirrored(site)) as proxy:
        eventually(lambda: models(proxy) == {"a", "b", "c"}, why="the profiles are read")
        for path, more in ENDPOINTS.items():
            for stream in (False, True):
                asked = question("a", path=path, stream=stream, max_tokens=4, **more)
                reply = asyncio.run(ask(proxy.port, asked))
                assert (reply.status, reply.ended) == (200, True), reply
                assert whose(reply) == ("mirror/b", "a"), reply
                assert named(reply) == {"b"}, reply

        reply = asyncio.run(ask(proxy.port, question("b", TOO_LONG, max_tokens=4)))
        assert reply.is_whole, reply
        assert (whose(reply), reply.models) == (("c", "b"), {"c"})
        reply = asyncio.run(ask(proxy.port, question("b", TOO_LONG * 20, max_tokens=4)))
        assert (reply.status, whose(reply)) == (400, ("b", None))
        assert reply.json["error"]["type"] == "exceed_context_size_error"

        reply = asyncio.run(killed_before_its_answer(proxy))
        assert reply.is_whole, reply
        assert (whose(reply), reply.models) == (("c", "b"), {"c"})
        eventually(proxy.is_idle)
        counts = asyncio.run(get(proxy.port, "/metrics")).body.decode()
        assert 'llmctl_fallbacks_total{model="b",why="context"} 1' in counts
        assert 'llmctl_fallbacks_total{model="b",why="crash"} 1' in counts
        eventually(lambda: logged(site) == [["b"], [], ["b"]], why="the log is written")
