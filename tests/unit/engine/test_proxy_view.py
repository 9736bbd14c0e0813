"""engine/proxy_view.py: what `llmctl status` tells of the proxy."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.world import UNIT_DIR, World, http

from llmctl.core.state import State
from llmctl.engine.proxy_view import ProxyView, facts, proxy_view

TOLD: dict[str, Any] = {
    "in_flight": 2, "waiting": 1, "connections": 5, "problem": None, "problems": [], "more": 1,
    "queues": {"gpu": {"switching": "coder", "ready": None}, "none:x": {"switching": None}},
}  # fmt: skip


def world(listen: str = "127.0.0.1:1234", answer: bytes | None = None) -> World:
    made = World()
    text = f"[Socket]\nListenStream={listen}\nFreeBind=true\n"
    made.host.put(f"{UNIT_DIR}/llmctl-proxy.socket", text)
    if answer is not None:
        made.host.servers[1234] = lambda _: answer
    return made


def told(**more: Any) -> bytes:
    return http(200, {**TOLD, **more})


def test_without_its_socket_there_is_none() -> None:
    assert proxy_view(World().box) is None
    assert facts(None) is None


def test_what_it_tells() -> None:
    assert proxy_view(world(answer=told()).box) == ProxyView(
        state=State.READY, url="http://127.0.0.1:1234", in_flight=2, waiting=1,
        switching=("coder",), connections=5,
    )  # fmt: skip


def test_what_it_stopped_is_told() -> None:
    gone: list[dict[str, Any]] = [
        {"model": "a", "why": "room", "for": "c", "ago_s": 12.3, "more": 1},
        {"model": "b", "why": "ttl", "for": None, "ago_s": 1.0},
    ]
    found = facts(proxy_view(world(answer=told(unloaded=gone)).box))
    assert found is not None
    del gone[0]["more"]
    assert found["unloaded"] == gone


def test_its_problems_are_told() -> None:
    view = proxy_view(world(answer=told(problem="blind.", problems=["a.yaml: x"])).box)
    assert view is not None
    assert view.problems == ("blind.", "a.yaml: x")


@pytest.mark.parametrize(
    "listen",
    ["127.0.0.1:1234", "0.0.0.0:1234", "100.64.0.1:9\nListenStream=127.0.0.1:1234"],
)
def test_it_is_asked_where_loopback_reaches_it(listen: str) -> None:
    view = proxy_view(world(listen, told()).box)
    assert view is not None
    assert view.state is State.READY


@pytest.mark.parametrize("listen", ["100.64.0.1:1234", "[::1]:1234", "[::]:1234", "127.0.0.2:1234"])
def test_one_that_listens_elsewhere_only_cannot_be_asked(listen: str) -> None:
    """It is asked at 127.0.0.1, where nobody answers then, which would say that it is down."""
    assert proxy_view(world(listen, told()).box) is None


def test_one_that_nobody_started_is_stopped() -> None:
    view = proxy_view(world().box)
    assert view == ProxyView(state=State.STOPPED, url="http://127.0.0.1:1234")


@pytest.mark.parametrize(
    "answer", [http(404, {}), http(200, {}), http(200, {"in_flight": "x"}), b"SSH-2.0-x\r\n"]
)
def test_an_answer_that_is_not_the_proxys_is_a_failure(answer: bytes) -> None:
    view = proxy_view(world(answer=answer).box)
    assert view is not None
    assert view.state is State.FAILED


def test_its_facts_are_json() -> None:
    assert json.loads(json.dumps(facts(proxy_view(world(answer=told()).box)))) == {
        "state": "ready", "url": "http://127.0.0.1:1234", "in_flight": 2, "waiting": 1,
        "switching": ["coder"], "connections": 5, "problems": [], "unloaded": [],
    }  # fmt: skip
