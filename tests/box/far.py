"""A box as seen from somebody's own machine: llmctl runs there, with --host."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from kit.commands import CommandFailedError, Done
from usermgr.site import DONE, BoxSite

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kit.boxes import Box
    from support.ssh_home import Operator
    from support.ssh_relay import Relay


class FarSite(BoxSite):
    """BoxSite whose llmctl runs on this machine, as an operator who reaches the box through a
    relay."""

    def __init__(self, box: Box, operator: Operator, relay: Relay) -> None:
        super().__init__(box)
        self.operator, self.relay = operator, relay

    def llmctl(
        self,
        *words: str,
        status: int | None = DONE,
        env: Mapping[str, str] | None = None,
        timeout: float = 120.0,
    ) -> Done:
        """As Site.llmctl, from afar."""
        argv = self._argv(*words)
        done = subprocess.run(
            argv,
            env=self.operator.environ | dict(env or {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        told = Done(argv, done.returncode, done.stdout, done.stderr)
        if "Traceback" in told.stderr or (status is not None and told.returncode != status):
            raise CommandFailedError([f"(wanted {status})", *argv], told)
        return told

    def popen(self, *words: str) -> subprocess.Popen[str]:
        """The same, still running."""
        return subprocess.Popen(
            self._argv(*words),
            env=self.operator.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def _argv(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "llmctl", *words, "--host", self.box.name]
