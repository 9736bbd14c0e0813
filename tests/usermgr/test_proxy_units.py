"""The proxy under a real user manager: installed, restarted under load, told by systemd what
happens to models."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from kit.test_fake_llama import get
from kit.waiting import eventually
from support.load import Load
from usermgr import scenarios
from usermgr.site import PROFILE, STALE, UNREACHABLE, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usermgr.site import ManagerSite

SOCKET, SERVICE = "llmctl-proxy.socket", "llmctl-proxy.service"


@pytest.fixture
def port(site: ManagerSite) -> Iterator[int]:
    """Where the proxy listens."""
    chosen = free_port()
    listen(site, f"127.0.0.1:{chosen}")
    yield chosen
    site.systemctl("stop", SOCKET, SERVICE, check=False)


def listen(site: ManagerSite, *addresses: str, **keys: Any) -> None:
    site.configure(proxy={"listen": list(addresses), **keys})


def told(port: int) -> Any:
    """What the proxy says of itself."""
    status, facts = get(port, "/llmctl/status")
    assert status == 200
    return facts


@contextlib.contextmanager
def stream(port: int, model: str) -> Iterator[http.client.HTTPResponse]:
    """A stream that has begun."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    body = {"model": model, "stream": True, "messages": [{"content": "word " * 5000}]}
    headers = {"Content-Type": "application/json"}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
    answer = connection.getresponse()
    while b'"content": "word"' not in (line := answer.readline()):
        assert line
    yield answer
    answer.close()
    connection.close()


def plain(port: int, model: str) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    body = {"model": model, "messages": [{"content": "hi"}]}
    headers = {"Content-Type": "application/json", "Connection": "close"}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
    with contextlib.closing(connection), connection.getresponse() as answer:
        return answer.status, json.loads(answer.read())


# --------------------------------------------------------------------------------- install


def test_it_is_installed_looked_at_and_removed_again(site: ManagerSite, port: int) -> None:
    assert site.json("proxy", "status")["installed"] is False
    said = site.llmctl("proxy", "install").stdout
    assert f"the proxy listens on http://127.0.0.1:{port}" in said
    pid = site.show(SERVICE, "MainPID")
    again = site.json("proxy", "install")
    assert {one["change"] for one in again["units"]} == {"current"}
    seen = site.json("proxy", "status")
    assert (seen["state"], seen["enabled"], str(seen["pid"])) == ("running", True, pid)
    assert set(seen["units"].values()) == {"current"}
    assert get(port)[0] == 503
    assert site.json("proxy", "uninstall")["removed"] == [SOCKET, SERVICE]
    assert get(port)[0] == 0
    assert site.json("proxy", "uninstall")["removed"] == []
    assert SOCKET not in site.systemctl("list-unit-files", "--no-legend").stdout


def test_a_build_that_only_the_shell_finds_is_named_and_the_proxy_says_so(
    site: ManagerSite, port: int
) -> None:
    """By hand it works: that is what makes it hard to see."""
    folder = f"{site.models_dir}/bin"
    site.run("mkdir", "-p", folder)
    fake = site.run("which", "python3").stdout.strip()
    script = f'#!/bin/sh\nexec {fake} {Path(__file__).parents[1]}/kit/fake_llama.py "$@"\n'
    site.put({f"{folder}/my-llama": script})
    site.run("chmod", "+x", f"{folder}/my-llama")
    proxy = {"listen": [f"127.0.0.1:{port}"]}
    site.configure(proxy=proxy, binaries={"upstream": "my-llama"})
    site.profile("a")
    env = {"PATH": f"{folder}:/usr/local/bin:/usr/bin:/bin"}
    site.llmctl("switch", "a", env=env)
    site.llmctl("off", env=env)
    told = f"Write: binaries: {{upstream: {folder}/my-llama}}"
    assert told in site.llmctl("proxy", "install", env=env).stderr
    assert told in site.llmctl("proxy", "status", env=env).stderr
    status, facts = plain(port, "a")
    assert (status, facts["error"]["code"]) == (503, "switch_failed")
    assert "my-llama is not an executable file" in facts["error"]["message"]


def test_the_first_client_starts_it(site: ManagerSite, port: int) -> None:
    site.llmctl("proxy", "install")
    site.systemctl("stop", SERVICE)
    assert site.json("proxy", "status")["state"] == "listening"
    assert get(port)[0] == 503
    assert site.json("proxy", "status")["state"] == "running"


def test_a_taken_port_is_told_with_its_holder(site: ManagerSite, port: int) -> None:
    with socket.create_server(("127.0.0.1", port)):
        told = site.llmctl("proxy", "install", status=UNREACHABLE)
    assert (
        f"the proxy cannot listen on 127.0.0.1:{port}: port {port} is taken by pid" in told.stderr
    )
    site.llmctl("proxy", "install")
    assert get(port)[0] == 503


def test_what_keeps_it_from_listening_is_shown_and_apply_tries_again(
    site: ManagerSite, port: int
) -> None:
    with socket.create_server(("127.0.0.1", port)):
        site.llmctl("proxy", "install", status=UNREACHABLE)
        seen = site.json("proxy", "status")
    assert seen["state"] == "failed"
    assert f"port {port} is taken by pid" in seen["problems"][0]
    site.llmctl("apply")
    assert get(port)[0] == 503


def test_units_of_others_and_edits_are_respected(site: ManagerSite, port: int) -> None:
    path = f"{site.unit_dir}/{SERVICE}"
    site.put({path: "[Service]\nExecStart=/bin/true\n"})
    told = site.llmctl("proxy", "install", status=PROFILE)
    assert f"{path} was not written by llmctl" in told.stderr
    site.remove(path)
    site.llmctl("proxy", "install")
    site.put({path: site.read(path).replace("RestartSec=1", "RestartSec=2")})
    assert site.json("proxy", "status")["units"][SERVICE] == "edited"
    assert "edited by hand" in site.llmctl("apply").stderr
    (odd,) = (x for x in site.llmctl("proxy", "status").stdout.splitlines() if "units:" in x)
    assert f"{SERVICE} is edited: llmctl proxy install --overwrite" in odd
    site.llmctl(*odd.partition(": llmctl ")[2].split())
    assert "RestartSec=1\n" in site.read(path)
    assert "units:" not in site.llmctl("proxy", "status").stdout
    assert get(port)[0] == 503


def test_nothing_but_loopback_without_keys(site: ManagerSite, port: int) -> None:
    site.llmctl("proxy", "install")
    listen(site, f"0.0.0.0:{port}")
    told = site.llmctl("apply", status=PROFILE)
    assert f"0.0.0.0:{port} can be reached from other machines" in told.stderr
    assert get(port)[0] == 503
    listen(site, f"0.0.0.0:{port}", allow_keyless=True)
    site.llmctl("apply")
    eventually(lambda: get(port)[0] == 503, why="it listens there")


def test_other_addresses_are_listened_on_after_apply(site: ManagerSite, port: int) -> None:
    site.llmctl("proxy", "install")
    other = free_port()
    listen(site, f"127.0.0.1:{other}", f"[::1]:{port}")
    site.llmctl("apply", "--check", status=STALE)
    assert f"+ListenStream=127.0.0.1:{other}" in site.llmctl("apply").stdout
    assert get(other)[0] == 503
    assert get(port)[0] == 0


def test_a_new_address_that_is_taken_costs_nobody_the_old_one(site: ManagerSite, port: int) -> None:
    site.llmctl("proxy", "install")
    other = free_port()
    listen(site, f"127.0.0.1:{other}")
    with socket.create_server(("127.0.0.1", other)):
        told = site.llmctl("apply", status=UNREACHABLE).stderr
    assert f"port {other} is taken by pid" in told
    assert f"It listens where it did: 127.0.0.1:{port}." in told
    assert get(port)[0] == 503
    site.llmctl("apply")
    assert get(other)[0] == 503


# ------------------------------------------------------------------------------- restarts


RESTARTS = 20


def answers_on(load: Load, count: int) -> None:
    """Until clients have got further answers."""
    enough = load.counts["answered"] + count
    eventually(lambda: load.counts["answered"] >= enough, why="clients are answered")


def test_no_restart_refuses_a_connection_or_loses_a_request(site: ManagerSite, port: int) -> None:
    site.profile("a", "pace=0.01")
    site.llmctl("proxy", "install")
    site.llmctl("switch", "a")
    with Load(port, "a") as load:
        for _ in range(RESTARTS):
            site.systemctl("restart", SERVICE)
            answers_on(load, 5)
    assert load.faults == []
    assert load.counts["reconnected"] == 0  # connections that clients keep outlive the process
    assert site.show(SOCKET, "NAccepted") == "0"
    assert site.show(SOCKET, "Result") == "success"


def test_a_stream_under_way_is_whole_although_the_proxy_is_restarted(
    site: ManagerSite, port: int
) -> None:
    site.profile("a", "pace=0.1")
    site.llmctl("proxy", "install")
    site.llmctl("switch", "a")
    with Load(port, "a", fresh=1, kept=0) as load:
        eventually(lambda: told(port)["requests"], why="a request is under way")
        site.systemctl("restart", SERVICE)
    assert load.faults == []
    assert load.counts["answered"] > 0


def test_what_does_not_end_in_time_is_told_so(site: ManagerSite, port: int) -> None:
    listen(site, f"127.0.0.1:{port}", stop_timeout="500ms")
    site.profile("a", "pace=0.05")
    site.llmctl("proxy", "install")
    site.llmctl("switch", "a")
    with stream(port, "a") as answer:
        site.systemctl("restart", SERVICE)
        rest = answer.read().decode()
    assert '"type":"llmctl_proxy_stopped"' in rest.splitlines()[-2]
    assert "[DONE]" not in rest
    assert plain(port, "a")[0] == 200


@pytest.mark.parametrize("words", [("proxy", "uninstall"), ("proxy", "install"), ("apply",)])
def test_what_holds_a_stop_is_told_and_how_to_end_it(
    site: ManagerSite, port: int, words: tuple[str, ...]
) -> None:
    """A stream of minutes: nobody waits for it without knowing."""
    listen(site, f"127.0.0.1:{port}", stop_timeout="10m")
    site.profile("a", "pace=0.1")
    site.llmctl("proxy", "install")
    site.llmctl("switch", "a")
    other = free_port()
    listen(site, f"127.0.0.1:{other}", stop_timeout="10m")
    progress = f"{site.home}/progress"
    site.put({progress: ""})
    with stream(port, "a") as answer:
        command = 'progress=$1; shift; exec "$@" 2>"$progress"'
        begun = site.spawn("sh", "-c", command, "sh", progress, *site.program(), *words)
        eventually(lambda: "to cut them: " in site.read(progress), why="it says what it waits for")
        assert "lets answers under way end, for at most 600 s" in site.read(progress)
        (cut,) = {line.partition("to cut them: ")[2] for line in site.read(progress).splitlines()}
        site.run(*cut.partition(" (")[0].split())
        with pytest.raises(http.client.IncompleteRead):
            answer.read()
    assert begun.result().returncode == 0
    gone = words[-1] == "uninstall"
    eventually(lambda: get(other)[0] == (0 if gone else 200), why="it is done")


def test_a_kept_connection_of_a_stopped_proxy_is_closed(site: ManagerSite, port: int) -> None:
    site.llmctl("proxy", "install")
    with socket.create_connection(("127.0.0.1", port), 30) as client:
        client.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(4096).startswith(b"HTTP/1.1 503")
        site.systemctl("stop", SERVICE)
        assert client.recv(4096) == b""


# ------------------------------------------------------------------------------ by hand


def test_a_stop_by_hand_ends_the_streams_that_would_hold_it(site: ManagerSite, port: int) -> None:
    site.profiles({"a": "pace=0.05,holds", "b": ""}, stop_timeout="60s")
    site.llmctl("proxy", "install")
    site.llmctl("switch", "a")
    with stream(port, "a") as answer:
        site.systemctl("stop", "llm-a.service")
        assert site.show("llm-a.service", "Result") == "success"  # and not "timeout"
        assert ends_in_one_error(answer, "a went away in the midst of its answer: it was stopped.")
    assert site.active_units() == set()


def test_a_switch_by_hand_ends_them_too_and_who_waits_gets_the_new_one(
    site: ManagerSite, port: int
) -> None:
    site.profiles({"a": "pace=0.05,holds", "b": "load=1"}, stop_timeout="60s")
    listen(site, f"127.0.0.1:{port}", autoswitch=False)
    site.llmctl("proxy", "install")
    site.llmctl("switch", "a")
    with stream(port, "a") as answer:
        site.llmctl("switch", "b")
        assert site.show("llm-a.service", "Result") == "success"
        assert ends_in_one_error(answer, "a went away in the midst of its answer: it was stopped.")
    assert plain(port, "b")[1]["model"] == "b"
    assert plain(port, "whatever")[1]["model"] == "b"


def test_a_request_without_an_answer_yet_waits_for_its_model_again(
    site: ManagerSite, port: int
) -> None:
    site.profile("a", "pace=1", stop_timeout="60s")
    site.llmctl("proxy", "install")
    site.llmctl("switch", "a")
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(plain, port, "a")
        eventually(lambda: told(port)["queues"]["gpu"]["in_flight"], why="it is under way")
        site.behave("a", "")
        site.systemctl("restart", "llm-a.service")  # a stop would mean it: test_proxy.py
        status, facts = answer.result(timeout=60)
    assert (status, facts["model"]) == (200, "a")
    words = ["start", "stop", "start"]
    eventually(lambda: [event.word for event in site.events()] == words, why="it was restarted")


def ends_in_one_error(answer: http.client.HTTPResponse, message: str) -> bool:
    rest = answer.read().decode()
    events = [line for line in rest.splitlines() if line.startswith("data: ")]
    errors = [line for line in events if '"error"' in line]
    assert "[DONE]" not in rest
    assert errors == events[-1:]
    return str(json.loads(errors[0][6:])["error"]["message"]) == message


def test_what_happens_to_a_model_is_heard(site: ManagerSite) -> None:
    scenarios.what_happens_to_a_model_is_heard(site)


# --------------------------------------------------------------------------------- reload


def problems(port: int) -> list[str]:
    found = told(port)["problems"]
    assert isinstance(found, list)
    return found


def test_a_broken_configuration_leaves_the_old_one_in_force(site: ManagerSite, port: int) -> None:
    site.profile("a")
    site.llmctl("proxy", "install")
    site.llmctl("switch", "a")
    listen(site, f"127.0.0.1:{port}", max_wait="soon")
    site.systemctl("reload", SERVICE)
    eventually(lambda: problems(port), why="the complaint is there")
    assert "proxy.max_wait" in problems(port)[0]
    assert "proxy.max_wait" in site.llmctl("proxy", "status").stderr
    assert "proxy.max_wait" in site.manager.journal(SERVICE)
    assert plain(port, "a")[0] == 200
    site.systemctl("stop", "llm-a.service")  # what happens to models is seen all the same
    eventually(lambda: told(port)["queues"]["gpu"]["ready"] is None, why="a is stopped")
    listen(site, f"127.0.0.1:{port}")
    site.systemctl("reload", SERVICE)
    eventually(lambda: not problems(port), why="all is well again")


def test_a_broken_profile_leaves_its_old_entry(site: ManagerSite, port: int) -> None:
    site.profile("a", aliases=["nick"])
    site.llmctl("proxy", "install")
    site.llmctl("switch", "a")
    site.put({site.profile_path("a"): "model: [\n"})
    site.llmctl("apply", status=PROFILE)
    eventually(lambda: problems(port), why="the complaint is there")
    assert plain(port, "nick")[1]["model"] == "a"


def test_edits_of_one_model_do_not_touch_a_stream_of_another(site: ManagerSite, port: int) -> None:
    site.profiles({"a": "pace=0.02", "b": ""})
    site.llmctl("apply")
    site.llmctl("proxy", "install")
    site.llmctl("switch", "a")
    with Load(port, "a", fresh=1, kept=2) as load:
        for ctx in (1024, 2048, 4096):
            site.profile("b", ctx=ctx)
            site.llmctl("apply")
            site.put({site.profile_path("c"): f"model: [ {ctx}"})
            site.llmctl("apply", status=PROFILE)
            site.remove(site.profile_path("c"))
            answers_on(load, 3)
    assert load.faults == []
    assert {event.alias for event in site.events()} == {"a"}
    assert len(site.events()) == 1  # one start, of a


def test_two_quick_edits_are_one_start(site: ManagerSite, port: int) -> None:
    site.profiles({"a": "", "b": ""})
    site.llmctl("apply")
    site.llmctl("proxy", "install")
    site.llmctl("switch", "a")
    for ctx in (1024, 2048):
        site.profile("b", ctx=ctx)
        site.llmctl("apply")
    assert plain(port, "b")[1]["model"] == "b"
    assert [event.alias for event in site.events() if event.word == "start"] == ["a", "b"]
    assert "-c 2048" in site.read(site.unit_path("b"))
