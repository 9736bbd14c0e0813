"""cli/overview.py: what `llmctl status` prints."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from support.world import UNIT_DIR, Run, World, http

from llmctl.cli.overview import facts, show_overview
from llmctl.engine.status import overview

if TYPE_CHECKING:
    import pytest


def ready() -> World:
    world = World()
    world.profile("a")
    world.apply()
    world.goes("llm-a.service", Run())
    world.start("llm-a.service")
    world.clock.sleep(1)
    return world


def test_a_ready_model_is_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    world = ready()
    show_overview(world.box, as_json=False)
    row = capsys.readouterr().out.splitlines()[1].split()
    assert row[:5] == ["a", "gpu", "ready", "12340", str(world.unit("llm-a.service").pid)]


def test_notes_follow_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    world = ready()
    world.profile("a", "ctx: 8192")
    show_overview(world.box, as_json=False)
    assert "a: runs with older settings: llmctl switch a" in capsys.readouterr().out


def test_json_has_the_shape_that_the_design_promises(capsys: pytest.CaptureFixture[str]) -> None:
    show_overview(ready().box, as_json=True)
    said = json.loads(capsys.readouterr().out)
    assert set(said) >= {"host", "groups", "instances", "proxy"}
    assert set(said["groups"][0]) >= {"name", "active", "state", "faults"}
    assert set(said["instances"][0]) >= {
        "profile", "unit", "state", "port", "pid", "uptime_s", "memory_bytes",
    }  # fmt: skip


def test_the_facts_of_a_ready_model() -> None:
    world = ready()
    (one,) = facts(overview(world.box))["instances"]
    assert (one["profile"], one["state"], one["port"]) == ("a", "ready", 12340)


def with_proxy(answer: bytes | None) -> World:
    world = ready()
    text = "[Socket]\nListenStream=127.0.0.1:1234\n"
    world.host.put(f"{UNIT_DIR}/llmctl-proxy.socket", text)
    if answer is not None:
        world.host.servers[1234] = lambda _: answer
    return world


TOLD = {"in_flight": 2, "waiting": 1, "connections": 5, "queues": {"gpu": {"switching": "b"}}}


def test_the_proxy_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    show_overview(with_proxy(http(200, TOLD)).box, as_json=False)
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "proxy: http://127.0.0.1:1234, 2 in flight, 1 waiting, switching to b"


def test_what_the_proxy_stopped_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    gone = [{"model": "a", "why": "room", "for": "c", "ago_s": 12.3},
            {"model": "b", "why": "ttl", "for": None, "ago_s": 3700.0}]  # fmt: skip
    show_overview(with_proxy(http(200, {**TOLD, "unloaded": gone})).box, as_json=False)
    said = capsys.readouterr().out.splitlines()[-2:]
    assert said == ["proxy: a made room for c, 12s ago", "proxy: b had nothing to do, 1h 1m ago"]


def test_a_proxy_that_does_not_answer_is_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    show_overview(with_proxy(None).box, as_json=False)
    assert "the proxy does not answer on http://127.0.0.1:1234" in capsys.readouterr().err


def test_the_proxys_problems_are_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    answer = http(200, {**TOLD, "problems": ["keys: others may read it"]})
    show_overview(with_proxy(answer).box, as_json=False)
    assert "warning: proxy: keys: others may read it" in capsys.readouterr().err


def test_the_proxy_is_in_the_json(capsys: pytest.CaptureFixture[str]) -> None:
    show_overview(with_proxy(http(200, TOLD)).box, as_json=True)
    assert json.loads(capsys.readouterr().out)["proxy"]["in_flight"] == 2
    show_overview(ready().box, as_json=True)
    assert json.loads(capsys.readouterr().out)["proxy"] is None
