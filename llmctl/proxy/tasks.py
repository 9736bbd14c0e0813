"""Tasks that are kept hold of: asyncio itself remembers them only weakly."""

import asyncio
import sys
import traceback
from collections.abc import Coroutine
from typing import Any

_running: set[asyncio.Task[Any]] = set()


def spawn(work: Coroutine[Any, Any, Any], *, name: str) -> asyncio.Task[Any]:
    """Run it; an exception of it is a bug and is written to the log with its traceback."""
    task = asyncio.get_running_loop().create_task(work, name=name)
    _running.add(task)
    task.add_done_callback(_ended)
    return task


def log(text: str) -> None:
    """A line for the journal."""
    sys.stderr.write(f"llmctl-proxy: {text}\n")
    sys.stderr.flush()


def _ended(task: asyncio.Task[Any]) -> None:
    _running.discard(task)
    if task.cancelled() or task.exception() is None:
        return
    log(f"{task.get_name()} failed")
    traceback.print_exception(task.exception(), file=sys.stderr)
