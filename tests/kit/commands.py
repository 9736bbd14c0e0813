"""Running commands in tests: what failed is in the failure."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

KIT = Path(__file__).resolve().parent
Done = subprocess.CompletedProcess[str]


class CommandFailedError(AssertionError):
    """A command that a test needed to succeed did not."""

    def __init__(self, argv: Sequence[str], done: Done) -> None:
        super().__init__(
            f"exit status {done.returncode}: {shlex.join(argv)}\n{done.stdout}{done.stderr}"
        )
        self.done = done


def execute(
    argv: Sequence[str],
    *,
    told: Sequence[str] | None = None,
    env: Mapping[str, str] | None = None,
    stdin: str = "",
    timeout: float = 60.0,
    check: bool = True,
) -> Done:
    """Run `argv` and keep what it says. `told` is the command to name when it fails."""
    done = subprocess.run(
        argv, env=env, input=stdin, timeout=timeout, capture_output=True, text=True
    )
    if check and done.returncode:
        raise CommandFailedError(told or argv, done)
    return done
