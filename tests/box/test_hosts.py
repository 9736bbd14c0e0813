"""Boxes from elsewhere: several at once, and what is in the way of one."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from kit.waiting import eventually
from support.ssh_home import Operator

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from kit.boxes import Box, Boxes

NOBODY = "ssh://127.0.0.1:1"  # nobody listens on tcpmux
SPOIL = """
loginctl disable-linger llm
loginctl terminate-user llm
rm -rf /var/log/journal /run/log/journal && systemctl restart systemd-journald
usermod --password '*' llm  # without PAM, sshd takes `!` for a locked account
printf 'UsePAM no\\nAllowTcpForwarding no\\n' >/etc/ssh/sshd_config.d/spoilt.conf
systemctl reload ssh
"""


@pytest.fixture
def operator(tmp_path: Path) -> Iterator[Operator]:
    with Operator(tmp_path / "home") as made:
        yield made


def llmctl(operator: Operator, *words: str, status: int = 0) -> Any:
    """The JSON that a command answers on the operator's machine."""
    argv = [sys.executable, "-m", "llmctl", *words, "--json"]
    done = subprocess.run(argv, env=operator.environ, capture_output=True, text=True, timeout=100)
    assert done.returncode == status, done.stdout + done.stderr
    return json.loads(done.stdout)


def findings(operator: Operator, box: Box, *, status: int) -> dict[str, str]:
    """Check -> what to type, of those that are wrong."""
    told = llmctl(operator, "host", "check", box.name, status=status)["checks"]
    return {one["name"]: one["findings"][0]["do"] for one in told if one["state"] == "wrong"}


def test_several_boxes_answer_at_once_and_a_dead_one_is_told(
    operator: Operator, box: Boxes
) -> None:
    """And profiles that were seen are known to completion."""
    for system in ("trixie", "bookworm"):
        operator.meet(box(system))
        model = "model: /srv/models/a.gguf\n"
        box(system).put(model, f"/home/llm/.config/llmctl/profiles/on-{system}.yaml")
    llmctl(operator, "host", "add", "closet", "bookworm")
    hosts = [word for name in ("trixie", NOBODY, "closet") for word in ("--host", name)]
    answers = llmctl(operator, "list", *hosts, status=5)["boxes"]
    for system in ("trixie", "bookworm"):
        box(system).ssh(f"rm /home/llm/.config/llmctl/profiles/on-{system}.yaml")
    assert [one["host"] for one in answers] == ["trixie", NOBODY, "closet"]
    here, dead, there = ([row["name"] for row in one["answer"] or ()] for one in answers)
    assert ("on-trixie" in here, "on-bookworm" in here) == (True, False)  # and others' profiles
    assert ("on-bookworm" in there, "on-trixie" in there) == (True, False)
    assert dead == []
    kept = operator.home / ".cache/llmctl/boxes/closet.json"
    assert json.loads(kept.read_text())["profiles"] == there


def test_what_is_in_the_way_of_a_box_is_mended_by_what_is_said(
    operator: Operator, fresh_box: Box
) -> None:
    operator.meet(fresh_box)
    assert findings(operator, fresh_box, status=0) == {}
    fresh_box.root(SPOIL)
    eventually(lambda: not succeeds(fresh_box, "ls /run/user/$(id -u llm)"))
    told = findings(operator, fresh_box, status=1)
    assert list(told) == ["session", "linger", "ports", "logs"]
    for remedy in told.values():
        ssh, t, name, command = shlex.split(remedy)
        assert (ssh, t, name) == ("ssh", "-t", fresh_box.name)
        fresh_box.root(command)
    eventually(lambda: succeeds(fresh_box, "systemctl is-active user@$(id -u llm)"))
    assert findings(operator, fresh_box, status=0) == {}


def succeeds(box: Box, command: str) -> bool:
    return box.root(command, check=False).returncode == 0
