"""The request log: one JSON object per line, in three files of ten MiB.

Lines are collected and written once a second, in a thread: a slow disk slows no answer. A full one
costs lines, never requests: it is complained about once, and what comes later is written again as
soon as there is room.
"""

import os
from collections.abc import Callable
from pathlib import Path

from llmctl.proxy.tasks import log

MOST_BYTES = 10 << 20
FILES = 3
"""The newest, and two older ones: requests.jsonl, .1, .2."""
MOST_WAITING = 8 << 20
"""Bytes of lines that may wait for a disk that hangs. They lie in one piece of memory, which goes
back to the system, as thousands of small ones would not."""


class RequestLog:
    """Its lines. dropped: those that could not be written, since the start."""

    def __init__(
        self, path: str, *, most_bytes: int = MOST_BYTES, files: int = FILES,
        say: Callable[[str], None] = log,
    ) -> None:  # fmt: skip
        self._path, self._most, self._files = Path(path), most_bytes, files
        self._say = say
        self._lines = bytearray()
        self._has_failed = False
        self.dropped = 0

    @property
    def has_lines(self) -> bool:
        """Is there something to write?"""
        return bool(self._lines)

    def add(self, line: bytes) -> None:
        """One more, without its newline."""
        if len(self._lines) >= MOST_WAITING:
            self.dropped += 1
        else:
            self._lines += line + b"\n"

    def flush(self) -> None:
        """Write what there is. It may be called from one thread at a time, while another one adds:
        that lengthens the lines, and never replaces them."""
        lines = bytes(self._lines)
        del self._lines[: len(lines)]
        if not lines:
            return
        try:
            self._write(lines)
        except OSError as error:
            self.dropped += lines.count(b"\n")
            if not self._has_failed:
                self._say(f"{self._path} cannot be written: {error.strerror}. Lines are lost.")
            self._has_failed = True
            return
        if self._has_failed:
            self._say(f"{self._path} can be written again; {self.dropped} lines were lost.")
        self._has_failed = False

    def _write(self, data: bytes) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(self._path, flags, 0o600)
        try:
            size = os.fstat(descriptor).st_size
            if size and size + len(data) > self._most:
                self._rotate()
                os.close(descriptor)
                descriptor = os.open(self._path, flags, 0o600)
                size = os.fstat(descriptor).st_size
            _append(descriptor, data, size)
        finally:
            os.close(descriptor)

    def _rotate(self) -> None:
        """The oldest goes; the others move on."""
        for number in range(self._files - 1, 0, -1):
            older = self.numbered(number - 1)
            if older.exists():
                older.replace(self.numbered(number))

    def numbered(self, number: int) -> Path:
        """The file of that number; 0 is the newest."""
        return self._path.with_name(self._path.name + (f".{number}" if number else ""))


def _append(descriptor: int, data: bytes, size: int) -> None:
    """All of it or nothing: a torn line would hide the next one too."""
    written = 0
    try:
        while written < len(data):
            written += os.write(descriptor, data[written:])
    except OSError:
        os.ftruncate(descriptor, size)
        raise
