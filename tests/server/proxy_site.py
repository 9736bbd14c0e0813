"""The proxy beside a site: a child process of the test, on a port of its own."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from kit.waiting import eventually
from support.asking import get
from usermgr.site import free_port, to_yaml

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from usermgr.site import ManagerSite


TWO = {"a": "llama-script.gguf", "b": "qwen3-script.gguf"}


class ProxySite:
    """A proxy and its site. models: profiles that are there when it starts, and their files."""

    def __init__(
        self, site: ManagerSite, models: Mapping[str, str] | None = None, **settings: Any
    ) -> None:
        self.site, self.port = site, free_port()
        self.configure(**settings)
        for name, model in (models or {}).items():
            self.profile(name, model)
        self.process = self._start()

    def configure(self, **settings: Any) -> None:
        """The guard is off: LOOP is an answer that takes as long as a test wants."""
        proxy = {"listen": [f"127.0.0.1:{self.port}"], **settings}
        self.site.configure(proxy=proxy, guard={"mode": "off"})

    def profile(self, name: str, model: str = "llama-script.gguf", **keys: Any) -> None:
        content = {"model": model, "ctx": 4096, "parallel": 4, **keys}
        self.site.put({self.site.profile_path(name): to_yaml(content)})

    def reload(self) -> None:
        """Look at once, and not only when it is time for it."""
        self.process.send_signal(signal.SIGHUP)

    def _start(self) -> subprocess.Popen[bytes]:
        manager = self.site.manager
        process = subprocess.Popen(
            [
                *("setpriv", "--pdeathsig", "KILL"),
                *("nsenter", "--target", str(manager.pid), "--mount", "--"),
                *(sys.executable, "-m", "llmctl.proxy"),
            ],
            env=manager.env,
        )
        eventually(self._listens, why="the proxy listens")
        return process

    def _listens(self) -> bool:
        with socket.socket() as one:
            return one.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self) -> None:
        """As a power cut would end it."""
        self.process.kill()
        self.process.wait()

    def again(self) -> None:
        self.process = self._start()

    def status(self) -> Any:
        return asyncio.run(get(self.port, "/llmctl/status")).json

    def queue(self, name: str = "gpu") -> Any:
        return self.status()["queues"][name]

    def is_idle(self) -> bool:
        """Nothing waits and nothing is under way, but this question."""
        told = self.status()
        busy = [q for q in told["queues"].values() if q["waiting"] or q["in_flight"]]
        return not busy and len(told["requests"]) == 1

    def busy_slots(self) -> list[int]:
        slots = asyncio.run(get(self.port, "/slots")).json
        return [one["id"] for one in slots if one["is_processing"]]

    def close(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        finally:
            self.process.kill()


@contextlib.contextmanager
def proxied(site: ManagerSite, **settings: Any) -> Iterator[ProxySite]:
    """A proxy with two models, a and b, none of them running."""
    made = ProxySite(site, TWO, **settings)
    try:
        eventually(lambda: len(asyncio.run(get(made.port, "/v1/models")).json["data"]) == 2)
        yield made
    finally:
        made.close()
