"""Running ansible/site.yml on boxes of the lab, and what it said."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from kit.boxes import SSH_CONFIG
from kit.commands import KIT

if TYPE_CHECKING:
    from kit.boxes import Box, Lab

ROOT = KIT.parents[1]
SITE = ROOT / "ansible" / "site.yml"
PLAYBOOK = Path(sys.executable).parent / "ansible-playbook"
SUPPLIES = "/srv/supplies"
CPUS = {"libggml-cpu-x64.so", "libggml-cpu-haswell.so"}
"""Of the CPU backends two will do, and the archive is a third as large."""


def supplies(*words: str) -> Path:
    """What a box is provisioned from where there is no network (see kit/supplies.sh)."""
    done = subprocess.run([str(KIT / "supplies.sh"), *words], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip())
    return Path(done.stdout.strip())


def archive_of(usr: Path, path: Path) -> None:
    """A release archive like those that people download, of the llama-server that boxes can run."""
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        for file in sorted(one for one in usr.rglob("*") if not one.is_dir()):
            place = file.relative_to(usr)
            if place.parts[0] == "box-bin":
                place = Path("bin") / file.name
            elif place.parts[0] != "lib":
                continue
            if file.name.startswith("libggml-cpu-") and file.name not in CPUS:
                continue
            tar.add(file, f"llama-b11669/{place}")


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@dataclass(frozen=True)
class Played:
    """One run. text: all that it said."""

    status: int
    text: str

    @cached_property
    def changed(self) -> list[str]:
        """Names of the tasks and handlers that changed something, without their role."""
        return [name for name, said in self._tasks() if re.search(r"^changed: ", said, re.M)]

    def _tasks(self) -> list[tuple[str, str]]:
        parts = re.split(r"^(?:TASK|RUNNING HANDLER) \[(.*?)\] \**$", self.text, flags=re.M)
        names = [name.rpartition(" : ")[2] for name in parts[1::2]]
        return list(zip(names, parts[2::2], strict=True))

    @property
    def recap(self) -> dict[str, int]:
        """The counts of the last line: ok, changed, unreachable, failed, ..."""
        line = re.findall(r"^\S+ +: (ok=.*)$", self.text, re.M)[-1]
        return {word: int(n) for word, n in re.findall(r"(\w+)=(\d+)", line)}

    @property
    def failure(self) -> str:
        """What failed tasks said, on one line."""
        _, first, rest = self.text.partition(
            "\nfatal: " if "\nfatal: " in self.text else "\nfailed: "
        )
        return " ".join((first + rest.partition("\nPLAY RECAP")[0]).split())


class Provisioner:
    """ansible-playbook, on a lab's network. What it keeps for itself lies in a place of its own."""

    def __init__(self, lab: Lab, place: Path) -> None:
        self.lab = lab
        self.place = place
        self.home = Path(tempfile.mkdtemp(prefix="ans"))  # short: sockets are made below it

    def close(self) -> None:
        shutil.rmtree(self.home, ignore_errors=True)

    def play(
        self, box: Box, *words: str, check: bool = True, env: dict[str, str] | None = None,
        timeout: float = 600, **variables: Any,
    ) -> Played:  # fmt: skip
        """Run site.yml on a box. check: it has to succeed."""
        inventory = self.place / f"{box.name}.yml"
        own = {
            "ansible_user": "admin",
            "ansible_ssh_common_args": f"-F {SSH_CONFIG}",
            **variables,
        }
        inventory.write_text(yaml.safe_dump({"all": {"hosts": {box.name: own}}}), "utf-8")
        argv = [str(PLAYBOOK), "-i", str(inventory), str(SITE), *words]
        done = self.lab.run(
            argv,
            env={
                "ANSIBLE_CONFIG": str(SITE.parent / "ansible.cfg"),
                "ANSIBLE_HOME": str(self.home),
                "ANSIBLE_SSH_CONTROL_PATH_DIR": str(self.home),  # other labs have the same names
                "ANSIBLE_NOCOLOR": "1",
                "LC_ALL": "C.UTF-8",
                **(env or {}),
            },
            timeout=timeout,
            check=False,
        )
        played = Played(done.returncode, done.stdout + done.stderr)
        assert not check or done.returncode == 0, f"{shlex.join(argv)}\n{played.text}"
        return played


def offline(box: Box, stock: Path) -> dict[str, Any]:
    """Let a box have its packages from the repository beside it; where its wheels are."""
    there = f"{SUPPLIES}/{stock.name}"
    box.put(f"deb [trusted=yes] file:{there}/debs ./\n", "/etc/apt/sources.list", user="root")
    return {"llmctl_find_links": f"{there}/wheels"}


def soak() -> bool:
    """Tests that are longer than every run can bear are wanted."""
    return bool(os.environ.get("LLMCTL_SOAK"))
