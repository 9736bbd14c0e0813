"""How long a unit's process has run, and what it takes."""

from llmctl.core.proc import parse_rss_bytes, uptime_s
from llmctl.core.state import UnitStatus
from llmctl.engine.box import Box
from llmctl.errors import HostError


def uptime(box: Box, pid: int) -> float | None:
    """Seconds since a process began; None: there is none."""
    if not pid:
        return None
    stat = box.read_proc(pid, "stat").decode(errors="replace")
    try:
        return uptime_s(stat, box.host.read("/proc/uptime").decode())
    except (FileNotFoundError, HostError):
        return None


def memory(box: Box, status: UnitStatus) -> int | None:
    """Bytes of the unit's cgroup; without accounting its process's."""
    if status.memory_bytes is not None or not status.pid:
        return status.memory_bytes
    return parse_rss_bytes(box.read_proc(status.pid, "status").decode(errors="replace")) or None
