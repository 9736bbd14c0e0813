"""Scripts on a box, each in a channel of one connection: both streams, a deadline, a status."""

import contextlib
import secrets
import threading
import time
from collections.abc import Iterator
from typing import Any

import msgspec
import paramiko

from llmctl.errors import HostError, LostError, NoAnswerError, UnreachableError
from llmctl.host import ssh_scripts as scripts
from llmctl.host.ssh_link import Link

OPEN_TIMEOUT_S = 15.0
END_TIMEOUT_S = 2
KILL_TIMEOUT_S = 2.0
_PIECE_BYTES = 1 << 18
_NO_STATUS = -1
"""paramiko's: no status has come. It is also that of a program that a signal ended."""
_TICK_S = 1.0
"""How often a lost connection is looked for while nothing comes."""


class Output(msgspec.Struct, frozen=True):
    """What a script wrote, after the marks, and how it ended."""

    status: int
    stdout: bytes
    stderr: bytes

    @property
    def reason(self) -> str:
        """Why it failed: the end of what coreutils say on stderr."""
        lines = self.stderr.decode(errors="replace").strip().splitlines()
        return lines[-1].rpartition(": ")[2].rstrip(".") if lines else f"status {self.status}"


class Shell:
    """A box's shell. what: what a script is called in complaints."""

    def __init__(self, link: Link, name: str) -> None:
        self._link, self._name = link, name

    def run(
        self, script: str, *, what: str, timeout: float, data: bytes = b"", secret: bool = False
    ) -> Output:
        """Run a script to its end. secret: nobody else on the box may see it.

        NoAnswerError: it was sent, and what became of it is unknown.
        """
        run = Run(self._link, self._name, what)
        deadline = time.monotonic() + timeout
        try:
            run.send(script, data, secret=secret, deadline=deadline)
            out, err = bytearray(), bytearray()
            for stdout, stderr in run.pieces(deadline):
                out += stdout
                err += stderr
            return run.output(bytes(out), bytes(err))
        except TimeoutError:
            self._kill(run)
            raise NoAnswerError(f"{what} did not end within {timeout:g} s.") from None
        finally:
            run.close()

    def begin(self, script: str, *, what: str) -> "Run":
        """Start a script whose output is read as it comes."""
        run = Run(self._link, self._name, what)
        run.send(script, deadline=time.monotonic() + OPEN_TIMEOUT_S)
        return run

    def end(self, run: "Run") -> None:
        """End a script, if it still runs, and wait until it is gone."""
        pid = run.pid
        if pid and not run.has_ended and self._link.is_up:
            with contextlib.suppress(HostError):
                self.run(
                    scripts.end(pid, seconds=END_TIMEOUT_S), what="kill", timeout=3 * END_TIMEOUT_S
                )
        run.close()

    def _kill(self, run: "Run") -> None:
        """Kill what outlasts its deadline; closing a channel ends nothing. It is waited for a
        moment: a script whose channel is closed dies of its first word, before it kills."""
        if not (run.pid and self._link.is_up):
            return
        deadline = time.monotonic() + KILL_TIMEOUT_S
        with contextlib.suppress(HostError, TimeoutError):
            killer = Run(self._link, self._name, "kill")
            try:
                killer.send(f"kill -KILL {run.pid}", deadline=deadline)
                for _ in killer.pieces(deadline):
                    pass
            finally:
                killer.close()


class Run:
    """One script in one channel. pid: of the shell, and of the program that it became."""

    def __init__(self, link: Link, name: str, what: str) -> None:
        self._link, self._name, self._what = link, name, what
        self._mark = f"llmctl-{secrets.token_hex(8)}"
        self._news = threading.Event()
        self._pending = {1: b"", 2: b""}
        self._marked = {1: False, 2: False}
        self.pid = 0
        self._channel = self._open()

    @property
    def mark(self) -> str:
        """The line that comes before what the script itself says."""
        return self._mark

    def _open(self) -> paramiko.Channel:
        try:
            channel = self._link.transport.session(timeout=OPEN_TIMEOUT_S)
        except (paramiko.SSHException, EOFError, OSError) as error:
            # Nothing was sent, so nothing is unknown.
            if self._link.is_up:
                raise HostError(
                    f"sshd on {self._name} opens no further session: {self._what} was not run.",
                    hint="In /etc/ssh/sshd_config there: MaxSessions 10",
                ) from error
            raise UnreachableError(
                f"the connection to {self._name} is lost: {self._what} was not run.",
                hint=f"Is it there? ssh {self._name} true",
            ) from error
        return channel

    def send(
        self, script: str, data: bytes = b"", *, secret: bool = False, deadline: float
    ) -> None:
        """Have the box run a script with `data` on its stdin."""
        channel: Any = self._channel
        channel.in_buffer.set_event(self._news)
        channel.in_stderr_buffer.set_event(self._news)
        try:
            line, begin = scripts.door(script, self._mark, secret=secret)
            self._link.transport.execute(self._channel, line)
            self._link.transport.ask_for_session()
            channel.settimeout(max(0.1, deadline - time.monotonic()))
            channel.sendall(begin + data)
            channel.shutdown_write()
        except TimeoutError:
            raise
        except (paramiko.SSHException, EOFError, OSError):
            if not self._link.is_up:
                raise self._lost() from None
            # The shell went away without reading: what it said is the answer.

    def pieces(self, deadline: float | None) -> Iterator[tuple[bytes, bytes]]:
        """What comes on stdout and stderr after the marks, as it comes, to the end of both.

        TimeoutError: the deadline has passed. LostError: the connection is.
        """
        while True:
            self._news.clear()
            over = self._is_over()
            stdout = self._take(1, self._channel.recv_ready, self._channel.recv)
            stderr = self._take(2, self._channel.recv_stderr_ready, self._channel.recv_stderr)
            if stdout or stderr:
                yield stdout, stderr
                continue
            if over and not (self._channel.recv_ready() or self._channel.recv_stderr_ready()):
                break
            if not self._link.is_up:
                raise self._lost()
            left = _TICK_S if deadline is None else deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self._news.wait(min(left, _TICK_S))
        if not (self.has_ended or self._link.is_up):
            raise self._lost()
        rest = self._pending
        self._pending = {1: b"", 2: b""}
        if rest[2] and not self._marked[1]:  # never marked: what the login shell itself said
            yield b"", rest[2]

    def _is_over(self) -> bool:
        ended = self._channel.eof_received and self.has_ended
        return bool(self._channel.closed or ended)

    def _take(self, which: int, ready: Any, receive: Any) -> bytes:
        data = b"".join(iter(lambda: receive(_PIECE_BYTES) if ready() else b"", b""))
        if self._marked[which] or not data:
            return data
        pending = self._pending[which] + data
        _, found, after = pending.partition(self._mark.encode())
        line, newline, rest = after.partition(b"\n")
        if not (found and newline):
            self._pending[which] = pending
            return b""
        self._pending[which], self._marked[which] = b"", True
        if which == 1:
            self.pid = int(line)
        return rest

    @property
    def has_ended(self) -> bool:
        """Its exit status is known; paramiko's own word for that also means "hung up"."""
        return bool(self._channel.exit_status != _NO_STATUS)

    def output(self, stdout: bytes, stderr: bytes) -> Output:
        """All of it. HostError: the box's login shell runs no commands."""
        if not self._marked[1]:
            said = (stderr.decode(errors="replace").strip().splitlines() or [""])[-1]
            raise HostError(
                f"the login shell on {self._name} runs no commands{': ' * bool(said)}{said}.",
                hint=f"Does `ssh {self._name} uname` work?",
            )
        return Output(self._channel.recv_exit_status(), stdout, stderr)

    def close(self) -> None:
        """Let the channel go."""
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            self._channel.close()

    def _lost(self) -> LostError:
        return LostError(
            f"the connection to {self._name} was lost: what became of `{self._what}` is unknown.",
            hint="See what is true as soon as it is there again: "
            f"llmctl status --host {self._name}",
        )
