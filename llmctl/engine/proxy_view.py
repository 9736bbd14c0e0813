"""What `llmctl status` tells of the proxy: where it is installed, it is asked."""

import contextlib
import re
from typing import Any

import msgspec

from llmctl.core.state import State
from llmctl.engine.box import Box
from llmctl.health import get

SOCKET = "llmctl-proxy.socket"
TIMEOUT_S = 1.0
_LISTENS = re.compile(r"^ListenStream=(?:127\.0\.0\.1|0\.0\.0\.0):(\d+)$", re.MULTILINE)
"""`[::]` is not among them: the socket has BindIPv6Only=, and this machine is asked by IPv4."""


class ProxyView(msgspec.Struct, frozen=True, kw_only=True):
    """The proxy at one moment. state: ready, stopped (nobody listens) or failed (no answer that is
    the proxy's). in_flight, waiting: requests; None where it did not tell. switching: models that
    it switches to."""

    state: State
    url: str
    in_flight: int | None = None
    waiting: int | None = None
    switching: tuple[str, ...] = ()
    connections: int | None = None
    problems: tuple[str, ...] = ()


class _Queue(msgspec.Struct):
    switching: str | None = None


class _Told(msgspec.Struct):
    """/llmctl/status, as far as it matters here."""

    in_flight: int
    waiting: int
    connections: int
    queues: dict[str, _Queue] = {}
    problem: str | None = None
    problems: tuple[str, ...] = ()


def proxy_view(box: Box) -> ProxyView | None:
    """How the proxy is; None: it is not installed, or not where this machine can ask it."""
    port = loopback_port(box)
    if port is None:
        return None
    url = f"http://127.0.0.1:{port}"
    status, body = get(box.host, port, "/llmctl/status", timeout=TIMEOUT_S)
    try:
        told = msgspec.json.decode(body, type=_Told) if status == 200 else None
    except msgspec.DecodeError:
        told = None
    if told is None:
        listens = status is not None or _listens(box, port)
        return ProxyView(state=State.FAILED if listens else State.STOPPED, url=url)
    problem = (told.problem,) if told.problem else ()
    return ProxyView(
        state=State.READY, url=url, in_flight=told.in_flight, waiting=told.waiting,
        switching=tuple(q.switching for q in told.queues.values() if q.switching),
        connections=told.connections, problems=(*problem, *told.problems),
    )  # fmt: skip


def loopback_port(box: Box) -> int | None:
    """The port where this box's 127.0.0.1 leads to the proxy; None: there is none."""
    found = _LISTENS.search(box.store.unit_text(SOCKET) or "")
    return int(found[1]) if found else None


def _listens(box: Box, port: int) -> bool:
    try:
        with contextlib.closing(box.host.dial(port, timeout=TIMEOUT_S)):
            return True
    except OSError:
        return False


def facts(view: ProxyView | None) -> dict[str, Any] | None:
    """Its JSON shape; docs/reference/json.md holds it."""
    return None if view is None else {
        "state": view.state.value, "url": view.url, "in_flight": view.in_flight,
        "waiting": view.waiting, "switching": list(view.switching),
        "connections": view.connections, "problems": list(view.problems),
    }  # fmt: skip
