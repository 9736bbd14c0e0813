"""Paths as people type them, on the machine they type at."""

import contextlib
import posixpath
from pathlib import Path

from llmctl.cli.boxes import LOCAL
from llmctl.engine.box import Box


def absolute(box: Box, path: str) -> str:
    """A path from the command line without `.` and `..`; on another box, what is relative stays."""
    if path.startswith("~") or box.host.name != LOCAL:
        return path
    return posixpath.normpath(posixpath.join(working_dir(box), path))


def working_dir(box: Box) -> str:
    """Where the person is, by the name that their shell has for it: links are not resolved."""
    shown, real = box.host.environ().get("PWD", ""), Path.cwd()
    with contextlib.suppress(OSError):
        if shown.startswith("/") and real.samefile(shown):
            return shown
    return str(real)
