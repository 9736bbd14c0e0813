"""What a failed server said, and why it failed."""

from collections.abc import Iterator, Sequence

from llmctl.core.causes import Cause, name_cause
from llmctl.core.state import UnitStatus
from llmctl.core.words import instance_of
from llmctl.engine.box import Box
from llmctl.engine.clock import Clock
from llmctl.engine.gpu_reports import gpu_cause
from llmctl.engine.ports import holders
from llmctl.errors import HostError
from llmctl.systemd import journal_argv

LINES = 200
"""Enough to find a cause in; a person is shown the last few."""
_TAIL_BYTES = 64 * 1024
_JOURNAL_LAG_S = 1.0
_NO_LINES = (
    "If your journal is not kept, or not yours to read: sudo mkdir -p /var/log/journal && "
    "sudo journalctl --flush, or logs: file in config.yaml."
)


def last_lines(box: Box, unit: str, *, lines: int = LINES) -> list[str]:
    """The last lines of a unit: from its log file where it has one, else from the journal."""
    path = log_of(box, unit)
    return _tail(box, path, lines) if path else box.systemd.journal(unit, lines=lines)


def log_of(box: Box, unit: str) -> str | None:
    """Where a model's unit writes, if not to the journal; each replica has a file of its own."""
    whose = instance_of(unit)
    if whose is None:
        return None
    name, number = whose
    return box.store.log_file(name if number == 1 else f"{name}@{number}")


def _tail(box: Box, path: str, lines: int) -> list[str]:
    try:
        entry = box.host.stat(path)
        start = max(0, entry.size_bytes - _TAIL_BYTES) if entry else 0
        text = box.host.read(path, start=start).decode(errors="replace")
    except (FileNotFoundError, HostError):
        return []
    return text.splitlines()[-lines:] if lines else []


def follow(box: Box, unit: str, *, lines: int) -> Iterator[str]:
    """The last lines of a unit, and those to come."""
    path = log_of(box, unit)
    if path is None:
        return box.host.lines(journal_argv(unit, lines=lines, follow=True))
    return box.host.lines(("tail", f"--lines={lines}", "--follow=name", "--retry", "--", path))


def evidence(box: Box, status: UnitStatus, clock: Clock) -> list[str]:
    """What the failed run wrote, and no other run: a cause named from older lines would be a lie.

    Nothing when it cannot be read: what must follow a failure matters more than its explanation.
    The journal may lag behind the death of a process: wait for it a moment.
    """
    path = log_of(box, status.unit)
    if path is not None:  # emptied when the run was asked for
        return _tail(box, path, LINES)
    end = clock.now() + _JOURNAL_LAG_S
    try:
        while not (found := box.systemd.journal_of_run(status, lines=LINES)) and clock.now() < end:
            clock.sleep(0.05)
    except HostError:
        return []
    return found


def explain(box: Box, port: int, status: UnitStatus, lines: Sequence[str]) -> Cause:
    """The cause of a failure, with whoever holds the port if that is it."""
    cause = name_cause(lines, status)
    if not lines:
        where = "the journal" if box.store.config.logs == "journal" else "its log file"
        return Cause(f"{cause.what}, and {where} has no line of it", _NO_LINES)
    if cause.is_vague:
        return gpu_cause(box, status) or cause
    if not cause.is_port:
        return cause
    found = holders(box, port)
    if not found:  # llama-server says the same of TLS files that it cannot read
        what = f"it could not listen on port {port}"
        return Cause(what, "Nobody holds it now; if it serves TLS, check its files.")
    return Cause(f"{cause.what} by {'; '.join(map(str, found))}", cause.hint)
