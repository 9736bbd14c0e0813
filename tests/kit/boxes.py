"""Real boxes (lab.sh), seen from Python."""

from __future__ import annotations

import itertools
import os
import shlex
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Self

from kit.commands import KIT, Done, execute

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LAB = str(KIT / "lab.sh")
SYSTEMS = ("bookworm", "trixie", "forky")
SSH_CONFIG = "/run/llmlab/ssh_config"  # within the lab


def only_child(pid: int) -> int:
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()[0])


class Lab:
    """A network with boxes on it, hidden from this machine's. Boxes die with it, and it with us."""

    def __init__(self, *, binds: Mapping[str, Path] | None = None) -> None:
        """`binds`: further directories that boxes see read-only, by their path in the box."""
        lines = "\n".join(f"{source}:{place}" for place, source in (binds or {}).items())
        self._holder = subprocess.Popen(
            # Ends when we close its stdin: also when we are killed.
            [LAB, "run", "sh", "-c", 'echo "$LLMLAB_CG"; exec cat'],
            env=os.environ | {"LLMLAB_BINDS": lines},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._holder.stdout is not None
        group = self._holder.stdout.readline().strip()
        if not group:
            _, errors = self._holder.communicate()
            raise RuntimeError(errors.strip() or "the lab did not start")
        self._env = {"LLMLAB_CG": group, "LLMLAB_BINDS": lines}
        self.init = only_child(only_child(self._holder.pid))  # lab.sh -> unshare -> first process
        self._numbers = itertools.count(11)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Pull the plug of everything; nothing is left when this returns."""
        self._holder.communicate(timeout=30)

    def run(
        self,
        argv: Sequence[str | os.PathLike[str]],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        stdin: str = "",
        timeout: float = 60.0,
        check: bool = True,
    ) -> Done:
        """Run a command of this machine on the lab's network, e.g. `ssh -F SSH_CONFIG trixie`."""
        words = [os.fspath(word) for word in argv]
        namespaces = ["--mount", "--net", "--pid"]
        enter = ["nsenter", "--target", str(self.init), *namespaces, "--"]
        place = ["env", f"--chdir={cwd or Path.cwd()}"]
        environment = os.environ | self._env | dict(env or {})
        return execute(
            [*enter, *place, *words],
            told=words,
            env=environment,
            stdin=stdin,
            timeout=timeout,
            check=check,
        )

    def lab(self, *words: str) -> str:
        """One of lab.sh's commands."""
        return self.run([LAB, *words], timeout=90).stdout

    def boot(self, system: str, *, name: str = "", volatile_journal: bool = False) -> Box:
        """A fresh box that runs `system`."""
        number = next(self._numbers)
        box = Box(self, system=system, name=name or f"{system}{number}", number=number)
        self.lab("up", box.name, system, str(number), *(["--volatile"] * volatile_journal))
        self.lab("wait", box.name)
        return box


class Box:
    """A machine that serves models: Debian, systemd, sshd, and an ordinary user who lingers."""

    def __init__(self, lab: Lab, *, system: str, name: str, number: int) -> None:
        self.lab = lab
        self.system = system
        self.name = name  # also what ssh in the lab calls it
        self.address = f"10.213.0.{number}"
        self.home = "/home/llm"
        self.llama_server = "/usr/local/bin/llama-server"
        self.fake_llama = "/srv/llmctl/tests/kit/fake_llama.py"

    def ssh(
        self,
        *argv: str,
        user: str = "llm",
        stdin: str = "",
        timeout: float = 60.0,
        check: bool = True,
    ) -> Done:
        """Run a command in the box; one word alone is a line for its shell."""
        line = argv[0] if len(argv) == 1 else shlex.join(argv)
        words = ["ssh", "-F", SSH_CONFIG, f"{user}@{self.name}", line]
        return self.lab.run(words, stdin=stdin, timeout=timeout, check=check)

    def root(self, *argv: str, timeout: float = 60.0, check: bool = True) -> Done:
        return self.ssh(*argv, user="root", timeout=timeout, check=check)

    def put(self, text: str, path: str, *, user: str = "llm", mode: str = "644") -> None:
        """Write a file, and the directories above it."""
        quoted = shlex.quote(path)
        self.ssh(f"install -D -m {mode} /dev/stdin {quoted}", user=user, stdin=text)

    def read(self, path: str, *, user: str = "llm") -> str:
        return self.ssh("cat", "--", path, user=user).stdout

    def boot_id(self) -> str:
        return self.read("/proc/sys/kernel/random/boot_id").strip()

    def reboot(self) -> None:
        """Restart it in good order; returns when ssh logs in again."""
        before = self.boot_id()
        self.root("systemctl reboot", check=False)  # the connection may go down with the box
        self.lab.lab("wait", self.name)
        while self.boot_id() == before:  # sshd may answer once more before it stops
            self.lab.lab("wait", self.name)

    def cut_power(self) -> None:
        """Pull the plug. Its disk keeps what was written."""
        self.lab.lab("cut-power", self.name)

    def power_off(self) -> None:
        self.lab.lab("off", self.name)

    def power_on(self) -> None:
        """Start it again; returns when ssh logs in."""
        self.lab.lab("on", self.name)
        self.lab.lab("wait", self.name)

    def freeze(self) -> None:
        """Let it hang: TCP connects, nothing answers."""
        self.lab.lab("freeze", self.name)

    def thaw(self) -> None:
        self.lab.lab("thaw", self.name)

    def unplug(self) -> None:
        """Pull the network cable."""
        self.lab.lab("link", self.name, "down")

    def plug_in(self) -> None:
        self.lab.lab("link", self.name, "up")
        self.lab.lab("wait", self.name)

    def remove(self) -> None:
        self.lab.lab("down", self.name)

    def evidence(self) -> str:
        """What a failed test's report should show. Not by ssh, which may be what is broken."""
        scripts = (
            "systemctl --user --machine=llm@ --no-pager --full status 'llm*'",
            "systemctl --no-pager --failed",
            "journalctl --no-pager --lines=100",
        )
        told = [self.lab.run([LAB, "sh", self.name, "sh", "-c", s], check=False) for s in scripts]
        return "\n".join(f"--- {self.name}\n{done.stdout}{done.stderr}" for done in told)


class Boxes:
    """One box per system, booted when first asked for and shared by the tests of a session."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._booted: dict[str, Box] = {}

    def __call__(self, system: str) -> Box:
        if system not in self._booted:
            self._booted[system] = self._lab.boot(system, name=system)
        return self._booted[system]

    def evidence(self) -> str:
        return "\n".join(box.evidence() for box in self._booted.values())
