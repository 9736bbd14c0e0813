"""llmctl's command line, in this process, on a home of the test's own.

`systemctl` there is a stub that knows no unit, so these tests see only what people and scripts
read. What commands do to a real manager is in other rings.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from support.world import DATA

from llmctl.cli.app import main

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


@dataclass(frozen=True, slots=True)
class Said:
    """What a command wrote and how it ended."""

    status: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        return json.loads(self.stdout)


class CommandLine:
    """A home with profiles, a llama-server that prints its help, and a systemctl without units."""

    def __init__(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.home = home
        self._patch = monkeypatch
        self.config_dir = home / ".config/llmctl"
        self.unit_dir = home / ".config/systemd/user"
        for name in list(os.environ):
            if name.startswith(("XDG_", "LLMCTL_", "LLAMA_")):
                monkeypatch.delenv(name)
        path = f"{home / 'bin'}:{os.environ['PATH']}"
        for name, value in {"HOME": str(home), "USER": "ana", "PATH": path}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(home / "run"))
        self.program("llama-server", f"cat '{DATA / 'llama-server-help-0.7.0.txt'}'")
        self.program("systemctl", "exit 0")
        self.program("journalctl", "exit 0")

    def program(self, name: str, script: str) -> None:
        """Put a program on PATH."""
        path = self.home / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def profile(self, name: str, text: str = "") -> None:
        """Write a profile, and its model's file."""
        model = self.home / f"models/{name}-Q4_K_M.gguf"
        model.parent.mkdir(exist_ok=True)
        model.write_bytes(b"GGUF" * 1000)
        path = self.config_dir / f"profiles/{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"model: {model.name}\n{text}")

    def __call__(self, *words: str) -> Said:
        """Run `llmctl WORDS`."""
        self._patch.setattr(sys, "argv", ["llmctl", *words])
        out, err = io.StringIO(), io.StringIO()
        status: object = 0
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                main()
            except SystemExit as leave:
                status = leave.code or 0
        assert isinstance(status, int)
        return Said(status, out.getvalue(), err.getvalue())
