"""The proxy as a process, and what the kernel says of it."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

STILL_PROXY = Path(__file__).with_name("still_proxy.py")


class Process:
    """A proxy before one server. port: its own."""

    def __init__(self, upstream: int, **guard: Any) -> None:
        argv = [sys.executable, str(STILL_PROXY), str(upstream)]
        argv += [json.dumps(guard)] if guard else []
        self._popen = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        assert self._popen.stdout is not None
        self.port = int(self._popen.stdout.readline())
        self.pid = self._popen.pid

    def close(self) -> None:
        self._popen.kill()
        self._popen.wait()
        if self._popen.stdout is not None:
            self._popen.stdout.close()

    @property
    def memory(self) -> int:
        """Bytes of its own: not those of files, which the kernel can drop."""
        return self._status("RssAnon")

    @property
    def most_memory(self) -> int:
        """The most that it has ever had, pages of files included."""
        return self._status("VmHWM")

    def _status(self, key: str) -> int:
        text = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(rf"{key}:\s+(\d+) kB", text)
        assert found, text
        return int(found[1]) << 10

    @property
    def descriptors(self) -> int:
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    @property
    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / 100


@contextlib.contextmanager
def proxy_process(upstream: int, **guard: Any) -> Iterator[Process]:
    """guard: its settings; none: it is off."""
    made = Process(upstream, **guard)
    try:
        yield made
    finally:
        made.close()
