"""host/local.py: what the contract (tests/contract) does not cover."""

from __future__ import annotations

import os
import stat
import subprocess
import threading
import time
from typing import TYPE_CHECKING

import pytest

from llmctl.errors import NoAnswerError
from llmctl.host.local import KILL_TIMEOUT_S, LocalHost, end

if TYPE_CHECKING:
    from pathlib import Path


def test_it_is_called_local() -> None:
    assert LocalHost().name == "local"


def test_commands_see_the_environment_it_was_given() -> None:
    host = LocalHost({"PATH": os.environ["PATH"], "HOME": "/h", "COLOUR": "red"})
    assert host.run(["sh", "-c", 'printf %s "$COLOUR"'], timeout=30).stdout == "red"


def test_commands_see_nothing_else() -> None:
    host = LocalHost({"PATH": os.environ["PATH"], "HOME": "/h"})
    assert host.run(["sh", "-c", 'printf %s "$PYTEST_CURRENT_TEST"'], timeout=30).stdout == ""


def test_a_translated_session_is_spoken_to_in_english() -> None:
    assert LocalHost({"HOME": "/h", "LC_ALL": "de_DE.UTF-8"}).environ()["LC_ALL"] == "C.UTF-8"


def test_the_callers_own_mapping_is_left_alone() -> None:
    given = {"HOME": "/h"}
    LocalHost(given)
    assert given == {"HOME": "/h"}


@pytest.mark.parametrize(
    ("environ", "user"),
    [({"USER": "ana"}, "ana"), ({"LOGNAME": "ana"}, "ana"), ({"USER": "", "LOGNAME": "x"}, "x")],
)
def test_the_user_has_a_name(environ: dict[str, str], user: str) -> None:
    assert LocalHost({"HOME": "/h", **environ}).environ()["USER"] == user


def test_the_user_has_a_name_even_without_any_variable() -> None:
    assert LocalHost({"HOME": "/h"}).environ()["USER"]


def test_a_runtime_directory_that_is_given_is_kept() -> None:
    host = LocalHost({"HOME": "/h", "XDG_RUNTIME_DIR": "/run/mine"})
    assert host.environ()["XDG_RUNTIME_DIR"] == "/run/mine"


def test_a_timeout_says_how_to_try_it_by_hand() -> None:
    with pytest.raises(NoAnswerError) as caught:
        LocalHost().run(["sh", "-c", "sleep 60"], timeout=0.1)
    assert caught.value.hint == "Try it by hand: sh -c 'sleep 60'"


class Wedged(subprocess.Popen[bytes]):
    """A process beyond SIGKILL, as in a driver that hangs."""

    def kill(self) -> None:
        """Does nothing."""


def test_a_program_that_cannot_be_killed_is_not_waited_for() -> None:
    with Wedged(["sleep", "60"], stdout=subprocess.PIPE) as process:
        began = time.monotonic()
        end(process)
        assert time.monotonic() - began < 10 * KILL_TIMEOUT_S
        assert process.returncode is None
        process.terminate()


def test_a_file_has_the_mode_it_was_written_with(tmp_path: Path) -> None:
    LocalHost().write(str(tmp_path / "f"), b"x", mode=0o600)
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == 0o600


def test_a_link_is_described_by_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "link").symlink_to("file")
    entry = LocalHost().stat(str(tmp_path / "link"))
    assert entry is not None
    assert (entry.name, entry.size_bytes) == ("link", 5)


def test_a_link_that_leads_nowhere_is_nothing(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    host = LocalHost()
    assert host.stat(str(tmp_path / "link")) is None
    assert host.list(str(tmp_path)) == ()


def test_a_link_in_a_circle_is_nothing(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("link")
    (tmp_path / "file").write_bytes(b"")
    assert [one.name for one in LocalHost().list(str(tmp_path))] == ["file"]


def test_a_file_that_vanishes_while_it_is_listed_hides_no_other(tmp_path: Path) -> None:
    """Else a profile that an editor saves makes all others look gone, and --prune removes units."""
    (tmp_path / "stays").write_bytes(b"")
    done = threading.Event()

    def churn() -> None:
        while not done.is_set():
            for n in range(20):
                (tmp_path / f"comes-and-goes-{n}").write_bytes(b"")
            for n in range(20):
                (tmp_path / f"comes-and-goes-{n}").unlink()

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        host = LocalHost()
        seen = [{one.name for one in host.list(str(tmp_path))} for _ in range(1500)]
    finally:
        done.set()
        thread.join()
    assert all("stays" in names for names in seen)


def test_a_program_below_home_is_found(tmp_path: Path) -> None:
    tool = tmp_path / "bin/tool"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    assert LocalHost({"HOME": str(tmp_path)}).which("~/bin/tool") == str(tool)


def test_programs_of_the_user_are_found_though_path_lacks_them(tmp_path: Path) -> None:
    tool = tmp_path / ".local/bin/tool"
    tool.parent.mkdir(parents=True)
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    assert LocalHost({"HOME": str(tmp_path), "PATH": "/usr/bin"}).which("tool") == str(tool)


def test_an_empty_path_does_not_mean_the_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tool").write_text("#!/bin/sh\n")
    (tmp_path / "tool").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    assert LocalHost({"HOME": "/h", "PATH": ""}).which("tool") is None
