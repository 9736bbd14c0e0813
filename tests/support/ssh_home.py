"""Somebody's machine from which boxes are reached: a home directory with keys and an ssh config."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Self

from kit.boxes import SSH_CONFIG
from support.ssh_relay import Relay

from llmctl.host.ssh import SSHHost

if TYPE_CHECKING:
    from kit.boxes import Box

LAB_KEY = str(Path(SSH_CONFIG).with_name("id"))
LAB_KNOWN = str(Path(SSH_CONFIG).with_name("known_hosts"))


class Operator:
    """A person with a home directory, who knows boxes by name."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.ssh = home / ".ssh"
        self.ssh.mkdir(parents=True, mode=0o700)
        self.config = self.ssh / "config"
        self.known = self.ssh / "known_hosts"
        self._open = contextlib.ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    @property
    def environ(self) -> dict[str, str]:
        """What llmctl's own process has here. No agent but one that a test starts."""
        kept = {key: os.environ[key] for key in ("PATH", "LANG") if key in os.environ}
        return {**kept, "HOME": str(self.home), "USER": "operator"}

    def meet(
        self,
        box: Box,
        *,
        name: str = "",
        user: str = "llm",
        round_trip_s: float = 0.0,
        more: str = "",
    ) -> Relay:
        """Get to know a box: its key, and the way to it. more: further lines of its Host block."""
        relay = self._open.enter_context(Relay(box.lab, box.address, round_trip_s=round_trip_s))
        key = self.ssh / "id_lab"
        if not key.exists():
            key.write_text(box.lab.run(["cat", LAB_KEY]).stdout, "ascii")
            key.chmod(0o600)
        known = box.lab.run(["cat", LAB_KNOWN]).stdout
        line = next(one for one in known.splitlines() if one.startswith(f"{box.name},"))
        kind_and_key = line.split(" ", 1)[1]
        called = name or box.name
        with self.known.open("a", encoding="ascii") as file:
            file.write(f"[127.0.0.1]:{relay.port} {kind_and_key}\n")
        with self.config.open("a", encoding="utf-8") as file:
            file.write(
                f"Host {called}\n  HostName 127.0.0.1\n  Port {relay.port}\n  User {user}\n"
                f"  IdentityFile {key}\n  IdentitiesOnly yes\n"
                f"  UserKnownHostsFile {self.known}\n{more}"
            )
        return relay

    def host(self, name: str) -> SSHHost:
        """A box as llmctl reaches it; hung up at the end."""
        made = SSHHost(name, environ=self.environ)
        self._open.callback(made.close)
        return made
