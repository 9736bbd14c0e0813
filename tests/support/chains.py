"""A proxy in memory with several models, whose servers do as a test says (support/wire.py)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from support.alone import Alone
from support.wire import MemoryPool, MemoryTransport, Wire

from llmctl.core.guard.settings import GuardSettings
from llmctl.core.proxy_settings import ProxySettings
from llmctl.core.state import State
from llmctl.proxy.keeper import Seen
from llmctl.proxy.routing import Far, Served
from llmctl.proxy.server import Proxy

if TYPE_CHECKING:
    from llmctl.proxy.keeper import Progress

ATTIC = Far(box="attic", host="attic", port=1234, model="coder", key="s3cret")


def model(name: str, *fallback: str | Far, **more: Any) -> Served:
    """A resident that is ready, unless `more` says otherwise."""
    more = {"group": None, "state": State.READY, "pid": 1, "ctx": 4096, **more}
    more.setdefault("guard", GuardSettings(mode="off"))
    return Served(name=name, port=more.pop("port", 1), fallback=fallback, **more)


class Models(Alone):
    """A Keeper of what does not change."""

    def __init__(self, *served: Served, settings: ProxySettings) -> None:
        self.served, self.settings = served, settings

    def look(self) -> Seen:
        ready = {
            one.group or f"none:{one.name}": one.name
            for one in self.served
            if one.state is State.READY
        }
        return Seen(self.served, ready, {}, self.settings)

    def switch(self, name: str, *, timeout: float, progress: Progress) -> None:
        raise AssertionError(f"nobody switches to {name} here: {timeout}, {progress}")

    def restart(self, name: str) -> None:
        raise AssertionError(f"{name} does not hang")


class Chain(Wire):
    """pools: of each model, what its server heard. now: the time."""

    def __init__(self, *served: Served, **settings: Any) -> None:
        super().__init__()
        self.models = Models(*served, settings=ProxySettings(**settings))
        self.pools: dict[str, MemoryPool] = {}
        self.now = 1000.0

    async def _made(self) -> Proxy:
        proxy = Proxy(self.models, now=lambda: self.now)
        await proxy.board.look()
        proxy.board.pool = self._pool  # type: ignore[method-assign,assignment]
        proxy.board.doubt = lambda _: None  # type: ignore[method-assign,assignment]
        return proxy

    def _pool(self, served: Served) -> MemoryPool:
        return self.pools.setdefault(served.name, MemoryPool())

    def of(self, name: str) -> MemoryTransport:
        """The last connection to a model's server."""
        opened = self.pools[name].opened if name in self.pools else []
        assert opened, f"{name} was not asked"
        return opened[-1]

    def was_asked(self, name: str) -> int:
        """How often."""
        opened = self.pools[name].opened if name in self.pools else []
        return sum(bytes(one.heard).count(b" HTTP/1.1\r\nHost: ") for one in opened)

    def asks(
        self, name: str, path: bytes = b"/v1/chat/completions", **body: Any
    ) -> MemoryTransport:
        """A client's request."""
        client = self.connect()
        content = json.dumps({"model": name, "messages": [], **body}).encode()
        client.sends(
            b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (path, len(content), content)
        )
        return client

    def passes(self, seconds: int) -> None:
        """Time, with its pulses."""
        for _ in range(seconds):
            self.now += 1
            self._runner.run(self._pulse())

    async def _pulse(self) -> None:
        self.proxy.pulse()
