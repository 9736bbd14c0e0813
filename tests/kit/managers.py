"""A real `systemd --user` of a test's own (usermgr.sh), seen from Python."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Self

from kit.commands import KIT, Done, execute

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Tells where it is, and ends when we close its stdin: also when we are killed.
HOLDER = 'printf "%s\\n" "$HOME" "$XDG_RUNTIME_DIR" "$UM_PID"; exec cat'
STRANGERS = ("XDG_", "DBUS_", "LLMCTL_", "LLAMA_", "FAKE_", "PYTEST_", "COV_")


def clean_environment() -> dict[str, str]:
    """Ours, without what belongs to our own session and settings."""
    return {k: v for k, v in os.environ.items() if not k.startswith(STRANGERS)}


class UserManager:
    """A private user manager with its own HOME and journal.

    `env` is enough to reach it from any process, this one included: `systemctl --user` with
    that environment talks to it, and the process ids it tells are real. Only journalctl needs
    `run`, which enters the manager's mount namespace.
    """

    def __init__(self, *, user: str = "root") -> None:
        self.user = user
        self._holder = subprocess.Popen(
            [str(KIT / "usermgr.sh"), "--user", user, "--", "sh", "-c", HOLDER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        told = [self._line() for _ in range(3)]
        if not all(told):
            _, errors = self._holder.communicate()
            raise RuntimeError(errors.strip() or "the user manager did not start")
        self.home, self.runtime_dir, self.pid = Path(told[0]), Path(told[1]), int(told[2])
        self.unit_dir = self.home / ".config/systemd/user"
        self.log_file = self.runtime_dir.parent / "manager.log"
        self.env = clean_environment() | {
            "HOME": told[0],
            "XDG_RUNTIME_DIR": told[1],
            "USER": user,
            "LOGNAME": user,
            "LC_ALL": "C.UTF-8",
        }

    def _line(self) -> str:
        assert self._holder.stdout is not None
        return self._holder.stdout.readline().strip()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End it; units, processes, cgroups and files are gone when this returns."""
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
        """Run a command as the manager's user, within its session. `env` is added."""
        words = [os.fspath(word) for word in argv]
        enter = ["nsenter", "--target", str(self.pid), "--mount", "--"]
        become = [] if self.user == "root" else ["setpriv", "--reuid", self.user, "--clear-groups"]
        place = ["env", f"--chdir={cwd or self.home}"]
        environment = self.env | dict(env or {})
        return execute(
            [*enter, *become, *place, *words],
            told=words,
            env=environment,
            stdin=stdin,
            timeout=timeout,
            check=check,
        )

    def systemctl(self, *words: str, check: bool = True, timeout: float = 60.0) -> Done:
        return self.run(["systemctl", "--user", *words], check=check, timeout=timeout)

    def show(self, unit: str, key: str) -> str:
        """One property of a unit, as `systemctl show` prints it."""
        return self.systemctl("show", "--value", f"--property={key}", unit).stdout.strip()

    def install(self, name: str, text: str) -> Path:
        """Write a unit file and have the manager read it."""
        self.unit_dir.mkdir(parents=True, exist_ok=True)
        path = self.unit_dir / name
        path.write_text(text, "utf-8")
        self.systemctl("daemon-reload")
        return path

    def journal(self, unit: str, *words: str) -> str:
        """A unit's messages. (`journalctl --user` shows system users like root nothing.)"""
        argv = ["journalctl", "--no-pager", "--output=cat", f"--user-unit={unit}", *words]
        return self.run(argv).stdout

    def evidence(self) -> str:
        """What a failed test's report should show."""
        commands = (
            ["systemctl", "--user", "--no-pager", "--full", "status", "llm*"],
            ["systemctl", "--user", "--no-pager", "list-jobs"],
            ["journalctl", "--no-pager", "--lines=80"],
        )
        said = [self.run(command, check=False).stdout for command in commands]
        return "\n".join([*said, self.log_file.read_text("utf-8", "replace")[-4000:]])
