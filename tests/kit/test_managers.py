"""The private user manager is a real one, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from kit.commands import KIT
from kit.managers import UserManager
from kit.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

UNIT = """\
[Service]
ExecStart=sh -c 'echo hello; : >%h/seen; exec sleep 1000'
PrivateTmp=yes
"""


def test_it_runs_units_and_keeps_their_journal(user_manager: UserManager) -> None:
    user_manager.install("llm-a.service", UNIT)
    user_manager.systemctl("start", "llm-a.service")
    assert user_manager.show("llm-a.service", "ActiveState") == "active"
    eventually(lambda: "hello" in user_manager.journal("llm-a.service"))
    assert (user_manager.home / "seen").exists()
    assert user_manager.run(["systemctl", "--user", "is-system-running"]).stdout == "running\n"
    assert "llm-a.service" in user_manager.evidence()


def test_it_is_reached_from_outside_by_its_environment_alone(user_manager: UserManager) -> None:
    user_manager.install("llm-a.service", UNIT)
    command = ["systemctl", "--user", "start", "llm-a.service"]
    subprocess.run(command, env=user_manager.env, check=True)
    pid = int(user_manager.show("llm-a.service", "MainPID"))
    eventually(lambda: Path(f"/proc/{pid}/comm").read_text() == "sleep\n")


def test_units_do_not_inherit_our_environment(user_manager: UserManager) -> None:
    assert "PYTEST_CURRENT_TEST" in os.environ
    assert "PYTEST_CURRENT_TEST" not in user_manager.systemctl("show-environment").stdout


@pytest.fixture
def killed(user_manager: UserManager) -> Iterator[tuple[Path, Path, int]]:
    """Directory, cgroup and unit process of a second manager whose script was killed."""
    del user_manager  # only says whether there can be one
    other = UserManager()
    other.install("llm-a.service", UNIT)
    other.systemctl("start", "llm-a.service")
    pid = int(other.show("llm-a.service", "MainPID"))
    group = Path(f"/proc/{pid}/cgroup").read_text().splitlines()[-1].split("/")[1]
    os.kill(other._holder.pid, signal.SIGKILL)
    other._holder.wait()
    yield other.runtime_dir.parent, Path(group), pid
    other.close()


def test_even_killed_it_leaves_nothing(killed: tuple[Path, Path, int]) -> None:
    directory, group, pid = killed
    eventually(lambda: not directory.exists())
    eventually(lambda: gone(pid), why="the unit's process is gone")
    groups = [Path("/sys/fs/cgroup", group), Path("/sys/fs/cgroup/unified", group)]
    assert not any(path.exists() for path in groups)


def gone(pid: int) -> bool:
    """No such process, or one that only waits to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.mark.usermgr
def test_a_home_can_be_kept(user_manager: UserManager, tmp_path: Path) -> None:
    del user_manager
    script = [str(KIT / "usermgr.sh"), "--home", str(tmp_path), "--log", str(tmp_path / "log")]
    done = subprocess.run([*script, "sh", "-c", 'touch "$HOME/mine"; exit 3'])
    assert done.returncode == 3
    assert (tmp_path / "mine").exists()
    assert (tmp_path / "log").exists()
