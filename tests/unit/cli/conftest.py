"""The fixture of the command line's tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.commandline import CommandLine

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def llmctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """A command line with two profiles."""
    made = CommandLine(tmp_path, monkeypatch)
    made.profile("coder", "ctx: 8192\nkv: q8_0\n")
    made.profile("gemma4")
    return made
