"""SSHHost: a box over one SSH connection, made when it is first needed.

Files are read and written by the box's own shell and not by SFTP: that tells times in whole seconds
and failures without a reason, cannot flush a directory, breaks where a login shell prints
something, and takes seven round trips for a write where this takes two.
"""

import contextlib
import os
import threading
from collections.abc import Iterator, Mapping, Sequence

import paramiko

from llmctl.errors import HostError, NoAnswerError
from llmctl.host import ssh_scripts as scripts
from llmctl.host.base import Connection, Entry, Result
from llmctl.host.ssh_auth import Ask
from llmctl.host.ssh_link import Link, connect
from llmctl.host.ssh_shell import Output, Run, Shell

FILE_TIMEOUT_S = 60.0
_PROHIBITED = 1  # SSH_OPEN_ADMINISTRATIVELY_PROHIBITED, RFC 4254, 5.1


def nobody(question: str) -> str | None:
    """An Ask where nobody is there to answer."""
    del question
    return None


class SSHHost:
    """Host: commands and files by the box's shell, ports by `direct-tcpip`.

    name: what users call the box. target: where ssh goes for it, if that is called otherwise.
    """

    def __init__(
        self,
        name: str,
        *,
        target: str | None = None,
        environ: Mapping[str, str] | None = None,
        ask: Ask = nobody,
    ) -> None:
        self.name = name
        self._target = target or name
        self._ours = dict(os.environ if environ is None else environ)
        self._ask = ask
        self._lock = threading.Lock()
        self._link: Link | None = None
        self._failure: HostError | None = None
        self._environ: dict[str, str] | None = None

    def link(self) -> Link:
        """The connection. Once lost it stays so: who was in the middle of something must say so.

        One that could not be made is not tried again either: commands ask several things at once,
        and each would wait for its own time-out.
        """
        with self._lock:
            if self._failure is not None:
                raise self._failure
            if self._link is None:
                try:
                    self._link = connect(self._target, self._ours, ask=self._ask)
                except HostError as error:
                    self._failure = error
                    raise
            return self._link

    def close(self) -> None:
        """Hang up. What was started by systemd on the box goes on."""
        with self._lock:
            if self._link is not None:
                self._link.close()

    @property
    def _shell(self) -> Shell:
        return Shell(self.link(), self.name)

    def environ(self) -> Mapping[str, str]:
        """See Host."""
        if self._environ is None:
            told = self._do(scripts.ENVIRON, what="env").stdout.decode(errors="surrogateescape")
            pairs = (one.partition("=") for one in told.split("\0") if "=" in one)
            self._environ = {key: value for key, _, value in pairs}
        return self._environ

    def _do(self, script: str, *, what: str, data: bytes = b"") -> Output:
        return self._shell.run(script, what=what, timeout=FILE_TIMEOUT_S, data=data)

    def script(self, text: str, *, what: str, timeout: float, secret: bool = False) -> bytes:
        """What a script for sh writes; one round trip, whatever it asks. HostError: as `run`.

        secret: nobody else on the box may see it; that takes a second round trip.
        """
        return self._shell.run(text, what=what, timeout=timeout, secret=secret).stdout

    # Commands

    def run(self, argv: Sequence[str], *, timeout: float) -> Result:
        """See Host."""
        return self.run_all([argv], timeout=timeout)

    def run_all(self, argvs: Sequence[Sequence[str]], *, timeout: float) -> Result:
        """See Host."""
        *before, argv = argvs
        script = "".join(map(scripts.aside, before)) + scripts.command(argv)
        try:
            done = self._shell.run(script, what=argv[0], timeout=timeout)
        except NoAnswerError as error:
            if error.hint is not None:
                raise
            hint = f"Try it by hand: ssh {self.name} {scripts.words(argv)}"
            raise NoAnswerError(error.message, hint=hint) from None
        found, stdout = _found(done.stdout)
        if not found:
            raise self._no_program(argv[0])
        out, err = (stream.decode(errors="replace") for stream in (stdout, done.stderr))
        return Result(tuple(argv), done.status, out, err)

    def lines(self, argv: Sequence[str]) -> Iterator[str]:
        """See Host."""
        shell = self._shell
        run = shell.begin(scripts.command(argv), what=argv[0])
        try:
            yield from self._lines(run, argv[0])
        finally:
            shell.end(run)

    def _lines(self, run: Run, program: str) -> Iterator[str]:
        rest, begun = b"", False
        for stdout, stderr in run.pieces(None):
            if stderr:  # as a local command's, which has our stderr
                os.write(2, stderr)
            *whole, rest = (rest + stdout).split(b"\n")
            for line in whole:
                if not begun:
                    begun, _ = _found(line + b"\n")
                    if not begun:
                        raise self._no_program(program)
                    continue
                yield line.decode(errors="replace")
        if rest:
            yield rest.decode(errors="replace")

    def _no_program(self, name: str) -> HostError:
        return HostError(f"{name} cannot be run on {self.name}: there is no such program.")

    # Files

    def read(self, path: str, *, start: int = 0, length: int | None = None) -> bytes:
        """See Host."""
        done = self._do(scripts.read(path, start, length), what=f"read {path}")
        if done.stderr:
            if done.reason == "No such file or directory":
                raise FileNotFoundError(path)
            raise HostError(f"{path} cannot be read: {done.reason}.")
        return done.stdout

    def write(self, path: str, data: bytes, *, mode: int = 0o644) -> None:
        """See Host."""
        script = scripts.write(path, len(data), mode)
        self._must(self._do(script, what=f"write {path}", data=data), path, "written")

    def remove(self, path: str) -> None:
        """See Host."""
        self._must(self._do(scripts.remove(path), what=f"rm {path}"), path, "removed")

    def make_dir(self, path: str) -> None:
        """See Host."""
        self._must(self._do(scripts.make_dir(path), what=f"mkdir {path}"), path, "written")

    def _must(self, done: Output, path: str, verb: str) -> None:
        if done.status:
            raise HostError(
                f"{path} cannot be {verb}: {done.reason}.", hint=_HINTS.get(done.reason)
            )

    def stat(self, path: str) -> Entry | None:
        """See Host."""
        found = parse_entries(self._do(scripts.look(path, 0), what=f"stat {path}").stdout)
        return found[0] if found else None

    def list(self, path: str) -> tuple[Entry, ...]:
        """See Host."""
        done = self._do(scripts.look(path, 1), what=f"ls {path}")
        found = parse_entries(done.stdout)
        if not found or not found[0].is_dir:
            return ()
        if done.reason == "Permission denied" and len(found) == 1:
            raise HostError(f"{path} cannot be read: {done.reason}.")
        return tuple(sorted(found[1:], key=lambda entry: entry.name))

    def which(self, program: str) -> str | None:
        """See Host."""
        found = self._do(scripts.which(program), what=f"which {program}").stdout
        return found.decode(errors="surrogateescape") or None

    # Ports

    def dial(self, port: int, *, timeout: float) -> Connection:
        """See Host."""
        link = self.link()
        try:
            channel = link.transport.open_channel(
                "direct-tcpip", ("127.0.0.1", port), ("127.0.0.1", 0), timeout=timeout
            )
        except paramiko.ChannelException as error:
            if error.code == _PROHIBITED:
                raise HostError(
                    f"sshd on {self.name} does not let llmctl reach its ports.",
                    hint="In /etc/ssh/sshd_config there: AllowTcpForwarding local",
                ) from None
            raise ConnectionRefusedError(f"{self.name} refuses port {port}") from None
        except (paramiko.SSHException, EOFError) as error:
            raise ConnectionError(f"{self.name}: {error}") from None
        return _Port(channel, link)


class _Port:
    """A channel as a Connection: the end of the whole SSH connection is no end of the stream."""

    def __init__(self, channel: paramiko.Channel, link: Link) -> None:
        self._channel, self._link = channel, link

    def settimeout(self, timeout: float | None, /) -> None:
        self._channel.settimeout(timeout)

    def sendall(self, data: bytes, /) -> None:
        self._channel.sendall(data)

    def recv(self, size: int, /) -> bytes:
        data = self._channel.recv(size)
        if not data and not self._link.is_up:
            raise ConnectionError("the SSH connection was lost")
        return data

    def close(self) -> None:
        with contextlib.suppress(EOFError, paramiko.SSHException):
            self._channel.close()


_HINTS = {
    "No space left on device": "Free some space there; the old file is untouched.",
    "Disk quota exceeded": "Free some space there; the old file is untouched.",
    "Read-only file system": "Mount it read-write, or set XDG_CONFIG_HOME to a place that is.",
    "Permission denied": "Give your user the right to write there.",
}


def _found(stdout: bytes) -> tuple[bool, bytes]:
    """The first line says whether there is such a program."""
    line, _, rest = stdout.partition(b"\n")
    return line != scripts.NO_PROGRAM.encode(), rest


def parse_entries(raw: bytes) -> tuple[Entry, ...]:
    """What scripts.look() prints. Links that lead nowhere are left out."""
    fields = raw.decode(errors="surrogateescape").split("\0")
    rows = zip(*[iter(fields[:-1])] * 5, strict=True)
    return tuple(
        Entry(path.rpartition("/")[2], int(size), _nanoseconds(when), kind == "d", int(mode, 8))
        for path, kind, size, when, mode in rows
        if kind not in ("l", "N", "L")
    )


def _nanoseconds(when: str) -> int:
    """Of find's %T@: seconds and ten digits of a fraction."""
    seconds, _, fraction = when.partition(".")
    return int(seconds) * 10**9 + int(fraction[:9].ljust(9, "0"))
