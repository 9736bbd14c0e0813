"""What the proxy answers itself: models, its own health, counts, events."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

import msgspec

from llmctl import __version__
from llmctl.core.state import State
from llmctl.proxy.access import OURS, allowed_origin, is_preflight, preflight_headers
from llmctl.proxy.dialect import Trouble
from llmctl.proxy.head import EVENTS, Request

if TYPE_CHECKING:
    from llmctl.proxy.metrics import Samples
    from llmctl.proxy.relay import Relay
    from llmctl.proxy.routing import Served
    from llmctl.proxy.server import Proxy

PROMETHEUS = b"text/plain; version=0.0.4; charset=utf-8"
ONE_MODEL = b"/v1/models/"


def own_page(proxy: "Proxy", relay: "Relay", request: Request, path: bytes) -> bool:
    """Answer it, if it is for the proxy."""
    page = _page_for(proxy, relay, request, path)
    if page is None:
        return False
    relay.record.is_own = True
    page(proxy, relay, request)
    return True


def _page_for(proxy: "Proxy", relay: "Relay", request: Request, path: bytes) -> "_Page | None":
    if is_preflight(request):
        return _preflight
    if relay.forced is not None:
        return None
    if request.method in (b"GET", b"HEAD"):
        if path.startswith(ONE_MODEL):
            return _model
        if path == b"/" and proxy.table.default is None:
            return _nothing
        if path in _PAGES:
            return _PAGES[path]
    return _no_page if path.startswith(OURS) else None


def _no_page(_: "Proxy", relay: "Relay", __: Request) -> None:
    """What is below our own prefix is no model's."""
    relay.refuse(Trouble(404, "no_page", "There is no such page, or not for this method."))


def _nothing(_: "Proxy", relay: "Relay", __: Request) -> None:
    relay.page(200, b'{"status":"no model is running"}')


def _preflight(proxy: "Proxy", relay: "Relay", request: Request) -> None:
    origin = request.header(b"origin")
    if origin is None or not allowed_origin(origin, proxy.settings):
        relay.refuse(Trouble(
            403, "origin_not_allowed", "Web pages of this origin may not use this (proxy: cors).",
        ))  # fmt: skip
    else:
        relay.page(200, b"", headers=preflight_headers(request))


def _health(proxy: "Proxy", relay: "Relay", _: Request) -> None:
    if proxy.table.active:
        relay.page(200, b'{"status":"ok"}')
        return
    waits = "a model is loading" if proxy.board.loading else "no model is running"
    relay.refuse(Trouble(503, "not_ready", f"{waits[0].upper()}{waits[1:]}.", retry_after_s=2))


def _watch(proxy: "Proxy", relay: "Relay", request: Request) -> None:
    if request.method == b"HEAD":
        relay.page(200, b"", kind=EVENTS)
        return
    proxy.journal.settle()  # what ended before is not told to who comes after
    trouble = proxy.journal.events.add(relay)
    if trouble is not None:
        relay.refuse(trouble)
        return
    relay.watch()


# Models


def _seen(proxy: "Proxy", relay: "Relay") -> Iterable["Served"]:
    """Those that the key may use."""
    allowed = proxy.models_of(relay.key)
    for served in proxy.table.served.values():
        if allowed is None or served.name in allowed:
            yield served


def _models(proxy: "Proxy", relay: "Relay") -> dict[str, Any]:
    """OpenAI's list, with what a client may want to know besides."""
    listed = [one for served in _seen(proxy, relay) for one in _entries(proxy, served)]
    return {"object": "list", "data": listed}


def _model_list(proxy: "Proxy", relay: "Relay", _: Request) -> None:
    relay.page(200, msgspec.json.encode(_models(proxy, relay)))


def _model(proxy: "Proxy", relay: "Relay", _: Request) -> None:
    """One of the list."""
    name = unquote_to_bytes(relay.path.removeprefix(ONE_MODEL)).decode(errors="replace")
    found = (one for one in _models(proxy, relay)["data"] if one["id"] == name)
    one = next(found, None)
    if one is None:
        relay.refuse(Trouble(404, "unknown_model", f"There is no model {name[:80]!r}."))
    else:
        relay.page(200, msgspec.json.encode(one))


def state_of(proxy: "Proxy", served: "Served") -> State:
    """Newer than the last look at the box, where we know better."""
    if proxy.table.active.get(served.queue) == served.name:
        return State.READY
    return State.LOADING if served.name in proxy.board.loading else served.state


def states(proxy: "Proxy") -> dict[str, str]:
    """Of every model."""
    return {one.name: state_of(proxy, one).value for one in proxy.table.served.values()}


def _ready_instances(proxy: "Proxy", served: "Served") -> int:
    replicas = [one for one in proxy.board.replicas if one.name == served.name]
    first = state_of(proxy, served) is State.READY
    return first + sum(one.state is State.READY for one in replicas)


def _queue(proxy: "Proxy", served: "Served") -> dict[str, Any]:
    """What a model works on, who waits for it, and why it does not run. Which other one it made
    room for is not everybody's to know."""
    turns, gone = proxy.board.queues.get(served.queue), proxy.board.unloading.last.get(served.name)
    waiting = turns.waiting.values() if turns is not None else ()
    return {
        "in_flight": turns.busy.get(served.name, 0) if turns is not None else 0,
        "waiting": sum(one.model == served.name for one in waiting),
        "unloaded": gone and {"why": gone.why, "ago_s": round(proxy.now() - gone.at, 1)},
    }  # fmt: skip


def _entries(proxy: "Proxy", served: "Served") -> list[dict[str, Any]]:
    facts = {
        "object": "model", "created": 0, "owned_by": "llmctl",
        "state": state_of(proxy, served).value, "profile": served.name, "ctx": served.ctx,
        "instances": _ready_instances(proxy, served), "vision": served.vision,
        **_queue(proxy, served), "meta": {"n_ctx": served.ctx},
    }  # fmt: skip
    return [{"id": name, **facts} for name in (served.name, *served.aliases)]


# Now


def _metrics(proxy: "Proxy", relay: "Relay", _: Request) -> None:
    proxy.journal.settle()
    text = proxy.journal.metrics.text(_gauges(proxy), proxy.models_of(relay.key))
    relay.page(200, text, kind=PROMETHEUS)


def _gauges(proxy: "Proxy") -> dict[str, "Samples"]:
    """What is true now, for /metrics; models are profiles, so their number is bounded."""
    in_flight: dict[str, int] = dict.fromkeys(proxy.table.served, 0)
    waiting = dict(in_flight)
    for turns in proxy.board.queues.values():
        in_flight |= turns.busy
        for one in turns.waiting.values():
            waiting[one.model] = waiting.get(one.model, 0) + 1
    ready = {name: int(state == State.READY.value) for name, state in states(proxy).items()}
    dropped: dict[str, Samples] = {
        name: {(): log.dropped if log is not None else 0}
        for name, log in (
            ("llmctl_log_dropped_total", proxy.journal.log),
            ("llmctl_guard_log_dropped_total", proxy.journal.guard_log),
        )
    }
    return {
        "llmctl_requests_in_flight": _by_model(in_flight),
        "llmctl_requests_waiting": _by_model(waiting), "llmctl_model_ready": _by_model(ready),
        "llmctl_model_rests": _by_model(dict.fromkeys(proxy.board.rests.left(proxy.now()), 1)),
        "llmctl_instances": _by_model(
            {one.name: _ready_instances(proxy, one) for one in proxy.table.served.values()}
        ),
        "llmctl_instance_requests_in_flight": {
            (("model", name), ("instance", str(number))): count
            for name, machine in proxy.board.replicas.machines.items()
            for number, count in machine.busy.items()
        },
        "llmctl_connections": {(): len(proxy.clients)},
        "llmctl_watchers": {(): len(proxy.journal.events)},
        **dropped,
        "llmctl_info": {(("version", __version__),): 1},
    }  # fmt: skip


def _by_model(counts: dict[str, int]) -> "Samples":
    return {(("model", name),): count for name, count in counts.items()}


def _status_page(proxy: "Proxy", relay: "Relay", _: Request) -> None:
    relay.page(200, msgspec.json.encode(_status(proxy)))


def _status(proxy: "Proxy") -> dict[str, Any]:
    """The proxy at this moment."""
    queues = proxy.board.queues
    return {
        "version": __version__,
        "in_flight": sum(sum(one.busy.values()) for one in queues.values()),
        "waiting": sum(len(one.waiting) for one in queues.values()),
        "queues": {
            name: {
                "ready": turns.ready, "coming": turns.coming, "switching": turns.switching,
                "in_flight": dict(turns.busy), "waiting": [w.model for w in turns.waiting.values()],
                "switches": turns.switches,
            }
            for name, turns in queues.items()
        },
        "replicas": {
            name: {
                "instances": proxy.board.replicas.facts(name), "in_flight": machine.busy,
                "starting": machine.starting, "held": len(machine.held), "max": machine.most,
            }
            for name, machine in proxy.board.replicas.machines.items()
        },
        "pools": proxy.board.sharing.facts(),
        "unloaded": [
            {"model": name, "why": one.why, "for": one.room_for,
             "ago_s": round(proxy.now() - one.at, 1)}
            for name, one in proxy.board.unloading.last.items()
        ],
        "requests": [
            {
                "ticket": relay.ticket, "endpoint": relay.record.endpoint, "key": relay.record.key,
                "model": relay.record.served, "instance": relay.record.instance,
                "age_s": round(proxy.now() - relay.record.began, 3),
                "state": relay.state,
            }
            for relay in proxy.relays.values()
        ],
        "rests": {
            name: round(seconds, 3)
            for name, seconds in proxy.board.rests.left(proxy.now()).items()
        },
        "connections": len(proxy.clients),
        "gpu_reports": proxy.board.recovery.gpus.facts(),
        "problem": proxy.board.problem,
        "problems": [
            *(one for one in (proxy.board.problem, *proxy.board.problems) if one),
            *proxy.board.recovery.gpus.problems(),
        ],
    }  # fmt: skip


_Page = Callable[["Proxy", "Relay", Request], None]
_PAGES: dict[bytes, _Page] = {
    b"/health": _health, b"/v1/health": _health, b"/v1/models": _model_list,
    b"/models": _model_list, b"/metrics": _metrics, b"/llmctl/status": _status_page,
    b"/llmctl/events": _watch,
}  # fmt: skip
