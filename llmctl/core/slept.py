"""How long a machine had slept when a process began: from two clocks, of which one stood still.

/proc/PID/stat counts from the boot (proc(5), starttime; with sleep since Linux 5.5), and systemd's
monotonic timestamps do not count what was slept.
"""

import re

NOTICEABLE_S = 5.0
"""A shorter sleep is less than what the sources differ by."""
_TICKS = 100


def slept_before(stat: str, started_us: int) -> float | None:
    """Seconds that the machine had slept when a process was started; None: they do not say."""
    fields = stat.rpartition(")")[2].split()
    if len(fields) < 20 or not fields[19].isdigit() or not started_us:
        return None
    return max(0.0, int(fields[19]) / _TICKS - started_us / 1e6)


def slept_until(shown: str, boot: str) -> float | None:
    """The same for when a session began: `systemctl show --timestamp=unix` of its scope, with
    ActiveEnterTimestamp and ActiveEnterTimestampMonotonic, and btime of /proc/stat."""
    real = re.search(r"^ActiveEnterTimestamp=@(\d+)$", shown, re.MULTILINE)
    monotonic = re.search(r"^ActiveEnterTimestampMonotonic=([1-9]\d*)$", shown, re.MULTILINE)
    booted = re.search(r"^btime (\d+)$", boot, re.MULTILINE)
    if real is None or monotonic is None or booted is None:
        return None
    return max(0.0, int(real[1]) - int(booted[1]) - int(monotonic[1]) / 1e6)
