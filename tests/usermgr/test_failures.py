"""A model that does not come up: why, with its own last words, and what runs afterwards."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from kit.test_fake_llama import get
from kit.waiting import eventually
from usermgr import scenarios
from usermgr.scenarios import back_at_work, last_words
from usermgr.site import FAILED, NOTHING

if TYPE_CHECKING:
    from usermgr.site import ManagerSite


@pytest.mark.parametrize(
    ("words", "says", "evidence"),
    [
        ("exit=3@0", "it ended with status 3", "initializing"),
        ("load=9,exit=4@3", "it ended with status 4", "loading model"),
        ("load=9,abort@0.3", "it was ended by signal ABRT", "loading model"),
        ("oom", "the GPU ran out of memory", "cudaMalloc failed: out of memory"),
        ("load=9,oom@1", "the GPU ran out of memory", "cudaMalloc failed: out of memory"),
        ("corrupt", "the model file is corrupt or incomplete", "corrupted or incomplete"),
        ("missing", "the model file", "No such file or directory"),
        ("alias=somebody", "its server answers as somebody", "initializing"),
    ],
)
def test_a_failed_switch_brings_the_old_model_back(
    site: ManagerSite, words: str, says: str, evidence: str
) -> None:
    scenarios.a_failed_switch_brings_the_old_model_back(site, words, says, evidence=evidence)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("never", "it still says that it is loading, and nothing has moved for 1 s"),
        ("hang", "it does not answer on its port"),
    ],
)
def test_a_model_that_never_answers_is_given_up(site: ManagerSite, words: str, says: str) -> None:
    told = scenarios.a_failed_switch_brings_the_old_model_back(site, words, says, "--timeout", "1")
    assert "--timeout" in told.stderr.splitlines()[-1]


def test_a_load_that_moves_is_waited_for_beyond_the_timeout(site: ManagerSite) -> None:
    site.profiles({"steady": "load=4,progress", "stuck": "load=4"})
    assert site.json("switch", "steady", "--timeout", "1")["ready_s"] > 4
    site.behave("steady", "")
    site.llmctl("switch", "stuck", "--timeout", "1", status=FAILED)
    back_at_work(site, "steady")


def test_a_crash_loop_ends_with_the_switch_that_began_it(site: ManagerSite) -> None:
    scenarios.a_failed_switch_brings_the_old_model_back(
        site, "load=9,exit=9@0.2", "it ended with status 9", evidence="loading model"
    )
    assert site.show("llm-new.service", "ActiveState") in ("inactive", "failed")
    assert len([e for e in site.events() if (e.word, e.alias) == ("start", "new")]) == 1


def test_a_crash_that_is_left_alone_is_shown_as_failed(site: ManagerSite) -> None:
    site.profile("new", "load=9,exit=9@0.2")
    told = site.llmctl("switch", "new", "--no-rollback", status=NOTHING)
    assert "error: new is not ready: it ended with status 9." in told.stderr
    (one,) = site.status()["instances"]
    assert (one["profile"], one["state"]) == ("new", "failed")
    assert any("exit-code" in note for note in one["notes"])
    assert site.group() == (None, "failed")
    site.llmctl("off")
    assert site.group() == (None, "stopped")
    assert site.active_units() == set()


def test_without_rollback_the_failed_model_stays_and_the_old_one_stays_away(
    site: ManagerSite,
) -> None:
    site.profiles({"old": "", "new": "never"})
    site.llmctl("switch", "old")
    told = site.llmctl("switch", "new", "--no-rollback", "--timeout", "1", status=NOTHING)
    assert "old is ready again" not in told.stderr
    assert site.group() == ("new", "loading")
    assert len([e for e in site.events() if (e.word, e.alias) == ("start", "old")]) == 1


@pytest.mark.parametrize("words", ["exit=1@0", "never", "alias=somebody"])
def test_with_nothing_before_it_nothing_runs_after_a_failed_switch(
    site: ManagerSite, words: str
) -> None:
    site.profile("new", words)
    told = site.llmctl("switch", "new", "--timeout", "1", status=NOTHING)
    assert "Nothing ran before." in told.stderr
    assert last_words(told)
    assert site.active_units() == set()
    assert site.group() == (None, "stopped")


def test_an_old_model_that_cannot_come_back_is_told(site: ManagerSite) -> None:
    site.profiles({"old": "", "new": "oom"})
    site.llmctl("switch", "old")
    site.behave("old", "exit=1@0")
    told = site.llmctl("switch", "new", status=NOTHING)
    assert "error: new failed: the GPU ran out of memory; and old" in told.stderr
    assert "did not come back either" in told.stderr
    assert site.group()[1] == "failed"
    site.behave("old", "")
    site.llmctl("switch", "old")
    back_at_work(site, "old")


def test_a_file_that_is_not_there_is_found_before_the_old_model_is_stopped(
    site: ManagerSite,
) -> None:
    site.profile("old")
    site.profile("new", model="gone.gguf")
    site.llmctl("switch", "old")
    pid = site.show("llm-old.service", "MainPID")
    told = site.llmctl("switch", "new", status=FAILED)
    assert f"{site.models_dir}/gone.gguf does not exist. old still runs." in told.stderr
    site.put({f"{site.models_dir}/gone.gguf": "<html>404</html>"})
    told = site.llmctl("switch", "new", status=FAILED)
    assert "is corrupt or no GGUF file" in told.stderr
    assert site.show("llm-old.service", "MainPID") == pid
    back_at_work(site, "old")
    site.llmctl("off")
    site.llmctl("switch", "new", status=NOTHING)


def test_a_flag_that_somebody_wrote_into_a_unit_is_named_when_it_is_unknown(
    site: ManagerSite,
) -> None:
    site.profiles({"old": "", "new": ""})
    site.llmctl("apply")
    site.llmctl("switch", "old")
    unit = site.read(site.unit_path("new"))
    site.put({site.unit_path("new"): unit.replace("--alias new", "--alias new --no-such-flag")})
    told = site.llmctl("switch", "new", status=FAILED)
    assert "new failed: this llama-server does not know the flag --no-such-flag." in told.stderr
    assert "error: invalid argument: --no-such-flag" in last_words(told)
    assert "was edited by hand" in told.stderr
    back_at_work(site, "old")


STRANGERS = {
    "a web server": "{python} -m http.server --bind 127.0.0.1 {port}",
    "another llama-server": "{fake} --host 127.0.0.1 --port {port} --alias somebody",
    "one that never answers": "{python} -c 'import socket, signal; s = socket.socket(); "
    's.bind(("127.0.0.1", {port})); s.listen(); signal.pause()\'',
}


@pytest.mark.parametrize("stranger", STRANGERS)
def test_whoever_holds_the_port_is_named(site: ManagerSite, stranger: str) -> None:
    command = STRANGERS[stranger].format(python=sys.executable, fake=site.server, port=site.port)
    unit = ["[Service]", f"ExecStart=sh -c {quoted('exec ' + command)}"]
    site.manager.install("stranger.service", "\n".join(unit))
    site.systemctl("start", "stranger.service")
    eventually(lambda: listens(site.port))
    site.profile("new")
    told = site.llmctl("switch", "new", "--timeout", "3", status=NOTHING)
    pid = site.show("stranger.service", "MainPID")
    program = sys.executable if "python -m" in STRANGERS[stranger] else ""
    assert f"port {site.port} is taken by pid {pid}, {program}" in told.stderr
    assert "in stranger.service" in told.stderr
    assert site.group() == (None, "stopped")
    assert site.show("stranger.service", "MainPID") == pid


def quoted(text: str) -> str:
    return '"' + text.replace('"', '\\"') + '"'


def listens(port: int) -> bool:
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


def test_a_stranger_outside_of_systemd_is_named_too(site: ManagerSite) -> None:
    command = [site.server, "--host", "127.0.0.1", "--port", str(site.port), "--alias", "x"]
    stranger = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        eventually(lambda: get(site.port)[0] == 200)
        site.profile("new")
        told = site.llmctl("switch", "new", status=NOTHING)
    finally:
        stranger.kill()
        stranger.wait()
    assert f"port {site.port} is taken by pid {stranger.pid}" in told.stderr


def test_no_wait_asks_and_returns(site: ManagerSite) -> None:
    site.profiles({"old": "", "new": "load=4"})
    site.llmctl("switch", "old")
    told = site.llmctl("switch", "new", "--no-wait")
    assert told.stdout.startswith(f"new is starting, instead of old: http://127.0.0.1:{site.port}")
    assert site.group() == ("new", "loading")
    site.await_state("new", "ready")
    said = site.json("switch", "old", "--no-wait")
    assert (said["state"], said["ready_s"], said["previous"]) == ("loading", None, "new")
    site.await_state("old", "ready")


def test_a_dry_run_changes_nothing(site: ManagerSite) -> None:
    site.profiles({"old": "", "new": ""})
    site.llmctl("switch", "old")
    before = site.names(site.unit_dir)
    pid = site.show("llm-old.service", "MainPID")
    told = site.llmctl("switch", "new", "--dry-run")
    assert told.stdout.splitlines() == [
        "write llm-new.service",
        "reload systemd's units",
        "start llm-new.service",
        "wait until new answers",
    ]
    assert site.json("switch", "new", "--dry-run")["previous"] == "old"
    assert site.names(site.unit_dir) == before
    assert site.show("llm-new.service", "LoadState") == "not-found"
    assert site.show("llm-old.service", "MainPID") == pid
    back_at_work(site, "old")


def test_a_switch_to_the_running_model_leaves_it_running(site: ManagerSite) -> None:
    site.profile("a")
    site.llmctl("switch", "a")
    pid = site.show("llm-a.service", "MainPID")
    assert "a is ready:" in site.llmctl("switch", "a").stdout
    assert site.show("llm-a.service", "MainPID") == pid


def test_a_changed_profile_restarts_its_model_and_a_bad_change_is_taken_back(
    site: ManagerSite,
) -> None:
    site.profile("a")
    site.llmctl("switch", "a")
    site.profile("a", ctx=8192)
    assert "a: runs with older settings: llmctl switch a" in site.llmctl("status").stdout
    site.llmctl("switch", "a")
    assert "-c 8192" in site.read(site.unit_path("a"))
    good = site.read(site.unit_path("a"))
    site.profile("a", ctx=4096, env={"FAKE_LLAMA": "corrupt"})
    told = site.llmctl("switch", "a", status=FAILED)
    assert "It runs as it did before." in told.stderr
    assert site.read(site.unit_path("a")) == good
    back_at_work(site, "a")


def journald(site: ManagerSite) -> int:
    """The process of the manager's journal."""
    slice_name = Path(f"/proc/{site.manager.pid}/cgroup").read_text("ascii").split("0::/")[1]
    group = f"/sys/fs/cgroup/{slice_name.partition('/')[0]}/journald/cgroup.procs"
    return int(site.read(group))


def test_what_a_server_said_is_found_even_when_it_died_before_the_journal_looked(
    site: ManagerSite,
) -> None:
    """journald learns the unit of a line from its process, if that is still there (#2913)."""
    site.profiles({"old": "", "new": "corrupt"})
    site.llmctl("apply")
    site.llmctl("switch", "old")
    journal = journald(site)
    os.kill(journal, signal.SIGSTOP)
    try:
        switching = site.begin("switch", "new")
        site.await_event("stop", "new")
        pid = int(site.show("llm-new.service", "ExecMainPID"))
        eventually(lambda: not Path(f"/proc/{pid}").exists(), why="the server is gone")
    finally:
        os.kill(journal, signal.SIGCONT)
    told = switching.result(timeout=30)
    assert told.returncode == FAILED
    assert "new failed: the model file is corrupt or incomplete. old is ready" in told.stderr
    assert any("corrupted or incomplete" in line for line in last_words(told))
