"""Replicas under a real manager: they go with their model, and before it."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import pytest
from kit.waiting import eventually

from llmctl.health import get
from llmctl.host.local import LocalHost

if TYPE_CHECKING:
    from pathlib import Path

    from usermgr.site import ManagerSite

TWO, THREE = "llm-a@2.service", "llm-a@3.service"
ALONE = "--job-mode=ignore-requirements"


def replicated(site: ManagerSite, words: str = "", **others: str) -> None:
    """Profile a with up to three instances, the first running; other profiles as they are."""
    site.profiles(others)
    site.profile("a", words, replicas={"max": 3})
    site.llmctl("apply")
    site.llmctl("switch", "a")


def start(site: ManagerSite, *units: str) -> None:
    site.systemctl("start", ALONE, *units)
    for unit in units:
        eventually(functools.partial(answers, site, unit), 20, why=f"{unit} answers")


def answers(site: ManagerSite, unit: str) -> bool:
    number = int(unit.partition("@")[2].removesuffix(".service"))
    return get(LocalHost(), site.port + number, "/health")[0] == 200


def test_a_replica_is_the_same_server_on_a_port_of_its_own(site: ManagerSite) -> None:
    site.profile("a", replicas={"max": 3}, threads=7, env={"X": "100% $HOME"})
    site.llmctl("apply")
    site.llmctl("switch", "a")
    start(site, TWO, THREE)
    pids = {unit: site.show(unit, "MainPID") for unit in ("llm-a.service", TWO, THREE)}
    argv = {unit: site.read(f"/proc/{pid}/cmdline").split("\0") for unit, pid in pids.items()}
    first = argv["llm-a.service"]
    port = first.index("--port")
    assert first[port + 1] == str(site.port)
    for unit, number in ((TWO, 2), (THREE, 3)):
        words = argv[unit][:-1]
        assert words[-2:] == ["--port", str(site.port + number)]
        assert words[words.index("-t") + 1] == "2"
        words[words.index("-t") + 1] = "7"
        assert words[:-2] == [*first[:port], *first[port + 2 : -1]]
        environ = site.read(f"/proc/{pids[unit]}/environ").split("\0")
        assert "X=100% $HOME" in environ
        assert site.show(unit, "Slice") == "llm.slice"


def test_systemd_has_nothing_to_say_about_the_units(site: ManagerSite) -> None:
    replicated(site, b="", c="")
    units = [f"{site.unit_dir}/{name}" for name in site.names(site.unit_dir)]
    assert f"{site.unit_dir}/llm-a@.service" in units
    done = site.run("systemd-analyze", "--user", "--man=no", "verify", *units, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_status_tells_of_replicas(site: ManagerSite) -> None:
    replicated(site)
    start(site, TWO)
    found = {one["unit"]: one for one in site.status()["instances"]}
    assert {unit: one["instance"] for unit, one in found.items()} == {"llm-a.service": 1, TWO: 2}
    assert {one["profile"] for one in found.values()} == {"a"}
    assert found[TWO]["state"] == "ready"
    assert found[TWO]["port"] == site.port + 2
    assert found[TWO]["notes"] == []
    assert site.group() == ("a", "ready")
    assert [g["faults"] for g in site.status()["groups"]] == [[]]
    assert "a@2 " in site.llmctl("status").stdout


@pytest.mark.parametrize("other", ["0", "b"])
def test_the_next_model_starts_only_when_all_replicas_are_gone(
    site: ManagerSite, other: str
) -> None:
    """Whichever of the two names comes first: the order of the units hangs on it."""
    replicated(site, "slowstop=2", **{other: ""})
    start(site, TWO, THREE)
    first = int(site.show("llm-a.service", "MainPID"))
    site.llmctl("switch", other)
    began = site.await_event("start", other)
    stopped = {one.pid: one.at for one in site.events() if (one.word, one.alias) == ("stop", "a")}
    assert len(stopped) == 3
    assert max(stopped.values()) == stopped[first], "the first instance ends last"
    assert stopped[first] < began.at
    reaped = int(site.show("llm-a.service", "InactiveEnterTimestampMonotonic"))
    executed = int(site.show(f"llm-{other}.service", "ExecMainStartTimestampMonotonic"))
    assert 0 < reaped < executed
    assert site.active_units() == {f"llm-{other}.service"}
    assert site.group() == (other, "ready")


def test_off_stops_them_all(site: ManagerSite) -> None:
    replicated(site, "slowstop=1")
    start(site, TWO)
    site.llmctl("off")
    assert site.active_units() == set()
    assert site.jobs() == []


def test_a_replica_does_not_bring_its_model_back(site: ManagerSite) -> None:
    """A start that comes too late is refused, and nobody makes way for it."""
    replicated(site, b="")
    site.llmctl("switch", "b")
    refused = site.systemctl("start", ALONE, TWO, check=False)
    assert refused.returncode != 0
    assert site.active_units() == {"llm-b.service"}
    assert site.group() == ("b", "ready")


def test_a_replica_does_not_start_while_its_model_stops(site: ManagerSite) -> None:
    replicated(site, "slowstop=2", b="")
    switch = site.begin("switch", "b")
    site.await_job("llm-b.service")
    assert site.systemctl("start", ALONE, TWO, check=False).returncode != 0
    assert switch.result(timeout=60).returncode == 0
    assert site.active_units() == {"llm-b.service"}


def test_no_more_than_the_profile_allows(site: ManagerSite) -> None:
    replicated(site)
    site.systemctl("start", ALONE, "llm-a@4.service", check=False)
    eventually(lambda: site.show("llm-a@4.service", "ActiveState") == "failed", why="refused")
    assert site.group() == ("a", "ready")


def test_a_replica_that_dies_leaves_the_others_alone(site: ManagerSite) -> None:
    replicated(site)
    start(site, TWO, THREE)
    pids = [site.show(unit, "MainPID") for unit in ("llm-a.service", THREE)]
    site.systemctl("kill", "--signal=KILL", TWO)
    eventually(lambda: site.show(TWO, "ActiveState") == "failed", why="it is dead")
    assert [site.show(unit, "MainPID") for unit in ("llm-a.service", THREE)] == pids
    assert site.group() == ("a", "ready")


def test_a_profile_without_replicas_loses_their_unit(site: ManagerSite) -> None:
    replicated(site)
    start(site, TWO)
    site.profile("a", replicas={"max": 1})
    assert site.json("apply", "--check", status=1)[-1]["change"] == "current"
    site.llmctl("apply")
    assert site.active_units() == {"llm-a.service"}
    assert "llm-a@.service" not in site.names(site.unit_dir)
    assert site.json("list")[0]["unit"] == "current"


def test_replicas_are_gone_before_a_crashed_model_is_back(site: ManagerSite) -> None:
    """systemd ends what is bound to a unit that failed, also where it starts that again."""
    replicated(site)
    start(site, TWO)
    site.systemctl("kill", "--signal=KILL", "llm-a.service")
    eventually(lambda: site.show("llm-a.service", "NRestarts") == "1", 30, why="it is back")
    site.await_state("a", "ready")
    assert site.active_units() == {"llm-a.service"}
    words = [one.word for one in site.events()]
    assert words == ["start", "start", "stop", "start"], "the replica stopped first"


def test_a_restarted_model_comes_back_alone(site: ManagerSite) -> None:
    """There may be no room for a replica of what it is now, and it must not be in its way."""
    replicated(site)
    start(site, TWO, THREE)
    site.profile("a", replicas={"max": 3}, ctx=4096)
    site.llmctl("switch", "a")
    assert site.active_units() == {"llm-a.service"}
    assert [event.word for event in site.events()].count("start") == 4


def test_off_forgets_a_replica_that_died(site: ManagerSite) -> None:
    replicated(site)
    start(site, TWO)
    site.systemctl("kill", "--signal=KILL", TWO)
    eventually(lambda: site.show(TWO, "ActiveState") == "failed", why="it is dead")
    assert {one["state"] for one in site.status()["instances"]} == {"ready", "failed"}
    assert site.group() == ("a", "ready")
    assert site.llmctl("off").stdout.count("a") >= 1
    assert site.status()["instances"] == []


# What the proxy does: engine/replicas.py

ENGINE = """\
import sys
from llmctl.errors import LlmctlError
from llmctl.proxy.keeper import LocalKeeper
verb, name, number = sys.argv[1:]
try:
    if verb == "start":
        LocalKeeper().start_replica(name, int(number), timeout=20)
    else:
        LocalKeeper().stop_replica(name, int(number))
except LlmctlError as error:
    sys.exit(f"{type(error).__name__}: {error.message}")
"""


def engine(site: ManagerSite, verb: str, number: int, name: str = "a") -> str:
    """What the engine said; nothing, where it did what it was asked to."""
    return site.run(site.python(), "-c", ENGINE, verb, name, str(number), check=False).stderr


def planned(site: ManagerSite, tiny_models: Path, words: str = "", **keys: object) -> None:
    """Profile a with a model that can be planned, running."""
    model = str(tiny_models / "llama-script.gguf")
    site.profile("a", words, **{"model": model, "ctx": 2048, "replicas": {"max": 3}, **keys})
    site.llmctl("apply")
    site.llmctl("switch", "a")


def test_the_engine_starts_and_stops_one_more(site: ManagerSite, tiny_models: Path) -> None:
    planned(site, tiny_models)
    assert engine(site, "start", 2) == ""
    assert answers(site, TWO)
    assert site.active_units() == {"llm-a.service", TWO}
    assert engine(site, "stop", 2) == ""
    assert site.active_units() == {"llm-a.service"}


def test_one_that_does_not_fit_is_not_started(site: ManagerSite, tiny_models: Path) -> None:
    """Nothing is evicted for it, and it does not get less than the first."""
    planned(site, tiny_models)
    site.configure(devices={"RAM": {"total": "8GiB", "free": "4MiB"}})
    site.llmctl("apply")
    site.llmctl("switch", "a")
    said = engine(site, "start", 2)
    assert said.startswith("DoesNotFitError: a does not fit once more: "), said
    assert site.active_units() == {"llm-a.service"}


def test_one_whose_plan_is_not_known_is_not_started(site: ManagerSite) -> None:
    replicated(site)
    assert "Error: " in engine(site, "start", 2)
    assert site.active_units() == {"llm-a.service"}


def test_a_replica_is_what_the_first_is(site: ManagerSite, tiny_models: Path) -> None:
    """The profile was changed since the first was started."""
    planned(site, tiny_models)
    model = str(tiny_models / "llama-script.gguf")
    site.profile("a", model=model, ctx=4096, replicas={"max": 3})
    assert "a runs with older settings" in engine(site, "start", 2)
    site.llmctl("apply")
    assert "a runs with older settings" in engine(site, "start", 2)
    site.llmctl("switch", "a")
    assert engine(site, "start", 2) == ""


def test_more_replicas_need_nothing_but_the_profile(site: ManagerSite, tiny_models: Path) -> None:
    """The changed profile was not planned yet; its server would be the same."""
    planned(site, tiny_models, replicas={"max": 1})
    model = str(tiny_models / "llama-script.gguf")
    site.profile("a", model=model, ctx=2048, replicas={"max": 2})
    assert engine(site, "start", 2) == ""
    assert site.active_units() == {"llm-a.service", TWO}


def test_no_start_while_another_one_loads(site: ManagerSite, tiny_models: Path) -> None:
    """What it will take is not taken yet."""
    planned(site, tiny_models)
    model = str(tiny_models / "llama-script.gguf")
    site.profile("r", "never", model=model, ctx=2048, group="none", port=site.port + 9)
    site.llmctl("apply")
    site.llmctl("switch", "r", "--no-wait")
    eventually(lambda: site.show("llm-r.service", "ActiveState") == "active", why="it loads")
    assert "r is starting or stopping" in engine(site, "start", 2)


def test_one_that_dies_while_it_loads_is_told_and_gone(
    site: ManagerSite, tiny_models: Path
) -> None:
    planned(site, tiny_models)
    site.behave("a", "never,oom@0.3")
    said = engine(site, "start", 2)
    assert "llm-a@2.service failed: the GPU ran out of memory" in said
    assert site.show(TWO, "ActiveState") == "inactive"
    assert site.group() == ("a", "ready")


def test_a_replica_has_a_log_of_its_own(site: ManagerSite, tiny_models: Path) -> None:
    site.configure(logs="file")
    planned(site, tiny_models)
    assert engine(site, "start", 2) == ""
    logs = f"{site.state_dir}/logs"
    assert site.names(logs) == {"a.log", "a@2.log"}
    assert "listening" in site.read(f"{logs}/a@2.log")
    assert str(site.port + 2) not in site.read(f"{logs}/a.log")
