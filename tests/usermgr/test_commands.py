"""What the commands say, as text and as JSON, of what is really there."""

from __future__ import annotations

import contextlib
import json
import os
from typing import TYPE_CHECKING, Any

import pytest
from kit.test_fake_llama import get
from kit.waiting import eventually
from usermgr.scenarios import back_at_work
from usermgr.site import PROFILE, STALE, UNREACHABLE, USAGE, free_port

if TYPE_CHECKING:
    import subprocess

    from usermgr.site import ManagerSite


def states(site: ManagerSite) -> dict[str, str]:
    return {one["profile"]: one["state"] for one in site.status()["instances"]}


# --------------------------------------------------------------------------------- status


def test_status_tells_every_state(site: ManagerSite) -> None:
    site.profiles({"a": "", "b": "load=4", "c": "load=9,exit=5@0.2"})
    assert site.group() == (None, "stopped")
    site.llmctl("switch", "a")
    assert (site.group(), states(site)) == (("a", "ready"), {"a": "ready"})
    site.llmctl("switch", "b", "--no-wait")
    site.await_event("start", "b")
    assert site.group() == ("b", "loading")
    site.await_state("b", "ready")
    site.llmctl("switch", "c", "--no-wait")
    site.await_state(None, "failed")
    assert states(site) == {"c": "failed"}
    table = site.llmctl("status").stdout
    assert "failed" in table
    site.llmctl("off")
    assert (site.group(), states(site)) == ((None, "stopped"), {})


def test_status_in_json_has_the_promised_shape(site: ManagerSite) -> None:
    site.profile("a")
    site.llmctl("switch", "a")
    said = site.status()
    assert said.keys() >= {"host", "groups", "instances", "proxy"}
    (group,), (one,) = said["groups"], said["instances"]
    assert group == {
        "name": "gpu", "active": "a", "state": "ready", "faults": [], "mode": "exclusive",
        "running": ["a"],
    }  # fmt: skip
    assert (one["profile"], one["unit"], one["state"]) == ("a", "llm-a.service", "ready")
    assert (one["port"], one["pid"]) == (site.port, int(site.show("llm-a.service", "MainPID")))
    assert 0 <= one["uptime_s"] < 60
    assert 2**20 < one["memory_bytes"] < 2**30
    assert one["tokens_per_s"] == 42.5


def test_more_than_one_active_model_is_named_as_a_fault(site: ManagerSite) -> None:
    site.profiles({"a": "", "b": ""})
    site.llmctl("apply")
    unit = site.read(site.unit_path("b"))
    alone = "\n".join(line for line in unit.splitlines() if "llm-a.service" not in line)
    other = site.read(site.unit_path("a")).replace("llm-b.service", "llm-none.service")
    port = free_port()
    site.put({
        site.unit_path("a"): other,
        site.unit_path("b"): alone.replace(str(site.port), str(port)),
    })  # fmt: skip
    site.systemctl("daemon-reload")
    site.systemctl("start", "llm-a.service", "llm-b.service")
    eventually(lambda: get(site.port)[0] == get(port)[0] == 200)
    (group,) = site.status()["groups"]
    assert len(group["faults"]) == 1
    assert "more than one is active: a, b" in group["faults"][0]
    assert "more than one is active: a, b" in site.llmctl("status").stderr
    site.llmctl("off")
    site.llmctl("apply", "--overwrite")
    site.llmctl("switch", "b")
    back_at_work(site, "b")


def test_a_port_that_answers_as_somebody_else_is_noted(site: ManagerSite) -> None:
    site.profile("a", "alias=somebody")
    site.llmctl("switch", "a", "--no-wait")
    eventually(lambda: get(site.port)[0] == 200)
    assert states(site) == {"a": "loading"}
    assert "a: its port answers as somebody" in site.llmctl("status").stdout


def test_a_model_whose_profile_is_gone_is_still_seen_and_stopped(site: ManagerSite) -> None:
    site.profiles({"a": "", "b": ""})
    site.llmctl("switch", "a")
    site.remove(site.profile_path("a"))
    assert "a" in states(site)
    assert "profile is gone" in site.llmctl("status").stdout
    site.llmctl("switch", "b")
    back_at_work(site, "b")


def test_a_broken_profile_hides_no_other(site: ManagerSite) -> None:
    site.profile("a")
    site.put({site.profile_path("b"): "modell: x.gguf\n"})
    site.llmctl("switch", "a")
    told = site.llmctl("status")
    assert "b.yaml: modell: unknown key; did you mean model?" in told.stderr
    rows = {one["name"]: one for one in site.json("list")}
    assert (rows["a"]["state"], rows["b"]["unit"]) == ("ready", "broken")
    site.llmctl("switch", "b", status=PROFILE)
    back_at_work(site, "a")


# ----------------------------------------------------------------------------- residents


def test_residents_run_beside_a_group(site: ManagerSite) -> None:
    site.profiles({"a": "", "b": ""})
    port = free_port()
    site.profile("small", group="none", port=port)
    for name in ("small", "a", "b", "small"):
        site.llmctl("switch", name)
    assert states(site) == {"b": "ready", "small": "ready"}
    assert [one["name"] for one in site.status()["groups"]] == ["gpu"]
    assert get(port, "/v1/models")[1]["data"][0]["id"] == "small"
    assert site.group() == ("b", "ready")
    assert site.llmctl("off").stdout == "stopped b\n"
    assert states(site) == {"small": "ready"}
    assert site.llmctl("off", "--all").stdout == "stopped small\n"
    assert states(site) == {}


def test_groups_know_nothing_of_each_other(site: ManagerSite) -> None:
    ports = {"gpu": {"port": site.port}, "cpu": {"port": free_port()}}
    site.configure(groups=ports)
    site.profiles({"a": "", "b": ""})
    site.profiles({"x": "", "y": ""}, group="cpu")
    for name in ("a", "x", "b"):
        site.llmctl("switch", name)
    assert (site.group("gpu"), site.group("cpu")) == (("b", "ready"), ("x", "ready"))
    assert site.llmctl("off", "--group", "gpu").stdout == "stopped b\n"
    assert (site.group("gpu"), site.group("cpu")) == ((None, "stopped"), ("x", "ready"))
    site.llmctl("switch", "y")
    site.llmctl("switch", "a")
    assert site.json("off")["stopped"] == ["a", "y"]
    assert site.llmctl("off").stdout == "nothing was running\n"
    told = site.llmctl("off", "--group", "tpu", status=USAGE)
    assert "there is no group tpu; there is cpu, gpu." in told.stderr


def test_a_foreign_unit_that_holds_the_gpu_makes_way_and_comes_back(site: ManagerSite) -> None:
    site.manager.install("lmstudio.service", "[Service]\nExecStart=/bin/sleep 1000\n")
    site.configure(groups={"gpu": {"port": site.port, "conflicts": ["lmstudio.service"]}})
    site.profile("a")
    site.llmctl("apply")
    site.systemctl("start", "lmstudio.service")
    site.behave("a", "exit=1@0")
    site.llmctl("switch", "a", status=None)
    eventually(lambda: site.show("lmstudio.service", "ActiveState") == "active")
    site.behave("a", "")
    site.llmctl("switch", "a")
    assert site.show("lmstudio.service", "ActiveState") == "inactive"


def test_off_waits_until_the_model_is_gone(site: ManagerSite) -> None:
    site.profile("a", "slowstop=1")
    site.llmctl("switch", "a")
    site.llmctl("off")
    assert site.events()[-1].word == "stop"
    assert site.show("llm-a.service", "ActiveState") == "inactive"


def test_off_overtakes_a_switch_that_waits(site: ManagerSite) -> None:
    site.profiles({"a": "slowstop=3", "b": ""})
    site.llmctl("apply")
    site.llmctl("switch", "a")
    told = site.begin("switch", "b")
    site.await_job("llm-b.service")
    site.llmctl("off")
    assert told.result(timeout=30).returncode == 7
    assert "cancelled" in told.result().stderr
    assert site.active_units() == set()
    assert "b" not in {event.alias for event in site.events()}


def test_a_model_that_ignores_every_wish_to_stop_is_killed_in_time(site: ManagerSite) -> None:
    site.profiles({"a": "nosigterm"}, stop_timeout="6s")
    site.profile("b")
    site.llmctl("switch", "a")
    assert 6 <= site.json("switch", "b")["ready_s"] < 20
    back_at_work(site, "b")


# ---------------------------------------------------------------------------------- apply


def test_apply_shows_what_changes_and_check_changes_nothing(site: ManagerSite) -> None:
    site.profiles({"a": "", "b": ""})
    told = site.llmctl("apply", "--check", status=STALE)
    assert f"missing {site.unit_path('a')}" in told.stdout
    assert not site.exists(site.unit_dir)
    assert f"created {site.unit_path('a')}" in site.llmctl("apply").stdout
    assert "3 units are current" in site.llmctl("apply", "--check").stdout
    site.profile("a", ctx=8192)
    before = site.read(site.unit_path("a"))
    told = site.llmctl("apply", "--check", status=STALE)
    assert f"stale {site.unit_path('a')}" in told.stdout
    assert any(line.startswith("  +") and "-c 8192" in line for line in told.stdout.splitlines())
    assert site.read(site.unit_path("a")) == before
    changes = {one["unit"]: one["change"] for one in site.json("apply", "--check", status=STALE)}
    assert changes == {
        "llm-a.service": "update",
        "llm-b.service": "current",
        "llm.slice": "current",
    }
    assert f"updated {site.unit_path('a')}" in site.llmctl("apply", "a").stdout
    assert site.show("llm-a.service", "NeedDaemonReload") == "no"
    site.llmctl("apply", "--check")


def test_prune_removes_what_a_profile_left_behind(site: ManagerSite) -> None:
    site.profiles({"a": "", "b": ""})
    site.llmctl("switch", "a")
    site.llmctl("enable", "a")
    site.remove(site.profile_path("a"))
    told = site.llmctl("apply")
    assert f"{site.unit_path('a')} has no profile any more" in told.stderr
    assert site.exists(site.unit_path("a"))
    told = site.llmctl("apply", "--prune")
    assert f"removed {site.unit_path('a')}" in told.stdout
    eventually(lambda: not site.active_units(), why="the pruned model has stopped")
    assert site.names(site.unit_dir) <= {"llm-b.service", "llm.slice", "default.target.wants"}
    assert site.names(f"{site.unit_dir}/default.target.wants") == set()
    assert site.show("llm-a.service", "LoadState") == "not-found"
    site.llmctl("apply", "--check")


def test_apply_leaves_running_models_running(site: ManagerSite) -> None:
    site.profile("a")
    site.llmctl("switch", "a")
    pid = site.show("llm-a.service", "MainPID")
    site.profile("a", ctx=8192)
    site.profile("b")
    site.llmctl("apply")
    assert site.show("llm-a.service", "MainPID") == pid
    assert "runs with older settings" in site.llmctl("status").stdout


def test_a_new_member_of_the_group_excludes_the_running_one_at_once(site: ManagerSite) -> None:
    """The running unit's text knew nothing of it when it was started."""
    site.profile("m", "slowstop=1")
    site.llmctl("switch", "m")
    site.profiles({"a": "", "z": ""})
    for name in ("a", "m", "z"):
        site.llmctl("switch", name)
        back_at_work(site, name)
    stops = [event.at for event in site.events() if (event.word, event.alias) == ("stop", "m")]
    starts = [event.at for event in site.events() if event.word == "start" and event.alias != "m"]
    assert all(stop < start for stop, start in zip(stops, starts, strict=True))


# --------------------------------------------------------------------- list, show, render


def test_list_in_json_has_the_promised_shape(site: ManagerSite) -> None:
    site.profile("a", ctx=8192, model="Qwen3-4B-Q4_K_M.gguf", aliases=["b"])
    (one,) = site.json("list")
    assert one["name"] == "a"
    assert (one["model"], one["quant"]) == ("Qwen3-4B-Q4_K_M.gguf", "Q4_K_M")
    assert (one["size_bytes"], one["ctx"], one["aliases"]) == (None, 8192, ["b"])
    assert (one["state"], one["stale"], one["group"]) == ("stopped", True, "gpu")
    assert "no file" in site.llmctl("list").stdout


def test_show_and_render_agree_with_what_is_installed(site: ManagerSite) -> None:
    site.profile("a", ctx=8192)
    site.llmctl("switch", "a")
    assert site.llmctl("render", "a").stdout == site.read(site.unit_path("a"))
    said: dict[str, Any] = site.json("show", "a")
    pid = site.show("llm-a.service", "MainPID")
    real = site.read(f"/proc/{pid}/cmdline").split("\0")[:-1]
    assert said["args"] == real[-len(said["args"]) :]
    assert said["values"]["ctx"] == {"value": 8192, "from": "profile"}
    assert said["values"]["kv"]["from"] == "default"
    assert said["url"] == f"http://127.0.0.1:{site.port}"


@pytest.mark.parametrize("command", ["switch", "show", "render", "logs", "enable", "apply"])
def test_a_name_that_is_no_profile_is_corrected(site: ManagerSite, command: str) -> None:
    site.profile("coder")
    told = site.llmctl(command, "codr", status=PROFILE)
    assert "there is no profile codr" in told.stderr
    assert "hint: Did you mean coder?" in told.stderr


def test_errors_in_json_have_the_promised_shape(site: ManagerSite) -> None:
    error = site.json("switch", "nobody", status=PROFILE)["error"]
    assert error["status"] == PROFILE
    assert error["message"].startswith("there is no profile nobody")
    site.profile("a", "oom")
    error = site.json("switch", "a", status=7)["error"]
    assert error["status"] == 7
    assert "the GPU ran out of memory" in error["message"]
    error = json.loads(site.llmctl("status", "--json", "--host", "x", status=UNREACHABLE).stdout)
    assert error["error"]["hint"]


# ----------------------------------------------------------------------------------- logs


def test_logs_are_those_of_the_active_model_or_the_named_one(site: ManagerSite) -> None:
    site.profiles({"a": "", "b": ""})
    site.llmctl("logs", status=USAGE)
    site.llmctl("switch", "a")
    site.llmctl("switch", "b")
    assert "model loaded" in site.llmctl("logs").stdout
    assert "cleaning up" not in site.llmctl("logs").stdout
    assert "cleaning up" in site.llmctl("logs", "a").stdout
    assert len(site.llmctl("logs", "-n", "2", "a").stdout.splitlines()) == 2


def test_a_model_that_never_ran_has_no_logs_and_that_is_said(site: ManagerSite) -> None:
    site.profile("a")
    site.llmctl("apply")
    told = site.llmctl("logs", "a")
    assert told.stdout == ""
    assert "llm-a.service has written nothing that can be read." in told.stderr


def test_logs_can_go_to_files(site: ManagerSite) -> None:
    site.configure(logs="file")
    site.profiles({"a": "", "b": "load=9,oom@0.3"})
    site.llmctl("switch", "a")
    path = f"{site.state_dir}/logs/a.log"
    eventually(lambda: "listening on" in site.read(path))
    assert site.llmctl("logs").stdout == site.read(path)
    told = site.llmctl("switch", "b", status=6)
    assert "the GPU ran out of memory" in told.stderr
    assert "  | " in told.stderr
    assert site.read(path).count("initializing") == 1  # of the present run alone
    back_at_work(site, "a")


@pytest.mark.parametrize("where", ["journal", "file"])
def test_lines_are_followed_as_they_come(site: ManagerSite, where: str) -> None:
    site.configure(logs=where)
    site.profile("a", "load=5")
    site.llmctl("apply")
    seen = Printed(site.popen("logs", "--follow", "a"))
    site.llmctl("switch", "a", "--no-wait")
    # Not the very first line: journald may not know the unit of a process that young yet.
    eventually(lambda: "loading model" in seen.text, 20)
    assert "model loaded" not in seen.text
    eventually(lambda: "model loaded" in seen.text, 20)


class Printed:
    """What a process has printed so far."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        self._file = process.stdout.fileno()
        os.set_blocking(self._file, False)
        self._read = b""

    @property
    def text(self) -> str:
        with contextlib.suppress(BlockingIOError):
            while piece := os.read(self._file, 65536):
                self._read += piece
        return self._read.decode()


# --------------------------------------------------------------------------------- enable


def test_at_most_one_of_a_group_is_enabled(site: ManagerSite) -> None:
    site.profiles({"a": "", "b": ""})
    site.profile("small", group="none", port=free_port())
    site.llmctl("apply")
    for name in ("a", "small", "b"):
        site.llmctl("enable", name)
    wants = f"{site.unit_dir}/default.target.wants"
    assert site.names(wants) == {"llm-b.service", "llm-small.service"}
    said = site.json("enable", "a")
    assert (said["enabled"], said["disabled"]) == ("a", ["b"])
    site.llmctl("disable", "a")
    assert site.names(wants) == {"llm-small.service"}
    assert site.active_units() == set()
