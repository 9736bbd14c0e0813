"""The guard's settings under a real user manager: taken up at once, and nothing else happens."""

from __future__ import annotations

import contextlib
import http.client
import json
import random
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from kit.waiting import eventually
from support.talks import call, human, json_of
from usermgr.site import free_port
from usermgr.test_proxy_units import SERVICE, SOCKET, told

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usermgr.site import ManagerSite

LOOP = [human("Go."), *[call("run", {"command": "pytest"}, "2 failed")] * 4]


@pytest.fixture
def port(site: ManagerSite) -> Iterator[int]:
    """Where the proxy listens."""
    chosen = free_port()
    configure(site, chosen)
    yield chosen
    site.systemctl("stop", SOCKET, SERVICE, check=False)


def configure(site: ManagerSite, port: int, **guard: Any) -> None:
    site.configure(proxy={"listen": [f"127.0.0.1:{port}"]}, guard=guard)


@contextlib.contextmanager
def stream(port: int) -> Iterator[http.client.HTTPResponse]:
    """A stream that has begun, of words that are no loop."""
    chance = random.Random(3)
    words = " ".join("".join(chance.choices("abcdefghij", k=6)) for _ in range(5000))
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    body = json.dumps({"model": "a", "stream": True, "messages": [{"content": words}]})
    headers = {"Content-Type": "application/json"}
    connection.request("POST", "/v1/chat/completions", body, headers)
    answer = connection.getresponse()
    while f'"content": "{words[:6]}"'.encode() not in (line := answer.readline()):
        assert line
    yield answer
    answer.close()
    connection.close()


def found(port: int) -> str | None:
    """What the guard says of a request in a loop."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"Content-Type": "application/json", "Connection": "close"}
    connection.request("POST", "/v1/chat/completions", json_of("chat", LOOP), headers)
    with contextlib.closing(connection), connection.getresponse() as answer:
        assert answer.status == 200, answer.read()
        answer.read()
        return answer.getheader("X-Llmctl-Guard")


def is_found(port: int, wanted: str | None) -> bool:
    return found(port) == wanted


def test_changes_are_taken_up_and_touch_no_model_and_no_stream(
    site: ManagerSite, port: int
) -> None:
    site.profiles({"a": "pace=0.02", "b": ""})
    site.llmctl("apply")
    site.llmctl("proxy", "install")
    site.llmctl("switch", "a")
    unit = site.read(site.unit_path("a"))
    with stream(port) as answer:
        assert found(port) == "tool; step=state; repeats=4"
        for profile, box, wanted in (
            ({"tool_nudges": [2, 4, 6]}, {}, "tool; step=forbid; repeats=4"),
            ({}, {"mode": "log"}, "tool; step=none; repeats=4"),
            ({"mode": "on"}, {"mode": "log"}, "tool; step=state; repeats=4"),
            ({"mode": "off"}, {"mode": "log"}, None),
        ):
            site.profile("a", "pace=0.02", guard=profile)
            configure(site, port, **box)
            site.systemctl("reload", SERVICE)
            eventually(partial(is_found, port, wanted), why=str(wanted))
            site.llmctl("apply", "--check")  # nothing is stale
        for _ in range(20):
            line = answer.readline()
            assert b"error" not in line
        assert told(port)["in_flight"] == 1  # it still goes on
    site.llmctl("apply")
    assert site.read(site.unit_path("a")) == unit
    assert [(event.word, event.alias) for event in site.events()] == [("start", "a")]


def test_what_was_found_is_in_the_log(site: ManagerSite, port: int) -> None:
    site.profile("a")
    site.llmctl("proxy", "install")
    site.llmctl("switch", "a")
    assert found(port) == "tool; step=state; repeats=4"
    eventually(lambda: site.json("guard", "log"), why="it is written down")
    (entry,) = site.json("guard", "log")
    assert (entry["kind"], entry["step"], entry["copies"]) == ("tool", "state", 4)
    assert (entry["tools"], entry["model"]) == (["run"], "a")
    assert "pytest" not in str(entry)
