"""The stand-in behaves as the real server was seen to behave."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
from kit.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
        return port


def get(port: int, path: str = "/health", **headers: str) -> tuple[int, Any]:
    """Status and body; status 0 while nobody listens."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)
    except OSError:
        return 0, None


class Starter:
    """Starts stand-ins on ports of their own, and stops them with the test."""

    def __init__(self, program: Path, directory: Path) -> None:
        self.program, self.directory = program, directory
        self.log = directory / "fake.log"
        self.started: list[subprocess.Popen[str]] = []

    def __call__(
        self, words: str, *flags: str, port: int = 0, **env: str
    ) -> tuple[subprocess.Popen[str], int]:
        port = port or free_port()
        place = ["--host", "127.0.0.1", "--port", str(port), "--alias", "coder", *flags]
        process = subprocess.Popen(
            [sys.executable, str(self.program), "-m", "/m/x.gguf", *place],
            env=os.environ | {"FAKE_LLAMA": words, "FAKE_LOG": str(self.log)} | env,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process, port

    def close(self) -> None:
        for process in self.started:
            process.kill()
            process.communicate()


@pytest.fixture
def start(fake_llama: Path, tmp_path: Path) -> Iterator[Starter]:
    starter = Starter(fake_llama, tmp_path)
    yield starter
    starter.close()


def test_it_serves_under_its_alias_and_stops_cleanly(start: Starter) -> None:
    process, port = start("")
    eventually(lambda: get(port)[0] == 200)
    assert get(port, "/v1/models")[1]["data"][0]["id"] == "coder"
    process.terminate()
    assert process.wait(30) == 0
    events = [line.split()[:2] for line in start.log.read_text().splitlines()]
    assert events == [["start", "coder"], ["stop", "coder"]]


def test_while_loading_it_answers_503_and_dies_of_sigterm(start: Starter) -> None:
    process, port = start("never,progress")
    eventually(lambda: get(port)[0] == 503)
    assert get(port, "/v1/models")[1]["error"]["message"] == "Loading model"
    first = resident_kib(process.pid)
    eventually(lambda: resident_kib(process.pid) > first + 2048)
    process.terminate()
    assert process.wait(30) == -signal.SIGTERM


def resident_kib(pid: int) -> int:
    with open(f"/proc/{pid}/status") as status:  # noqa: PTH123  # procfs
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        ("exit=3@0", 3, ""),
        ("abort@0.1", -signal.SIGABRT, "initializing"),
        ("oom", 1, "cudaMalloc failed: out of memory"),
        ("corrupt", 1, "model is corrupted or incomplete"),
        ("missing", 1, "failed to open GGUF file '/m/x.gguf' (No such file or directory)"),
        ("bindfail", 1, "couldn't bind HTTP server socket, hostname: 127.0.0.1, port:"),
    ],
)
def test_it_ends_as_told(start: Starter, words: str, status: int, said: str) -> None:
    process, _ = start(words)
    _, errors = process.communicate(timeout=10)
    assert process.returncode == status
    assert said in errors


def test_a_taken_port_ends_it(start: Starter) -> None:
    _, port = start("")
    eventually(lambda: get(port)[0] == 200)
    second, _ = start("", port=port)
    _, errors = second.communicate(timeout=10)
    assert second.returncode == 1
    assert f"couldn't bind HTTP server socket, hostname: 127.0.0.1, port: {port}" in errors


def test_a_slow_stop_keeps_the_port(start: Starter) -> None:
    process, port = start("slowstop=0.5")
    eventually(lambda: get(port)[0] == 200)
    process.terminate()
    assert get(port)[0] == 200
    assert process.wait(30) == 0


def test_one_that_holds_stops_when_its_stream_is_closed(start: Starter) -> None:
    process, port = start("holds,pace=0.02")
    eventually(lambda: get(port)[0] == 200)
    body = {"stream": True, "messages": [{"content": "word " * 1000}]}
    with socket.create_connection(("127.0.0.1", port), 30) as client:
        text = json.dumps(body)
        head = f"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: {len(text)}\r\n\r\n"
        client.sendall((head + text).encode())
        assert client.recv(100).startswith(b"HTTP/1.1 200")
        process.terminate()
        assert get(port)[0] == 200  # it serves on
        assert process.poll() is None
    assert process.wait(30) == 0


def test_a_key_is_wanted_everywhere_but_on_health(start: Starter) -> None:
    _, port = start("", LLAMA_API_KEY="sk-1")
    eventually(lambda: get(port)[0] == 200)
    assert get(port, "/v1/models")[0] == 401
    assert get(port, "/v1/models", Authorization="Bearer sk-1")[0] == 200


def test_another_alias_can_be_claimed(start: Starter) -> None:
    _, port = start("alias=other")
    eventually(lambda: get(port)[0] == 200)
    assert get(port, "/v1/models")[1]["data"][0]["id"] == "other"


FLAGS = """
    -c 4096 -ngl 99 -np 1 -ctk q8_0 -ctv q8_0 -ub 512 -b 2048 --fit off -lv 4 --metrics --slots
    -fa on --sse-ping-interval 5 -ts 3,1 --n-cpu-moe 4 --reasoning-budget 8192
"""


def test_flags_of_the_present_generation_are_known(start: Starter) -> None:
    _, port = start("", *FLAGS.split())
    eventually(lambda: get(port)[0] == 200)


@pytest.mark.parametrize("flag", ["--fit", "-lv", "--log-verbosity", "--sse-ping-interval"])
def test_the_old_generation_lacks_some_flags(start: Starter, flag: str) -> None:
    process, _ = start("", flag, "1", FAKE_HELP="old")
    _, errors = process.communicate(timeout=10)
    assert process.returncode == 1
    assert errors == f"error: invalid argument: {flag}\n"


@pytest.mark.server
@pytest.mark.parametrize("arguments", [("--help",), ("--x",), ("--version",), ("-c",)])
def test_it_speaks_as_the_real_one(
    fake_llama: Path, llama_server: str, arguments: tuple[str, ...]
) -> None:
    if "0.7.0" not in version(llama_server):
        pytest.skip("the stand-in imitates 0.7.0; this is another llama-server")
    outputs = []
    for program in (llama_server, str(fake_llama)):
        done = subprocess.run([program, *arguments], capture_output=True, text=True)
        first = (done.stdout + done.stderr).splitlines()[:1]
        outputs.append((done.returncode, [line.split(", commit")[0] for line in first]))
    assert outputs[0] == outputs[1]


def version(program: str) -> str:
    done = subprocess.run([program, "--version"], capture_output=True, text=True)
    return done.stdout + done.stderr
