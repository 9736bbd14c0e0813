"""What `llmctl provision` shows: a line per task, and what failed.

Only `llmctl provision` chooses it; `ansible-playbook` prints what it always does. Results of tasks
that hold a secret come here censored (no_log); those of others are shown when they failed.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: llmctl
type: stdout
short_description: A line per task, and what failed
description: What llmctl provision shows while it works.
"""
_MOST = 2000
"""Characters of what a failed task said."""


class CallbackModule(CallbackBase):
    """One box at a time. $LLMCTL_OUTCOME: a file that gets how it went, as JSON."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "llmctl"

    def __init__(self) -> None:
        super().__init__()
        self._began = 0.0
        self._open = False
        self._failed: dict[str, Any] | None = None

    # One task

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        """A task begins: said at once, since it may take minutes."""
        del is_conditional
        self._begin(task)

    def v2_playbook_on_handler_task_start(self, task: Any) -> None:
        """A handler is a task as well."""
        self._begin(task)

    def _begin(self, task: Any) -> None:
        self._end("")
        self._began, self._open = time.monotonic(), True
        self._display.display(f"{task.get_name()} ... ", newline=False)

    def _end(self, word: str, color: str | None = None) -> None:
        if not self._open:
            return
        self._open = False
        seconds = time.monotonic() - self._began
        took = f" ({seconds:.0f} s)" if seconds >= 1.5 else ""
        self._display.display(f"{word}{took}", color=color)

    def v2_runner_on_ok(self, result: Any) -> None:
        """It is as it should be, or it is now."""
        changed = bool(result._result.get("changed"))
        self._end("changed" if changed else "ok", "yellow" if changed else "green")

    def v2_runner_on_skipped(self, result: Any) -> None:
        """Not for this box."""
        del result
        self._end("skipped", "cyan")

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """It failed; what follows may still mend it."""
        if ignore_errors:
            self._end("failed, which does no harm")
            return
        self._end("failed", "red")
        self._note(result, _said(result._result))

    def v2_runner_on_unreachable(self, result: Any) -> None:
        """The box does not answer."""
        self._end("unreachable", "red")
        self._note(result, _said(result._result), unreachable=True)

    def _note(self, result: Any, said: str, *, unreachable: bool = False) -> None:
        task = result._task.get_name()
        self._failed = {
            "task": task, "host": result._host.get_name(), "said": said[:_MOST],
            "unreachable": unreachable,
        }  # fmt: skip

    # The end

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """How it went, for who started this."""
        self._end("")
        counts: dict[str, int] = {}
        for host in sorted(stats.processed):
            for word, number in stats.summarize(host).items():
                counts[word] = counts.get(word, 0) + int(number)
        is_bad = bool(counts.get("failures") or counts.get("unreachable"))
        outcome = {
            "ok": counts.get("ok", 0), "changed": counts.get("changed", 0),
            "failed": self._failed if is_bad else None,
        }  # fmt: skip
        path = os.environ.get("LLMCTL_OUTCOME")
        if path:
            Path(path).write_text(json.dumps(outcome), encoding="utf-8")


def _said(result: dict[str, Any]) -> str:
    """What a person needs of a result. One that is censored says only that it is."""
    if "censored" in result:
        return str(result["censored"])
    words = [str(result.get(key) or "").strip() for key in ("msg", "stderr", "module_stderr")]
    each = [one for one in result.get("results") or () if isinstance(one, dict)]
    words += [_said(one) for one in each if one.get("failed")]
    return "\n".join(dict.fromkeys(word for word in words if word))
