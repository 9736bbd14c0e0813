"""FakeHost and FakeClock: a box in memory, for what is hard to provoke on a real one.

tests/contract/test_host.py holds FakeHost to the same promises as the real hosts.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from llmctl.errors import HostError, NoAnswerError
from llmctl.host.base import Entry, Result

HOME = "/home/ana"


@dataclass(frozen=True, slots=True)
class Output:
    """What a scripted program does. pid: shows under /proc while `lines` reads from it."""

    stdout: str = ""
    stderr: str = ""
    status: int = 0
    takes_s: float = 0.0
    pid: int = 0


Program = Callable[[Sequence[str]], Output]
Content = bytes | Callable[[], bytes]
Server = Callable[[bytes], bytes | None]
"""Bytes that came in -> bytes to answer before closing; None: never answers."""


@dataclass(slots=True)
class _File:
    content: Content
    mode: int
    mtime_ns: int

    @property
    def data(self) -> bytes:
        return self.content() if callable(self.content) else self.content


class FakeHost:
    """Host in memory: files, scripted programs, scripted servers. Everything run is in `calls`."""

    def __init__(self, *, name: str = "box", environ: Mapping[str, str] | None = None) -> None:
        self.name = name
        self.programs: dict[str, Program] = {}
        self.servers: dict[int, Server] = {}
        self.failing: dict[str, str] = {}
        """Path or directory -> why it can be neither read nor written ("Permission denied")."""
        self.full: set[str] = set()
        """Paths and directories where nothing more can be written, though all can be read."""
        self.sizes: dict[str, int] = {}
        """Path -> the size that stat tells of a file of which only the beginning is here."""
        self.calls: list[tuple[str, ...]] = []
        self.written: list[str] = []
        self._environ = {"HOME": HOME, "USER": "ana", "LC_ALL": "C.UTF-8", **(environ or {})}
        self._files: dict[str, _File] = {}
        self._dirs = {"/"}
        self._changes = 0

    # For tests

    def put(self, path: str, content: Content | str, *, mode: int = 0o644) -> None:
        """Lay a file there. A callable is asked anew at each read."""
        self._changes += 1
        data = content.encode() if isinstance(content, str) else content
        self._files[path] = _File(data, mode, 1_700_000_000_000_000_000 + self._changes)
        self._make_parents(path)

    def install(self, path: str, program: Program) -> None:
        """Lay an executable there that does what `program` says."""
        self.put(path, b"\x7fELF", mode=0o755)
        self.programs[path] = program

    def mode(self, path: str) -> int:
        """The permissions a file was written with."""
        return self._files[path].mode

    def text(self, path: str) -> str:
        """A file as text."""
        return self._files[path].data.decode()

    def paths(self, under: str = "/") -> tuple[str, ...]:
        """All files below a directory."""
        return tuple(sorted(path for path in self._files if path.startswith(under)))

    def called(self, *words: str) -> list[tuple[str, ...]]:
        """The commands run so far that hold all of `words`."""
        return [argv for argv in self.calls if set(words) <= set(argv)]

    # Host

    def environ(self) -> Mapping[str, str]:
        """See Host."""
        return self._environ

    def run(self, argv: Sequence[str], *, timeout: float) -> Result:
        """See Host."""
        self.calls.append(tuple(argv))
        output = self._program(argv[0])(argv)
        if output.takes_s > timeout:
            raise NoAnswerError(f"{argv[0]} did not end within {timeout:g} s.")
        return Result(tuple(argv), output.status, output.stdout, output.stderr)

    def run_all(self, argvs: Sequence[Sequence[str]], *, timeout: float) -> Result:
        """See Host."""
        return [self.run(argv, timeout=timeout) for argv in argvs][-1]

    def lines(self, argv: Sequence[str]) -> Iterator[str]:
        """See Host."""
        self.calls.append(tuple(argv))
        output = self._program(argv[0])(argv)
        process = f"/proc/{output.pid}"
        self._dirs.add(process)
        try:
            yield from output.stdout.splitlines()
        finally:
            self._dirs.discard(process)

    def _program(self, name: str) -> Program:
        found = self.programs.get(name) or self.programs.get(self.which(name) or "")
        if found is None:
            raise HostError(f"{name} cannot be run: No such file or directory.")
        return found

    def read(self, path: str, *, start: int = 0, length: int | None = None) -> bytes:
        """See Host."""
        self._guard(path, "read")
        if path in self._dirs:
            raise HostError(f"{path} cannot be read: Is a directory.")
        if path not in self._files:
            raise FileNotFoundError(path)
        return self._files[path].data[start : None if length is None else start + length]

    def write(self, path: str, data: bytes, *, mode: int = 0o644) -> None:
        """See Host."""
        self._guard(path, "written")
        if self.full & {path, *_parents(path)}:
            raise HostError(f"{path} cannot be written: No space left on device.")
        if path in self._dirs:
            raise HostError(f"{path} cannot be written: Is a directory.")
        if any(parent in self._files for parent in _parents(path)):
            raise HostError(f"{path} cannot be written: Not a directory.")
        self.written.append(path)
        self.put(path, data, mode=mode)

    def remove(self, path: str) -> None:
        """See Host."""
        self._guard(path, "removed")
        if path in self._dirs:
            raise HostError(f"{path} cannot be removed: Is a directory.")
        self._files.pop(path, None)

    def stat(self, path: str) -> Entry | None:
        """See Host."""
        name = path.rpartition("/")[2]
        if path in self._dirs:
            return Entry(name, 4096, 0, is_dir=True)
        file = self._files.get(path)
        if file is None:
            return None
        size = self.sizes.get(path, len(file.data))
        return Entry(name, size, file.mtime_ns, is_dir=False, mode=file.mode)

    def list(self, path: str) -> tuple[Entry, ...]:
        """See Host."""
        self._guard(path, "read")
        inside = f"{path.rstrip('/')}/"
        names = {
            one.removeprefix(inside).partition("/")[0]
            for one in (*self._files, *self._dirs)
            if one.startswith(inside) and one != inside
        }
        found = (self.stat(inside + name) for name in sorted(names))
        return tuple(one for one in found if one is not None)

    def make_dir(self, path: str) -> None:
        """See Host."""
        self._guard(path, "written")
        if any(place in self._files for place in (path, *_parents(path))):
            raise HostError(f"{path} cannot be written: File exists.")
        self._make_parents(f"{path}/")

    def which(self, program: str) -> str | None:
        """See Host."""
        home = self._environ["HOME"]
        wanted = program.replace("~", home, 1) if program.startswith("~") else program
        places = ("/usr/local/bin", "/usr/bin")
        paths = [wanted] if "/" in wanted else [f"{place}/{wanted}" for place in places]
        return next((path for path in paths if self._is_executable(path)), None)

    def dial(self, port: int, *, timeout: float) -> socket.socket:
        """See Host."""
        del timeout
        if port not in self.servers:
            raise ConnectionRefusedError(f"nobody listens on {port}")
        return _Connection(self.servers[port])

    def _is_executable(self, path: str) -> bool:
        return path in self._files and bool(self._files[path].mode & 0o100)

    def _make_parents(self, path: str) -> None:
        self._dirs.update(_parents(path))

    def _guard(self, path: str, verb: str) -> None:
        for place in (path, *_parents(path)):
            if place in self.failing:
                raise HostError(f"{path} cannot be {verb}: {self.failing[place]}.")


def _parents(path: str) -> list[str]:
    parts = path.split("/")[1:-1]
    return ["/".join(["", *parts[:n]]) for n in range(1, len(parts) + 1)]


class _Connection(socket.socket):
    """One end of a socket pair whose other end answers at once, in the same thread."""

    def __init__(self, server: Server) -> None:
        ours, self._peer = socket.socketpair()
        super().__init__(fileno=ours.detach())
        self._server = server
        self._silent = False

    def sendall(self, data: object, flags: int = 0, /) -> None:
        assert isinstance(data, bytes)
        answer = self._server(data)
        self._silent = answer is None
        if answer is not None:
            self._peer.sendall(answer, flags)
            self._peer.shutdown(socket.SHUT_WR)

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        if self._silent:
            raise TimeoutError("timed out")
        return super().recv(bufsize, flags)

    def close(self) -> None:
        self._peer.close()
        super().close()


class FakeClock:
    """Clock whose time passes only in `sleep`; what was due by then happens on the way."""

    def __init__(self) -> None:
        self._now = 1000.0
        self._due: list[tuple[float, int, Callable[[], None]]] = []

    def now(self) -> float:
        """See Clock."""
        return self._now

    def sleep(self, seconds: float) -> None:
        """See Clock."""
        end = self._now + seconds
        while self._due and min(self._due)[0] <= end:
            first = min(self._due)
            self._due.remove(first)
            self._now = max(self._now, first[0])
            first[2]()
        self._now = end

    def after(self, seconds: float, do: Callable[[], None]) -> None:
        """Have something happen when `seconds` have passed."""
        self._due.append((self._now + seconds, len(self._due), do))
