"""Reads what Linux says of processes and sockets: proc(5)."""

import re

_LISTEN = "0A"


def parse_listeners(text: str, port: int) -> tuple[str, ...]:
    """Inodes of the sockets that listen on `port`, from /proc/net/tcp or tcp6."""
    found = []
    for line in text.splitlines()[1:]:
        words = line.split()
        if len(words) > 9 and words[3] == _LISTEN and int(words[1].rpartition(":")[2], 16) == port:
            found.append(words[9])
    return tuple(found)


def parse_unit(cgroup: str) -> str | None:
    """The innermost unit of a process, from /proc/PID/cgroup (cgroup v2 or systemd's v1 line)."""
    for line in cgroup.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "name=systemd"):
            units = re.findall(r"[^/]+\.(?:service|scope)(?=/|$)", path)
            if units:
                return str(units[-1])
    return None


def parse_rss_bytes(status: str) -> int:
    """Resident memory of a process, from /proc/PID/status; mapped pages of its files count."""
    match = re.search(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE)
    return int(match[1]) * 1024 if match else 0


def parse_own_bytes(status: str) -> int | None:
    """Memory of a process that is free when it ends, from /proc/PID/status: without mapped pages of
    its files. None: the kernel does not say (before 4.5)."""
    found = re.findall(r"^Rss(?:Anon|Shmem):\s+(\d+) kB", status, re.MULTILINE)
    return sum(int(one) for one in found) * 1024 if found else None


def parse_read_bytes(io: str) -> int:
    """Bytes a process has asked read(2) for, from /proc/PID/io."""
    match = re.search(r"^rchar: (\d+)", io, re.MULTILINE)
    return int(match[1]) if match else 0


def parse_port(cmdline: bytes) -> int | None:
    """The port that a llama-server was told to listen on, from /proc/PID/cmdline."""
    words = cmdline.split(b"\0")
    told = words[words.index(b"--port") + 1 :] if b"--port" in words else []
    return int(told[0]) if told and told[0].isdigit() else None


def uptime_s(stat: str, uptime: str, *, ticks: int = 100) -> float | None:
    """Age of a process from /proc/PID/stat and /proc/uptime. USER_HZ is 100 on all of Linux."""
    fields = stat.rpartition(")")[2].split()
    if len(fields) < 20 or not uptime:
        return None
    return max(0.0, float(uptime.split()[0]) - int(fields[19]) / ticks)


def started_s(stat: str, boot: str, *, ticks: int = 100) -> float | None:
    """When a process began, in seconds since 1970: /proc/PID/stat, and btime of /proc/stat."""
    fields = stat.rpartition(")")[2].split()
    match = re.search(r"^btime (\d+)$", boot, re.MULTILINE)
    if len(fields) < 20 or match is None or not fields[19].isdigit():
        return None
    return int(match[1]) + int(fields[19]) / ticks


def parse_environ(raw: bytes) -> dict[str, str]:
    """/proc/PID/environ: NUL-separated NAME=VALUE."""
    pairs = (one.partition("=") for one in raw.decode(errors="replace").split("\0"))
    return {name: value for name, equals, value in pairs if equals}
