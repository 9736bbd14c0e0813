"""cli/overview.py: what `llmctl status` prints."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from support.world import Run, World

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
