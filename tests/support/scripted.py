"""This machine as if it were far away: a LocalHost that runs scripts in one go."""

from __future__ import annotations

import subprocess

from llmctl.host.local import LocalHost


class ScriptedHost(LocalHost):
    """LocalHost with SSHHost's `script`."""

    def script(self, text: str, *, what: str, timeout: float, secret: bool = False) -> bytes:
        """See SSHHost."""
        del what, secret
        done = subprocess.run(
            ["sh", "-c", text], env=dict(self.environ()), capture_output=True, timeout=timeout
        )
        return done.stdout
