"""The proxy in memory: clients without sockets, models that answer what a test says.

async with bench(served("a"), ready="a") as it:
    client = it.connect()
    client.send(b"GET /health HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n")
    assert client.status == 200
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from support.alone import Alone

from llmctl.core.proxy_settings import ProxySettings
from llmctl.core.state import State
from llmctl.errors import SwitchError
from llmctl.proxy.client import Client
from llmctl.proxy.head import AnswerHead
from llmctl.proxy.keeper import Seen
from llmctl.proxy.routing import Served
from llmctl.proxy.server import Proxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from llmctl.proxy.keeper import Progress
    from llmctl.proxy.keys import Keyring
    from llmctl.proxy.receiver import Receiver
    from llmctl.proxy.request_log import RequestLog
    from llmctl.proxy.spool import Spool

HIGH_WATER = 64 << 10


def served(name: str, *, group: str = "gpu", **more: Any) -> Served:
    return Served(name=name, group=group, port=12340, **more)


class Wire(asyncio.Transport):
    """A connection's transport: what is written to it is kept; what it takes can be stopped."""

    def __init__(self, peer: str, here: str) -> None:
        super().__init__({"peername": (peer, 40000), "sockname": (here, 1234)})
        self.written = b""
        self.is_closed = self.was_aborted = self.is_stuck = False
        self._protocol: asyncio.BufferedProtocol | None = None
        self._unread = 0

    def attach(self, protocol: asyncio.BufferedProtocol) -> None:
        self._protocol = protocol
        protocol.connection_made(self)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.is_closed
        self.written += bytes(data)
        self._unread += len(data) if self.is_stuck else 0
        if self._unread > HIGH_WATER and self._protocol is not None:
            self._protocol.pause_writing()

    def close(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            assert self._protocol is not None
            asyncio.get_running_loop().call_soon(self._protocol.connection_lost, None)

    def abort(self) -> None:
        self.was_aborted = True
        self.close()

    def is_closing(self) -> bool:
        return self.is_closed

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        pass

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


@dataclass
class Browser:
    """A client: what it sends, and what it has got so far."""

    wire: Wire
    protocol: Client

    def send(self, data: bytes) -> None:
        self.protocol.data_received(data)

    def get(self, path: str, method: str = "GET", host: str = "localhost", **headers: str) -> None:
        """A request without a body; `_` in a header's name is a dash."""
        lines = [f"{method} {path} HTTP/1.1", f"Host: {host}"]
        lines += [f"{key.replace('_', '-')}: {value}" for key, value in headers.items()]
        self.send("\r\n".join([*lines, "", ""]).encode())

    def ask(self, model: str | None, path: str = "/v1/chat/completions", **more: Any) -> None:
        """A question; `headers` among `more` are added to its head."""
        headers = {"Content-Type": "application/json", **more.pop("headers", {})}
        body = json.dumps({"model": model, "messages": [], **more}).encode()
        lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}"]
        lines += [f"{key}: {value}" for key, value in headers.items()]
        self.send("\r\n".join([*lines, "", ""]).encode() + body)

    @property
    def got(self) -> bytes:
        return self.wire.written

    @property
    def status(self) -> int:
        return int(self.got.split(None, 2)[1]) if self.got else 0

    def header(self, name: str) -> str | None:
        head = self.got.partition(b"\r\n\r\n")[0].decode()
        found = [line.partition(": ")[2] for line in head.split("\r\n")[1:]
                 if line.lower().startswith(f"{name.lower()}: ")]  # fmt: skip
        assert len(found) < 2, found
        return found[0] if found else None

    @property
    def json(self) -> Any:
        return json.loads(self.got.partition(b"\r\n\r\n")[2])

    @property
    def error(self) -> str:
        """The kind of the error it got."""
        error = self.json["error"]
        return str(error["code"]).removeprefix("llmctl_")

    def take(self) -> bytes:
        """What has come since the last look."""
        found, self.wire.written = self.wire.written, b""
        return found


@dataclass
class Asked:
    """A request as it came to a model's server, which answers as the test says."""

    head: bytes
    receiver: Receiver
    was_given_up: bool = False

    def answer(self, body: bytes, *, kind: bytes = b"application/json", status: int = 200) -> None:
        """A whole plain answer."""
        head = AnswerHead(status, b"", [(b"Content-Type", kind)], len(body))
        self.receiver.upstream_head(head)
        self.receiver.upstream_data(body)
        self.receiver.upstream_end()

    def stream(self, *pieces: bytes, end: bool = True) -> None:
        """A stream of events."""
        head = AnswerHead(200, b"OK", [(b"Content-Type", b"text/event-stream")])
        self.receiver.upstream_head(head)
        for piece in pieces:
            self.receiver.upstream_data(piece)
        if end:
            self.receiver.upstream_end()


@dataclass
class Models:
    """Stands for a pool of connections to a model."""

    port: int
    key: str | None
    asked: list[Asked] = field(default_factory=list)

    def take(self, connected: Any, failed: Any, *, fresh: bool = False) -> None:
        del failed, fresh
        connected(_Line(self))

    def at_hand(self) -> None:
        """None is there already."""

    def close_idle(self) -> None:
        pass


@dataclass
class _Line:
    models: Models
    was_used: bool = False
    current: Asked | None = None

    def send(
        self, head: bytes, body: Spool | None, receiver: Receiver, *, is_head: bool,
        may_switch: bool = False, keep: bool = False,
    ) -> None:  # fmt: skip
        del body, is_head, may_switch, keep
        self.current = Asked(head, receiver)
        self.models.asked.append(self.current)

    def hurry(self, take: object, after: bytes) -> None:
        """What comes goes the general way."""

    def close(self) -> None:
        if self.current is not None:
            self.current.was_given_up = True

    def pause(self) -> None:
        pass

    def resume(self) -> None:
        pass


@dataclass
class FakeKeeper(Alone):
    """A box as the test says it is; switches succeed unless `why` says why not."""

    seen: Seen
    why: str | None = None

    def look(self) -> Seen:
        return self.seen

    def switch(self, name: str, *, timeout: float, progress: Progress) -> None:
        del name, timeout
        progress("loading", 0.5, 1.0)
        if self.why is not None:
            raise SwitchError(self.why)

    def restart(self, name: str) -> None:
        del name


@dataclass
class Bench:
    """A proxy and its models."""

    proxy: Proxy
    models: dict[str, Models]

    def connect(self, peer: str = "127.0.0.1", here: str = "127.0.0.1") -> Browser:
        wire = Wire(peer, here)
        protocol = Client(self.proxy)
        wire.attach(protocol)
        return Browser(wire, protocol)


@contextlib.asynccontextmanager
async def bench(
    *models: Served, ready: str | None = None, settings: ProxySettings | None = None,
    keys: Keyring | None = None, log: RequestLog | None = None,
) -> AsyncIterator[Bench]:  # fmt: skip
    found = tuple(
        Served(**{**_facts(one), "state": State.READY}) if one.name == ready else one
        for one in models
    )
    active = {"gpu": ready} if ready else {}
    seen = Seen(found, active, {}, settings or ProxySettings(), keys=keys)
    proxy = Proxy(FakeKeeper(seen), log=log)
    await proxy.board.look()
    pools = {one.name: Models(one.port, one.key) for one in models}
    pool_of: dict[tuple[str, int], Any] = {(name, 1): pool for name, pool in pools.items()}
    proxy.board.pools._pools.update(pool_of)
    yield Bench(proxy, pools)
    for client in list(proxy.clients):
        client.connection_lost(None)
    proxy.journal.settle()


def _facts(one: Served) -> dict[str, Any]:
    return {name: getattr(one, name) for name in one.__struct_fields__}
