"""What `llmctl status` tells of the proxy: where it is installed, it is asked."""

import contextlib
from typing import Any

import msgspec

from llmctl.core.state import State
from llmctl.engine.box import Box
from llmctl.engine.proxy_told import TIMEOUT_S, Unloaded, told
from llmctl.engine.proxy_told import port as port_of


class ProxyView(msgspec.Struct, frozen=True, kw_only=True):
    """The proxy at one moment. state: ready, stopped (nobody listens) or failed (no answer that is
    the proxy's). in_flight, waiting: requests; None where it did not tell. switching: models that
    it switches to. unloaded: models that do not run since it stopped them."""

    state: State
    url: str
    in_flight: int | None = None
    waiting: int | None = None
    switching: tuple[str, ...] = ()
    connections: int | None = None
    problems: tuple[str, ...] = ()
    unloaded: tuple[Unloaded, ...] = ()


def proxy_view(box: Box) -> ProxyView | None:
    """How the proxy is; None: it is not installed, or not where this machine can ask it."""
    port = port_of(box)
    if port is None:
        return None
    url = f"http://127.0.0.1:{port}"
    has_answered, said = told(box, port)
    if said is None:
        listens = has_answered or _listens(box, port)
        return ProxyView(state=State.FAILED if listens else State.STOPPED, url=url)
    return ProxyView(
        state=State.READY, url=url, in_flight=said.in_flight, waiting=said.waiting,
        switching=tuple(one.switching for one in said.queues.values() if one.switching),
        connections=said.connections, problems=said.all_problems,
        unloaded=said.unloaded,
    )  # fmt: skip


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
        "unloaded": [
            {"model": one.model, "why": one.why, "for": one.room_for, "ago_s": one.ago_s}
            for one in view.unloaded
        ],
    }  # fmt: skip
