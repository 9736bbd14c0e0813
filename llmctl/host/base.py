"""Host: a box as an object with a few verbs. Local and SSH mean the same thing by each.

One contract test (tests/contract) holds every implementation to these docstrings.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import msgspec


class Result(msgspec.Struct, frozen=True):
    """A command that ran: what it was, its exit status, and what it wrote (UTF-8, lenient)."""

    argv: tuple[str, ...]
    status: int
    stdout: str
    stderr: str

    @property
    def ok(self) -> bool:
        """Exit status 0."""
        return self.status == 0


class Entry(msgspec.Struct, frozen=True):
    """A file or directory: its name, size in bytes, time of change in nanoseconds, permissions."""

    name: str
    size_bytes: int
    mtime_ns: int
    is_dir: bool
    mode: int = 0


class Connection(Protocol):
    """A byte stream to a port: a socket, or a channel of an SSH connection.

    Whatever goes wrong with it is an OSError.
    """

    def settimeout(self, timeout: float | None, /) -> None:
        """Seconds that a call may wait before it raises TimeoutError."""
        ...

    def sendall(self, data: bytes, /) -> None:
        """Send all of it."""
        ...

    def recv(self, size: int, /) -> bytes:
        """At most `size` bytes; none at the end of the stream."""
        ...

    def close(self) -> None:
        """End it, both ways."""
        ...


class Host(Protocol):
    """A box. Every method raises HostError when there is no answer."""

    @property
    def name(self) -> str:
        """What users call it; `local` is the machine they are on."""
        ...

    def environ(self) -> Mapping[str, str]:
        """The environment that commands on the box see; XDG_RUNTIME_DIR is set if it can be."""
        ...

    def run(self, argv: Sequence[str], *, timeout: float) -> Result:
        """Run a command to its end. A non-zero status is an answer, not an error.

        argv is passed as it is, without a shell; stdin is empty; messages are in English
        (LC_ALL=C.UTF-8). HostError: no such program, or no end within `timeout` seconds.
        """
        ...

    def run_all(self, argvs: Sequence[Sequence[str]], *, timeout: float) -> Result:
        """Run commands one after the other, whatever each answers; the last one's answer counts.

        Far away that is one round trip. HostError: as `run`, and `timeout` is for all of them.
        """
        ...

    def lines(self, argv: Sequence[str]) -> Iterator[str]:
        """Run a command and yield its stdout line by line as it comes. Closing ends it."""
        ...

    def read(self, path: str, *, start: int = 0, length: int | None = None) -> bytes:
        """Bytes of a file from `start`, to its end or `length` of them.

        /proc is read too: there, a file's size says nothing.
        FileNotFoundError: there is none. HostError: it cannot be read.
        """
        ...

    def write(self, path: str, data: bytes, *, mode: int = 0o644) -> None:
        """Replace a file, atomically and durably: after a power cut it is the old or the new one.

        Missing directories are made. HostError: the file is as it was before.
        """
        ...

    def remove(self, path: str) -> None:
        """Remove a file; one that is not there is no error."""
        ...

    def stat(self, path: str) -> Entry | None:
        """What is at `path`, links followed; None: nothing."""
        ...

    def list(self, path: str) -> tuple[Entry, ...]:
        """What a directory holds, sorted by name; a missing one holds nothing."""
        ...

    def make_dir(self, path: str) -> None:
        """Make a directory and its parents; an existing one is no error."""
        ...

    def which(self, program: str) -> str | None:
        """The absolute path of an executable: as given (`~/` is home) or found on PATH; or None."""
        ...

    def dial(self, port: int, *, timeout: float) -> Connection:
        """Connect to a loopback port of the box. OSError: nobody answers."""
        ...
