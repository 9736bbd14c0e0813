"""A far box's survey: it brings what the box would say, once, and is forgotten in time."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading
from typing import TYPE_CHECKING

import pytest
from support.scripted import ScriptedHost

from llmctl.engine.expecting import expect
from llmctl.engine.known import KnownHost
from llmctl.engine.survey import parse_survey, survey_script
from llmctl.health import get, probe
from llmctl.host.local import LocalHost
from llmctl.systemd import SHOW, UNITS_ARGV, Systemd

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from llmctl.host.base import Connection, Entry, Result

SYSTEMCTL = """\
#!/bin/sh
echo "$@" >>"$HOME/systemctl.log"
case "$*" in
*list-units*) echo "llm-a.service loaded active running Model a" ;;
*show*) printf 'Id=llm-a.service\\nActiveState=active\\nSubState=running\\nMainPID=@PID@\\n' ;;
esac
"""
UNIT = "[Service]\nExecStart=/opt/server --model @HOME@/models/a.gguf\n"


class Counted(ScriptedHost):
    """This machine, as if it were far away; `asked` is how often it was."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        super().__init__(environ)
        self.asked: list[str] = []

    def script(self, text: str, *, what: str, timeout: float, secret: bool = False) -> bytes:
        self.asked.append(what)
        return super().script(text, what=what, timeout=timeout, secret=secret)

    def run(self, argv: Sequence[str], *, timeout: float) -> Result:
        self.asked.append(" ".join(argv))
        return super().run(argv, timeout=timeout)

    def read(self, path: str, *, start: int = 0, length: int | None = None) -> bytes:
        self.asked.append(f"read {path}")
        return super().read(path, start=start, length=length)

    def stat(self, path: str) -> Entry | None:
        self.asked.append(f"stat {path}")
        return super().stat(path)

    def list(self, path: str) -> tuple[Entry, ...]:
        self.asked.append(f"list {path}")
        return super().list(path)

    def which(self, program: str) -> str | None:
        self.asked.append(f"which {program}")
        return super().which(program)

    def dial(self, port: int, *, timeout: float) -> Connection:
        self.asked.append(f"dial {port}")
        return super().dial(port, timeout=timeout)


@contextlib.contextmanager
def server(status: str = "200 OK") -> Iterator[int]:
    """A model's server: answers everything alike."""
    body = b'{"data": [{"id": "a"}]}'
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        connection.recv(4096)
                        connection.sendall(f"HTTP/1.0 {status}\r\n\r\n".encode() + body)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield int(listener.getsockname()[1])
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(timeout=5)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A box's home with a profile, a unit, a model and a systemctl."""
    place = tmp_path / "my home"
    for path, text in {
        ".config/llmctl/config.yaml": f"models_dir: '{place}/models'\n",
        ".config/llmctl/profiles/a.yaml": "model: a.gguf\n",
        ".config/systemd/user/llm-a.service": UNIT.replace("@HOME@", str(tmp_path)),
        ".local/state/llmctl/ready/llm-a.service": "kept\n",
        "bin/systemctl": SYSTEMCTL,
    }.items():
        file = place / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")
    (place / "bin/systemctl").chmod(0o755)
    (tmp_path / "models").mkdir()
    (tmp_path / "models/a.gguf").write_bytes(b"GGUFnothing more")
    return place


@pytest.fixture
def inner(home: Path) -> Iterator[Counted]:
    """A process whose words name a port stands for a server's."""
    with subprocess.Popen(["sleep", "600"]) as process:
        systemctl = home / "bin/systemctl"
        text = systemctl.read_text("ascii").replace("@PID@", str(process.pid))
        systemctl.write_text(text, "ascii")
        yield Counted({"HOME": str(home), "PATH": f"{home}/bin:{os.environ['PATH']}"})
        process.kill()


def test_what_is_known_is_what_the_box_would_say(inner: Counted, home: Path) -> None:
    known, truth = KnownHost(inner), LocalHost(inner.environ())
    config, units = f"{home}/.config/llmctl", f"{home}/.config/systemd/user"
    model = f"{home.parent}/models/a.gguf"
    assert known.environ()["HOME"] == str(home)
    for path in (f"{config}/config.yaml", f"{config}/profiles/a.yaml", f"{units}/llm-a.service",
                 f"{home}/.local/state/llmctl/ready/llm-a.service"):  # fmt: skip
        assert known.read(path) == truth.read(path)
        assert known.read(path, start=2, length=3) == truth.read(path, start=2, length=3)
        assert known.stat(path) == truth.stat(path)
    assert known.list(f"{config}/profiles") == truth.list(f"{config}/profiles")
    assert known.list(units) == truth.list(units)
    assert (known.stat(model), known.read(model, length=4)) == (truth.stat(model), b"GGUF")
    assert known.stat(f"{units}/none") is None
    with pytest.raises(FileNotFoundError):
        known.read(f"{units}/llm-b.service")
    assert inner.asked == ["a survey"]


def test_units_are_known_for_one_question(inner: Counted) -> None:
    known = KnownHost(inner)
    systemd = Systemd(known)
    assert [one.unit for one in systemd.lively_status("llm-*.service")] == ["llm-a.service"]
    assert inner.asked == ["a survey"]
    assert systemd.status(["llm-a.service"])[0].is_running
    assert inner.asked[1].startswith("systemctl --user show")


def test_a_process_is_known_for_one_question(inner: Counted) -> None:
    known = KnownHost(inner)
    pid = Systemd(known).lively_status("llm-*.service")[0].pid
    cmdline = f"/proc/{pid}/cmdline"
    assert known.read(cmdline) == b"sleep\x00600\x00"
    assert inner.asked == ["a survey"]
    assert known.read(cmdline) == b"sleep\x00600\x00"
    assert inner.asked == ["a survey", f"read {cmdline}"]


def test_what_a_command_may_have_changed_is_known_no_more(inner: Counted) -> None:
    known = KnownHost(inner)
    known.environ()
    known.run(["true"], timeout=5)
    known.run(UNITS_ARGV, timeout=5)
    known.run((*SHOW, "--", "llm-a.service"), timeout=5)
    assert len(inner.asked) == 4


def test_a_file_that_was_written_is_read_anew(inner: Counted, home: Path) -> None:
    known = KnownHost(inner)
    units, path = f"{home}/.config/systemd/user", f"{home}/.config/systemd/user/llm-a.service"
    assert known.read(path)
    known.write(path, b"new")
    known.write(f"{units}/llm-b.service", b"other")
    assert known.read(path) == b"new"
    assert known.read(f"{units}/llm-b.service") == b"other"
    assert [one.name for one in known.list(units)] == ["llm-a.service", "llm-b.service"]
    known.remove(path)
    assert known.stat(path) is None


def test_a_survey_that_was_cut_off_brings_what_it_has(inner: Counted) -> None:
    whole = inner.script(survey_script(), what="", timeout=20)
    for at in range(0, len(whole), max(1, len(whole) // 60)):
        parse_survey(whole[:at])
    assert parse_survey(b"") == parse_survey(b"no such thing\nlook !!!\n")


def test_a_wait_brings_the_ports_answers_along(inner: Counted) -> None:
    known = KnownHost(inner)
    known.environ()
    with server() as port:
        expect(known, port, key=None)
        known.run(["true"], timeout=5)
        inner.asked.clear()
        assert Systemd(known).status(["llm-a.service"])[0].is_running
        assert probe(known, port).is_from("a")
    assert inner.asked == ["systemctl"]


def test_a_key_is_sent_where_it_is_wanted(inner: Counted) -> None:
    known = KnownHost(inner)
    known.environ()
    with server() as port:
        expect(known, port, key="secret")
        known.run(["true"], timeout=5)
        Systemd(known).status(["llm-a.service"])
        inner.asked.clear()
        assert get(known, port, "/v1/models", key="secret")[0] == 200
        assert inner.asked == []
        assert get(known, port, "/metrics", key="secret")[0] == 200
        assert inner.asked == [f"dial {port}"]


def test_a_port_that_is_not_asked_yet_refuses(inner: Counted) -> None:
    known = KnownHost(inner)
    known.environ()
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        expect(known, port, key=None)
        known.run(["true"], timeout=5)
        Systemd(known).status(["llm-a.service"])
        inner.asked.clear()
        with pytest.raises(ConnectionRefusedError):
            known.dial(port, timeout=1)
        assert inner.asked == []
