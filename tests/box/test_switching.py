"""What a private manager shows holds on whole machines, with each system's own systemd."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from kit.waiting import eventually
from usermgr import scenarios
from usermgr.scenarios import back_at_work, last_words
from usermgr.site import FAILED, NOTHING

if TYPE_CHECKING:
    from usermgr.site import BoxSite


@pytest.mark.parametrize("names", ["ab", "ba"])
def test_the_new_model_starts_only_when_the_old_one_is_gone(site: BoxSite, names: str) -> None:
    scenarios.the_new_model_starts_only_when_the_old_one_is_gone(site, *names, slow_s=2)


def test_a_later_switch_displaces_a_pending_one(site: BoxSite) -> None:
    scenarios.a_later_switch_displaces_a_pending_one(site, "c", "a", "b", slow_s=2.5)


def test_many_switches_by_four_callers_end_with_one_model(site: BoxSite) -> None:
    scenarios.many_callers_end_with_one_model(site, callers=4, switches=16, seed=20261108)


@pytest.mark.parametrize(
    ("words", "says", "evidence"),
    [
        ("exit=3@0", "it ended with status 3", "initializing"),
        ("load=9,oom@1", "the GPU ran out of memory", "cudaMalloc failed: out of memory"),
        ("load=9,abort@0.5", "it was ended by signal ABRT", "loading model"),
        ("alias=somebody", "its server answers as somebody", "initializing"),
    ],
)
def test_a_failed_switch_brings_the_old_model_back(
    site: BoxSite, words: str, says: str, evidence: str
) -> None:
    scenarios.a_failed_switch_brings_the_old_model_back(site, words, says, evidence=evidence)


def test_a_model_that_never_answers_is_given_up(site: BoxSite) -> None:
    scenarios.a_failed_switch_brings_the_old_model_back(
        site, "never", "it still says that it is loading", "--timeout", "1"
    )


def test_an_old_model_that_cannot_come_back_is_told(site: BoxSite) -> None:
    site.profiles({"old": "", "new": "oom"})
    site.llmctl("switch", "old")
    site.behave("old", "exit=1@0")
    told = site.llmctl("switch", "new", status=NOTHING)
    assert "did not come back either" in told.stderr
    assert site.group()[1] == "failed"


def test_the_evidence_is_the_failed_runs_own_lines_and_bare(site: BoxSite) -> None:
    site.profiles({"old": "", "new": "oom"})
    site.llmctl("switch", "old")
    site.llmctl("switch", "new", status=FAILED)
    site.behave("new", "corrupt")
    lines = last_words(site.llmctl("switch", "new", status=FAILED))
    assert not any("out of memory" in line for line in lines)
    assert any("corrupted or incomplete" in line for line in lines)
    # As the server wrote it: no time, host and program of the journal before it.
    assert lines[0].startswith("0.00.")
    assert sum("exiting due to model loading error" in line for line in lines) == 1


def test_whoever_holds_the_port_is_named(site: BoxSite) -> None:
    place = ["--host", "127.0.0.1", "--port", str(site.port), "--alias", "x"]
    site.run("systemd-run", "--user", "--unit=stranger", site.server, *place)
    site.profile("new")
    pid = site.show("stranger.service", "MainPID")
    eventually(lambda: f":{site.port:04X} 00000000:0000 0A" in site.read("/proc/net/tcp"))
    told = site.llmctl("switch", "new", status=NOTHING)
    site.systemctl("stop", "stranger.service")
    assert f"port {site.port} is taken by pid {pid}, " in told.stderr
    assert "in stranger.service" in told.stderr


def test_a_port_held_by_another_user_is_told_as_far_as_it_can_be(site: BoxSite) -> None:
    place = ["--host", "127.0.0.1", "--port", str(site.port), "--alias", "x"]
    site.box.root("systemd-run", "--unit=stranger", site.server, *place)
    site.profile("new")
    eventually(lambda: f":{site.port:04X} 00000000:0000 0A" in site.read("/proc/net/tcp"))
    told = site.llmctl("switch", "new", status=NOTHING)
    site.box.root("systemctl", "stop", "stranger.service")
    assert f"port {site.port} is taken by a process of another user" in told.stderr


def test_a_key_in_the_managers_environment_is_no_obstacle(site: BoxSite) -> None:
    site.systemctl("set-environment", "LLAMA_API_KEY=sesame")
    site.profile("a")
    site.llmctl("switch", "a")
    back_at_work(site, "a")
    site.systemctl("unset-environment", "LLAMA_API_KEY")
