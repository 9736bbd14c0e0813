"""The promises of llmctl/host/base.py, held by every Host: the same tests for each.

To add an implementation, add a factory to FACTORIES: it makes a Subject with a host and an empty
directory on that host. Commands are run through `sh`, which FakeHost knows as a few scripts.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import subprocess
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from kit.waiting import eventually
from support.fakes import FakeHost, Output
from support.scripted import ScriptedHost
from support.ssh_home import Operator

from llmctl.engine.known import KnownHost
from llmctl.errors import HostError, NoAnswerError
from llmctl.host.local import LocalHost

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from llmctl.host.base import Host
    from llmctl.host.ssh import SSHHost

ARGS = r'printf "%s\0" "$@"'
LOUD = "head -c 8388608 /dev/zero | tr '\\0' x >&2; head -c 8388608 /dev/zero | tr '\\0' y"
LOCALE = 'printf %s "$LC_ALL"'
STDIN = "cat"
BYTES = r"printf 'a\377b'"
SLEEP = "sleep 60"
CHILD = "sleep 60 & wait"
STAYS = 'trap "" TERM; echo $$ >"$1"; while :; do sleep 0.1; done'
TICK = "echo $$; echo one; exec sleep 60"
THREE = "printf 'one\ntwo\n\nlast'"


@dataclass(frozen=True, slots=True)
class Subject:
    """A host, an empty directory on it, and a server on a port of it that echoes in capitals."""

    host: Host
    directory: str
    serve: Callable[[], int]

    def path(self, name: str) -> str:
        return f"{self.directory}/{name}"

    def sh(self, script: str, *words: str, timeout: float = 30.0) -> str:
        """What a script that must succeed writes."""
        result = self.host.run(["sh", "-c", script, "sh", *words], timeout=timeout)
        assert result.ok, result
        return result.stdout


@contextlib.contextmanager
def local(directory: Path) -> Iterator[Subject]:
    with contextlib.ExitStack() as stack:
        yield Subject(LocalHost(), str(directory), lambda: stack.enter_context(capitals()))


@contextlib.contextmanager
def capitals() -> Iterator[int]:
    """A server that answers one connection in capitals."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(connection.recv(1000).upper())

        thread = threading.Thread(target=answer)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


@contextlib.contextmanager
def known(directory: Path) -> Iterator[Subject]:
    """What a survey brings counts as the host's own word."""
    with contextlib.ExitStack() as stack:
        host = KnownHost(ScriptedHost())
        yield Subject(host, str(directory), lambda: stack.enter_context(capitals()))


@contextlib.contextmanager
def fake(directory: Path) -> Iterator[Subject]:
    host = FakeHost()
    pids = itertools.count(4000)

    def tick(_: Sequence[str]) -> Output:
        pid = next(pids)
        return Output(stdout=f"{pid}\none\n", pid=pid)

    def stays(words: Sequence[str]) -> Output:
        host.put(words[0], f"{next(pids)}\n")
        return Output(takes_s=60)

    scripts: dict[str, Callable[[Sequence[str]], Output]] = {
        ARGS: lambda words: Output(stdout="".join(f"{word}\0" for word in words)),
        LOUD: lambda _: Output(stdout="y" * (8 << 20), stderr="x" * (8 << 20)),
        LOCALE: lambda _: Output(stdout=host.environ()["LC_ALL"]),
        STDIN: lambda _: Output(),
        BYTES: lambda _: Output(stdout="a\ufffdb"),
        SLEEP: lambda _: Output(takes_s=60),
        CHILD: lambda _: Output(takes_s=60),
        STAYS: stays,
        TICK: tick,
        THREE: lambda _: Output(stdout="one\ntwo\n\nlast"),
        'exit "$1"': lambda words: Output(status=int(words[0])),
    }

    host.install("/usr/bin/sh", lambda argv: scripts[argv[2]](argv[4:]))
    host.make_dir(str(directory))

    def serve() -> int:
        host.servers[7777] = lambda data: data.upper()
        return 7777

    yield Subject(host, str(directory), serve)


FACTORIES = {"local": local, "known": known, "fake": fake}


@pytest.fixture(params=[*FACTORIES, pytest.param("ssh", marks=pytest.mark.box)])
def subject(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Subject]:
    if request.param == "ssh":
        with over_ssh(request.getfixturevalue("elsewhere")) as made:
            yield made
        return
    with FACTORIES[request.param](tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def elsewhere(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SSHHost]:
    """A real box, over one connection to its sshd."""
    box = request.getfixturevalue("box")("trixie")
    with Operator(tmp_path_factory.mktemp("operator") / "home") as operator:
        operator.meet(box)
        yield operator.host(box.name)


@contextlib.contextmanager
def over_ssh(host: SSHHost) -> Iterator[Subject]:
    directory = host.run(["mktemp", "--directory"], timeout=30).stdout.strip()
    with contextlib.ExitStack() as stack:

        def serve() -> int:
            lines = host.lines(["python3", "-c", CAPITALS])
            stack.callback(close, lines)
            return int(next(lines))

        yield Subject(host, directory, serve)
    host.run(["rm", "--recursive", "--force", "--", directory], timeout=30)


CAPITALS = """\
import socket
with socket.create_server(("127.0.0.1", 0)) as listener:
    print(listener.getsockname()[1], flush=True)
    connection, _ = listener.accept()
    with connection:
        connection.sendall(connection.recv(1000).upper())
"""


# Commands

AWKWARD = [
    "two words", "'single'", '"double"', "line\nbreak", "$HOME", "${HOME}", "`id`", "$(id)", "%n",
    "é ü 漢", "", "--", "-x", "*", "a\\b", "\\", ";", "&&", "|", ">", "#", "~", "!", "\t", "a'b\"c",
]  # fmt: skip


@pytest.mark.parametrize("word", AWKWARD, ids=repr)
def test_a_word_arrives_as_it_is(subject: Subject, word: str) -> None:
    assert subject.sh(ARGS, word) == f"{word}\0"


def test_many_words_arrive_in_order(subject: Subject) -> None:
    assert subject.sh(ARGS, *AWKWARD) == "".join(f"{word}\0" for word in AWKWARD)


def test_both_streams_arrive_whole_however_much_there_is(subject: Subject) -> None:
    result = subject.host.run(["sh", "-c", LOUD], timeout=60)
    assert (len(result.stdout), len(result.stderr)) == (8 << 20, 8 << 20)


@pytest.mark.parametrize("status", [0, 1, 7, 127, 255])
def test_an_exit_status_is_an_answer(subject: Subject, status: int) -> None:
    result = subject.host.run(["sh", "-c", 'exit "$1"', "sh", str(status)], timeout=30)
    assert (result.status, result.ok) == (status, status == 0)


def test_a_result_tells_what_was_run(subject: Subject) -> None:
    argv = ("sh", "-c", ARGS, "sh", "a b")
    assert subject.host.run(list(argv), timeout=30).argv == argv


def test_commands_run_one_after_the_other_and_the_last_one_answers(subject: Subject) -> None:
    first, second = (["sh", "-c", 'exit "$1"', "sh", status] for status in ("3", "4"))
    assert subject.host.run_all([first, second], timeout=30).status == 4
    missing = subject.host.run_all([first, ["sh", "-c", ARGS, "sh", "a b"]], timeout=30)
    assert (missing.status, missing.stdout) == (0, "a b\0")


def test_messages_are_in_english(subject: Subject) -> None:
    assert subject.sh(LOCALE) == "C.UTF-8"


def test_stdin_is_empty(subject: Subject) -> None:
    assert subject.sh(STDIN) == ""


def test_output_that_is_no_utf_8_is_read_leniently(subject: Subject) -> None:
    assert subject.sh(BYTES) == "a\ufffdb"


@pytest.mark.parametrize("script", [SLEEP, CHILD], ids=["itself", "its-child"])
def test_a_timeout_bites(subject: Subject, script: str) -> None:
    began = time.monotonic()
    with pytest.raises(NoAnswerError, match=r"sh did not end within 0\.2 s"):
        subject.host.run(["sh", "-c", script], timeout=0.2)
    assert time.monotonic() - began < 10


def test_what_outlasts_its_time_is_killed(subject: Subject) -> None:
    place = subject.path("pid")
    for timeout in (0.3, 2.0, 10.0):  # on a busy machine it takes a while to begin
        with pytest.raises(NoAnswerError):
            subject.host.run(["sh", "-c", STAYS, "sh", place], timeout=timeout)
        if subject.host.stat(place) is not None:
            break
    pid = subject.host.read(place).decode().strip()
    eventually(lambda: subject.host.stat(f"/proc/{pid}/exe") is None, why="none, or a zombie")


def test_a_missing_program_is_an_error_and_no_status(subject: Subject) -> None:
    with pytest.raises(HostError, match="no-such-program"):
        subject.host.run(["no-such-program"], timeout=30)


def test_a_file_that_is_no_program_is_an_error(subject: Subject) -> None:
    subject.host.write(subject.path("notes"), b"just text")
    with pytest.raises(HostError, match="notes"):
        subject.host.run([subject.path("notes")], timeout=30)


def test_lines_come_one_by_one(subject: Subject) -> None:
    assert list(subject.host.lines(["sh", "-c", THREE])) == ["one", "two", "", "last"]


def test_lines_come_before_the_command_ends(subject: Subject) -> None:
    lines = subject.host.lines(["sh", "-c", TICK])
    assert [next(lines) for _ in range(2)][1] == "one"
    close(lines)


def test_closing_the_lines_ends_the_command(subject: Subject) -> None:
    lines = subject.host.lines(["sh", "-c", TICK])
    pid = next(lines)
    assert subject.host.stat(f"/proc/{pid}") is not None
    close(lines)
    assert subject.host.stat(f"/proc/{pid}") is None


def close(lines: Iterator[str]) -> None:
    getattr(lines, "close")()  # noqa: B009  # every Host's is a generator; the type says less


def test_lines_of_a_missing_program_are_an_error(subject: Subject) -> None:
    with pytest.raises(HostError, match="no-such-program"):
        list(subject.host.lines(["no-such-program"]))


def test_the_environment_has_a_home(subject: Subject) -> None:
    assert subject.host.environ()["HOME"].startswith("/")


# Files


@pytest.mark.parametrize("data", [b"", b"text\n", bytes(range(256)) * 5000], ids=len)
def test_what_is_written_is_read(subject: Subject, data: bytes) -> None:
    subject.host.write(subject.path("file"), data)
    assert subject.host.read(subject.path("file")) == data


@pytest.mark.parametrize("name", ["a b", "é", "%n", "$HOME", "'", '"', "-x", "a\nb", "*"])
def test_a_file_may_have_any_name(subject: Subject, name: str) -> None:
    subject.host.write(subject.path(name), b"x")
    assert [one.name for one in subject.host.list(subject.directory)] == [name]
    assert subject.host.read(subject.path(name)) == b"x"


def test_a_file_is_replaced(subject: Subject) -> None:
    subject.host.write(subject.path("file"), b"a longer first text")
    subject.host.write(subject.path("file"), b"second")
    assert subject.host.read(subject.path("file")) == b"second"


def test_missing_directories_are_made(subject: Subject) -> None:
    subject.host.write(subject.path("a/b/c"), b"x")
    assert subject.host.read(subject.path("a/b/c")) == b"x"


def test_nothing_but_the_file_is_left(subject: Subject) -> None:
    subject.host.write(subject.path("file"), b"x")
    subject.host.write(subject.path("file"), b"y")
    assert [one.name for one in subject.host.list(subject.directory)] == ["file"]


@pytest.mark.parametrize("place", ["dir", "file/below"])
def test_a_write_that_cannot_be_leaves_everything_as_it_was(subject: Subject, place: str) -> None:
    subject.host.make_dir(subject.path("dir"))
    subject.host.write(subject.path("file"), b"old")
    with pytest.raises(HostError, match="cannot be written"):
        subject.host.write(subject.path(place), b"new")
    assert [one.name for one in subject.host.list(subject.directory)] == ["dir", "file"]
    assert subject.host.read(subject.path("file")) == b"old"


@pytest.mark.parametrize(
    ("start", "length", "data"),
    [
        (0, None, b"0123456789"),
        (0, 4, b"0123"),
        (3, 4, b"3456"),
        (8, 10, b"89"),
        (8, None, b"89"),
        (10, 5, b""),
        (99, None, b""),
        (0, 0, b""),
    ],
)
def test_a_range_of_a_file_is_read(
    subject: Subject, start: int, length: int | None, data: bytes
) -> None:
    subject.host.write(subject.path("file"), b"0123456789")
    assert subject.host.read(subject.path("file"), start=start, length=length) == data


def test_reading_a_missing_file_says_so(subject: Subject) -> None:
    with pytest.raises(FileNotFoundError):
        subject.host.read(subject.path("none"))


def test_a_directory_cannot_be_read(subject: Subject) -> None:
    with pytest.raises(HostError, match="cannot be read"):
        subject.host.read(subject.directory)


def test_a_file_is_removed(subject: Subject) -> None:
    subject.host.write(subject.path("file"), b"x")
    subject.host.remove(subject.path("file"))
    assert subject.host.list(subject.directory) == ()


def test_removing_what_is_not_there_is_no_error(subject: Subject) -> None:
    subject.host.remove(subject.path("none"))
    subject.host.remove(subject.path("none/below"))


def test_a_directory_cannot_be_removed(subject: Subject) -> None:
    subject.host.make_dir(subject.path("dir"))
    with pytest.raises(HostError, match="cannot be removed"):
        subject.host.remove(subject.path("dir"))


def test_a_file_tells_its_name_and_size(subject: Subject) -> None:
    subject.host.write(subject.path("file"), b"12345")
    entry = subject.host.stat(subject.path("file"))
    assert entry is not None
    assert (entry.name, entry.size_bytes, entry.is_dir) == ("file", 5, False)


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o640])
def test_a_file_tells_its_permissions(subject: Subject, mode: int) -> None:
    subject.host.write(subject.path("file"), b"12345", mode=mode)
    entry = subject.host.stat(subject.path("file"))
    assert entry is not None
    assert entry.mode == mode


def test_a_changed_file_has_another_time(subject: Subject) -> None:
    subject.host.write(subject.path("file"), b"12345")
    first = subject.host.stat(subject.path("file"))
    subject.host.write(subject.path("file"), b"54321")
    assert subject.host.stat(subject.path("file")) != first


def test_a_directory_tells_that_it_is_one(subject: Subject) -> None:
    entry = subject.host.stat(subject.directory)
    assert entry is not None
    assert entry.is_dir


@pytest.mark.parametrize("name", ["none", "none/below", "file/below"])
def test_there_is_nothing_at_a_path_that_is_not_there(subject: Subject, name: str) -> None:
    subject.host.write(subject.path("file"), b"x")
    assert subject.host.stat(subject.path(name)) is None


def test_a_directory_is_listed_by_name(subject: Subject) -> None:
    for name in ("b", "a", "10", "9"):
        subject.host.write(subject.path(name), b"")
    subject.host.make_dir(subject.path("dir"))
    found = [(one.name, one.is_dir) for one in subject.host.list(subject.directory)]
    assert found == [("10", False), ("9", False), ("a", False), ("b", False), ("dir", True)]


def test_a_listed_file_is_described_as_by_stat(subject: Subject) -> None:
    subject.host.write(subject.path("file"), b"12345")
    assert subject.host.list(subject.directory) == (subject.host.stat(subject.path("file")),)


@pytest.mark.parametrize("name", ["none", "file"])
def test_what_is_no_directory_holds_nothing(subject: Subject, name: str) -> None:
    subject.host.write(subject.path("file"), b"x")
    assert subject.host.list(subject.path(name)) == ()


def test_directories_are_made_with_their_parents_and_again(subject: Subject) -> None:
    for _ in range(2):
        subject.host.make_dir(subject.path("a/b"))
    assert [one.name for one in subject.host.list(subject.path("a"))] == ["b"]


def test_a_directory_cannot_be_made_where_a_file_is(subject: Subject) -> None:
    subject.host.write(subject.path("file"), b"x")
    with pytest.raises(HostError, match="cannot be written"):
        subject.host.make_dir(subject.path("file"))


# Programs


def test_a_program_is_found_on_the_path(subject: Subject) -> None:
    found = subject.host.which("sh")
    assert found is not None
    assert found.endswith("/sh")


def test_a_path_is_taken_as_it_is(subject: Subject) -> None:
    found = subject.host.which("sh")
    assert found is not None
    assert subject.host.which(found) == found


def test_an_executable_file_is_a_program(subject: Subject) -> None:
    subject.host.write(subject.path("my tool"), b"#!/bin/sh\n", mode=0o755)
    assert subject.host.which(subject.path("my tool")) == subject.path("my tool")


@pytest.mark.parametrize("name", ["notes", "none", "dir"])
def test_what_cannot_be_executed_is_no_program(subject: Subject, name: str) -> None:
    subject.host.write(subject.path("notes"), b"text")
    subject.host.make_dir(subject.path("dir"))
    assert subject.host.which(subject.path(name)) is None


@pytest.mark.parametrize("name", ["no-such-program", "~/no-such-program", "~", ""])
def test_a_missing_program_is_none(subject: Subject, name: str) -> None:
    assert subject.host.which(name) is None


# Ports


def test_a_server_is_reached(subject: Subject) -> None:
    with contextlib.closing(subject.host.dial(subject.serve(), timeout=5)) as connection:
        connection.sendall(b"hello")
        assert connection.recv(100) == b"HELLO"


def test_a_server_may_be_waited_for_as_long_as_one_likes(subject: Subject) -> None:
    with contextlib.closing(subject.host.dial(subject.serve(), timeout=5)) as connection:
        connection.settimeout(None)
        connection.sendall(b"hello")
        assert connection.recv(3) + connection.recv(2) == b"HELLO"
        assert connection.recv(100) == b""


def test_a_port_that_nobody_holds_is_an_os_error(subject: Subject) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound, and so nobody else's, but not listening
        with pytest.raises(OSError):  # noqa: PT011  # which one depends on the transport
            subject.host.dial(unused.getsockname()[1], timeout=5)


# What only a real disk can do


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    if os.getuid() != 0 or mount("-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)):
        pytest.skip("a tiny disk needs the right to mount")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def mount(*words: str) -> int:
    return subprocess.run(["mount", *words], capture_output=True).returncode


def test_a_full_disk_keeps_the_old_file_and_no_scraps(tiny_disk: Path) -> None:
    host, path = LocalHost(), str(tiny_disk / "file")
    host.write(path, b"old")
    with pytest.raises(HostError, match="No space left on device") as caught:
        host.write(path, bytes(1 << 20))
    assert caught.value.hint == "Free some space there; the old file is untouched."
    assert [one.name for one in host.list(str(tiny_disk))] == ["file"]
    assert host.read(path) == b"old"


def test_a_read_only_disk_keeps_the_old_file(tiny_disk: Path) -> None:
    host, path = LocalHost(), str(tiny_disk / "file")
    host.write(path, b"old")
    assert mount("-o", "remount,ro", str(tiny_disk)) == 0
    with pytest.raises(HostError, match="Read-only file system") as caught:
        host.write(path, b"new")
    assert caught.value.hint
    assert host.read(path) == b"old"
