"""LocalHost: the machine llmctl runs on."""

import contextlib
import os
import socket
import stat
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from llmctl.errors import HostError, NoAnswerError
from llmctl.host.base import Connection, Entry, Result

MORE_PATH = ("~/.local/bin", "/usr/local/bin", "/usr/bin", "/bin")
"""Looked at after PATH, where a non-interactive shell (cron, ssh HOST CMD) often lacks these."""

KILL_TIMEOUT_S = 1.0
"""How long a killed program may take to be gone."""


class LocalHost:
    """Host: commands by subprocess, files by the file system, ports by TCP."""

    name = "local"

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        self._environ = dict(os.environ if environ is None else environ)
        self._environ.setdefault("HOME", str(Path("~").expanduser()))
        if not self._environ.get("USER"):  # cron gives LOGNAME, a container nothing
            self._environ["USER"] = self._environ.get("LOGNAME") or _user_name()
        # sudo, cron and su give none, or another user's; the user manager listens there anyway.
        runtime = f"/run/user/{os.getuid()}"
        if not _is_ours(self._environ.get("XDG_RUNTIME_DIR")) and Path(runtime).is_dir():
            self._environ["XDG_RUNTIME_DIR"] = runtime
        self._environ["LC_ALL"] = "C.UTF-8"

    def environ(self) -> Mapping[str, str]:
        """See Host."""
        return self._environ

    def run(self, argv: Sequence[str], *, timeout: float) -> Result:
        """See Host."""
        try:
            process = subprocess.Popen(
                argv,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        except OSError as error:
            raise HostError(f"{argv[0]} cannot be run: {error.strerror}.") from None
        try:
            streams = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            message = f"{argv[0]} did not end within {timeout:g} s."
            raise NoAnswerError(message, hint=f"Try it by hand: {_typed(argv)}") from None
        finally:
            end(process)
        out, err = (stream.decode(errors="replace") for stream in streams)
        return Result(tuple(argv), process.returncode, out, err)

    def run_all(self, argvs: Sequence[Sequence[str]], *, timeout: float) -> Result:
        """See Host."""
        *before, last = argvs
        deadline = time.monotonic() + timeout
        for argv in before:
            self.run(argv, timeout=timeout)
        return self.run(last, timeout=max(0.1, deadline - time.monotonic()))

    def lines(self, argv: Sequence[str]) -> Iterator[str]:
        """See Host."""
        try:
            process = subprocess.Popen(
                argv, env=self._environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
            )
        except OSError as error:
            raise HostError(f"{argv[0]} cannot be run: {error.strerror}.") from None
        with process:
            try:
                assert process.stdout is not None  # noqa: S101  # PIPE was asked for
                for line in process.stdout:
                    yield line.decode(errors="replace").rstrip("\n")
            finally:
                process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=2.0)
                process.kill()

    def read(self, path: str, *, start: int = 0, length: int | None = None) -> bytes:
        """See Host."""
        try:
            with Path(path).open("rb") as file:
                if start:
                    file.seek(start)
                return file.read(-1 if length is None else length)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise HostError(f"{path} cannot be read: {error.strerror}.") from None

    def write(self, path: str, data: bytes, *, mode: int = 0o644) -> None:
        """See Host."""
        import tempfile  # most commands write nothing

        target = Path(os.path.realpath(path))  # a link into somebody's dotfiles stays a link
        temporary: Path | None = None
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
            temporary = Path(name)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                os.fchmod(file.fileno(), mode)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
            _sync_directory(target.parent)
        except OSError as error:
            if temporary is not None:
                with contextlib.suppress(OSError):
                    temporary.unlink(missing_ok=True)
            raise _write_error(path, error) from None

    def remove(self, path: str) -> None:
        """See Host."""
        try:
            Path(path).unlink(missing_ok=True)
        except OSError as error:
            raise HostError(f"{path} cannot be removed: {error.strerror}.") from None

    def stat(self, path: str) -> Entry | None:
        """See Host."""
        try:
            return _entry(Path(path).name, os.stat(path))  # noqa: PTH116  # half the cost of Path.stat
        except OSError:
            return None

    def list(self, path: str) -> tuple[Entry, ...]:
        """See Host."""
        try:
            with os.scandir(path) as found:
                entries = [entry for one in found if (entry := self.stat(one.path)) is not None]
        except (FileNotFoundError, NotADirectoryError):
            return ()
        except OSError as error:
            raise HostError(f"{path} cannot be read: {error.strerror}.") from None
        return tuple(sorted(entries, key=lambda entry: entry.name))

    def make_dir(self, path: str) -> None:
        """See Host."""
        try:
            Path(path).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _write_error(path, error) from None

    def which(self, program: str) -> str | None:
        """See Host."""
        home = self._environ["HOME"]
        if program.startswith("~/"):
            program = home + program[1:]
        folders = self._environ.get("PATH", "").split(os.pathsep)
        more = [folder.replace("~", home, 1) for folder in MORE_PATH]
        candidates = [program] if "/" in program else [f"{one}/{program}" for one in folders + more]
        found = (one for one in candidates if Path(one).is_file() and os.access(one, os.X_OK))
        first = next(found, None)
        return first and str(Path(first).absolute())

    def dial(self, port: int, *, timeout: float) -> Connection:
        """See Host."""
        # Not create_connection(): its getaddrinfo() loads the idna codec, 3 ms for an address.
        connection = socket.socket()
        try:
            connection.settimeout(timeout)
            connection.connect(("127.0.0.1", port))
        except OSError:
            connection.close()
            raise
        return connection


def end(process: "subprocess.Popen[bytes]") -> None:
    """Kill what still runs, and do not wait for what cannot die.

    A program in a wedged driver (nvidia-smi on a card that fell off the bus) is beyond SIGKILL;
    subprocess.run() would wait for it forever.
    """
    if process.returncode is None:
        process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=KILL_TIMEOUT_S)
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()


def _is_ours(path: str | None) -> bool:
    try:
        return bool(path) and os.stat(str(path)).st_uid == os.getuid()  # noqa: PTH116  # as below
    except OSError:
        return False


def _user_name() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def _entry(name: str, facts: os.stat_result) -> Entry:
    is_dir = stat.S_ISDIR(facts.st_mode)
    return Entry(name, facts.st_size, facts.st_mtime_ns, is_dir, stat.S_IMODE(facts.st_mode))


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)  # the rename itself survives a power cut only now
    finally:
        os.close(descriptor)


def _write_error(path: str, error: OSError) -> HostError:
    hint = {
        "No space left on device": "Free some space there; the old file is untouched.",
        "Disk quota exceeded": "Free some space there; the old file is untouched.",
        "Read-only file system": "Mount it read-write, or set XDG_CONFIG_HOME to a place that is.",
        "Permission denied": "Give your user the right to write there.",
    }.get(str(error.strerror))
    return HostError(f"{path} cannot be written: {error.strerror}.", hint=hint)


def _typed(argv: Sequence[str]) -> str:
    import shlex  # only complaints need it

    return shlex.join(argv)
