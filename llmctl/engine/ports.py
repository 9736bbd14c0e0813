"""Who holds a port: found without ss or lsof, which a box may lack."""

import msgspec

from llmctl.core.proc import parse_listeners, parse_unit
from llmctl.engine.box import Box
from llmctl.errors import HostError


class Holder(msgspec.Struct, frozen=True):
    """A process that listens on a port. pid 0: it is another user's, and hidden from us."""

    pid: int
    command: str
    unit: str | None

    def __str__(self) -> str:
        if not self.pid:
            return "a process of another user"
        where = f" in {self.unit}" if self.unit else ""
        return f"pid {self.pid}, {self.command}{where}"


def holders(box: Box, port: int) -> tuple[Holder, ...]:
    """Processes that listen on a TCP port of the box; none when that cannot be found out."""
    try:
        inodes = [inode for table in ("tcp", "tcp6") for inode in _listeners(box, table, port)]
        pids = {pid for inode in inodes for pid in _pids(box, inode)}
    except HostError:
        return ()
    hidden = (Holder(0, "", None),) if inodes else ()
    return tuple(_holder(box, pid) for pid in sorted(pids)) or hidden


def _listeners(box: Box, table: str, port: int) -> tuple[str, ...]:
    try:
        return parse_listeners(box.host.read(f"/proc/net/{table}").decode(), port)
    except FileNotFoundError:
        return ()


def _pids(box: Box, inode: str) -> set[int]:
    """Processes with that socket open. find(1) skips what is not ours to see, with status 1."""
    argv = ("find", "/proc", "-maxdepth", "3", "-path", "/proc/[0-9]*/fd/*",
            "-lname", rf"socket:\[{inode}\]")  # fmt: skip
    found = box.host.run(argv, timeout=10.0).stdout.splitlines()
    return {int(path.split("/")[2]) for path in found}


def _holder(box: Box, pid: int) -> Holder:
    words = box.read_proc(pid, "cmdline").decode(errors="replace").split("\0")
    cgroup = box.read_proc(pid, "cgroup").decode(errors="replace")
    command = " ".join(words).strip() or "?"
    return Holder(pid, command if len(command) <= 80 else f"{command[:77]}...", parse_unit(cgroup))
