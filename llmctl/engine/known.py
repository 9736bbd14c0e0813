"""A host far away, with what a survey of it brought: what is known is not asked again.

The rules. Files are known for a few seconds and until they are written; what changes by itself
(units, processes, ports) only until the next command is run, and each of it for one question.
Whatever changes something goes to the box at once, and its answer is the box's.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from llmctl.engine.look import look_script, path_of
from llmctl.engine.survey import TIMEOUT_S, Survey, parse_survey, survey_script
from llmctl.host.base import Connection, Entry, Host, Result
from llmctl.systemd import SHOW, UNITS_ARGV

FILES_S = 20.0
VOLATILE_S = 10.0
_SMALL = 4


class Scripted(Host, Protocol):
    """A Host that can run a script for its shell in one round trip."""

    def script(self, text: str, *, what: str, timeout: float, secret: bool = False) -> bytes:
        """What the script writes."""
        ...


class KnownHost:
    """Host: another one, asked ahead.

    It asks nothing before it is asked something, so that making one is free.
    """

    def __init__(self, inner: Scripted) -> None:
        self._inner = inner
        self._survey: Survey | None = None
        self._when = self._when_volatile = 0.0
        self._stale: set[str] = set()
        self._awaited: tuple[int, tuple[bytes, ...]] | None = None
        self._looked_at: tuple[str, ...] = ()
        self._is_settled = False

    @property
    def name(self) -> str:
        """See Host."""
        return self._inner.name

    # What is known

    @property
    def _known(self) -> Survey:
        if self._survey is None:
            raw = self._inner.script(survey_script(), what="a survey", timeout=TIMEOUT_S)
            self._learn(parse_survey(raw))
        assert self._survey is not None  # noqa: S101  # learned just now
        return self._survey

    def _learn(self, survey: Survey) -> None:
        self._survey, self._when = survey, time.monotonic()
        self._when_volatile = self._when

    def _is_fresh(self, path: str) -> bool:
        return path not in self._stale and time.monotonic() - self._when < FILES_S

    def _forget_volatile(self) -> None:
        known = self._survey
        if known is None:
            return
        self._is_settled = False
        known.units, known.show, known.volatile, known.answers = None, {}, {}, {}

    def _volatile(self) -> Survey | None:
        is_fresh = time.monotonic() - self._when_volatile < VOLATILE_S
        return self._survey if is_fresh else None

    def _changed(self, path: str) -> None:
        """A file and what holds it are no longer as they were known."""
        above = path.rpartition("/")[0]
        while above:
            self._stale.add(above)
            above = above.rpartition("/")[0]
        self._stale.add(path)

    # Commands

    def environ(self) -> Mapping[str, str]:
        """See Host."""
        return self._known.environ or self._inner.environ()

    def run(self, argv: Sequence[str], *, timeout: float) -> Result:
        """See Host."""
        told = self._told(tuple(argv))
        if told is not None:
            return Result(tuple(argv), 0, told, "")
        self._forget_volatile()
        if self._awaited is not None and tuple(argv[: len(SHOW)]) == SHOW:
            return self._look(argv, timeout=timeout)
        return self._inner.run(argv, timeout=timeout)

    def run_all(self, argvs: Sequence[Sequence[str]], *, timeout: float) -> Result:
        """See Host."""
        self._forget_volatile()
        return self._inner.run_all(argvs, timeout=timeout)

    def _told(self, argv: tuple[str, ...]) -> str | None:
        """The answer to a question about units, if it is known; it is then known no more."""
        is_about_units = argv == UNITS_ARGV or argv[: len(SHOW)] == SHOW
        known = self._known if is_about_units else None
        if known is None or self._volatile() is None:
            return None
        if argv == UNITS_ARGV:
            told, known.units = known.units, None
            return told
        units = argv[len(SHOW) + 1 :]
        if argv[: len(SHOW)] != SHOW or not units or not set(units) <= set(known.show):
            return None
        told = "\n\n".join(known.show[unit] for unit in units)
        if not self._is_settled:
            known.show = {unit: one for unit, one in known.show.items() if unit not in units}
        return told

    def lines(self, argv: Sequence[str]) -> Iterator[str]:
        """See Host."""
        return self._inner.lines(argv)

    # While a model is waited for

    def await_port(self, port: int, requests: Sequence[bytes]) -> None:
        """From now on, have questions about units wait on the box for a moment until something
        changes there, and bring along what the port answers."""
        self._awaited = port, tuple(requests)

    def _look_again(self, port: int) -> None:
        """Before a port is asked that a model is waited for at: ask all of it at once."""
        known = self._volatile()
        if not self._looked_at or self._awaited is None or self._awaited[0] != port:
            return
        if known is None or not any(whose == port for whose, _ in known.answers):
            self._look(self._looked_at, timeout=TIMEOUT_S)

    def _look(self, argv: Sequence[str], *, timeout: float) -> Result:
        assert self._awaited is not None  # noqa: S101  # asked by run
        port, requests = self._awaited
        self._looked_at = tuple(argv)
        script = look_script(argv, port, requests)
        secret = any(b"Authorization" in one for one in requests)
        raw = self._inner.script(script, what=argv[0], timeout=timeout, secret=secret)
        found = parse_survey(raw)
        if not found.show:  # it failed: why, the command itself says
            return self._inner.run(argv, timeout=timeout)
        known = self._known
        known.volatile = found.volatile
        told = {path_of(asked): answer for (_, asked), answer in found.answers.items()}
        pairs = ((one, told.get(path_of(one))) for one in requests)
        known.answers = {(port, one): answer for one, answer in pairs if answer is not None}
        self._is_settled = any(_is_well(one) for one in known.answers.values())
        if self._is_settled:  # the wait is over: who asks next would hear the same
            known.show = found.show
        self._when_volatile = time.monotonic()
        return Result(tuple(argv), 0, "\n\n".join(found.show.values()), "")

    # Files

    def read(self, path: str, *, start: int = 0, length: int | None = None) -> bytes:
        """See Host."""
        known = self._known
        if path.startswith("/proc/"):
            if (start, length) == (0, None) and path in known.volatile and self._volatile():
                return known.volatile.pop(path)
        elif self._is_fresh(path):
            if path in known.files:
                return known.files[path][start : None if length is None else start + length]
            if (start, length) == (0, _SMALL) and path in known.magic:
                return known.magic[path]
            if self._is_absent(path):
                raise FileNotFoundError(path)
        return self._inner.read(path, start=start, length=length)

    def _is_absent(self, path: str) -> bool:
        """Its directory was listed, and it is not in there."""
        above = path.rpartition("/")[0]
        known = self._known
        return above in known.listings and path not in known.entries and self._is_fresh(above)

    def write(self, path: str, data: bytes, *, mode: int = 0o644) -> None:
        """See Host."""
        self._changed(path)
        self._inner.write(path, data, mode=mode)

    def remove(self, path: str) -> None:
        """See Host."""
        self._changed(path)
        self._inner.remove(path)

    def stat(self, path: str) -> Entry | None:
        """See Host."""
        if self._is_fresh(path) and not path.startswith("/proc/"):
            if path in self._known.entries:
                return self._known.entries[path]
            if self._is_absent(path):
                return None
        return self._inner.stat(path)

    def list(self, path: str) -> tuple[Entry, ...]:
        """See Host."""
        known = self._known
        if path in known.listings and self._is_fresh(path):
            return known.listings[path]
        return self._inner.list(path)

    def make_dir(self, path: str) -> None:
        """See Host."""
        self._changed(f"{path}/")
        self._inner.make_dir(path)

    def which(self, program: str) -> str | None:
        """See Host."""
        return self._known.programs.get(program) or self._inner.which(program)

    # Ports

    def dial(self, port: int, *, timeout: float) -> Connection:
        """See Host."""
        self._look_again(port)
        known = self._volatile()
        held = known.answers.items() if known else ()
        answers = [answer for (whose, _), answer in held if whose == port]
        if known is None or not answers:
            return self._inner.dial(port, timeout=timeout)
        if not any(answers):
            known.answers = {key: one for key, one in known.answers.items() if key[0] != port}
            raise ConnectionRefusedError(f"{self.name} refuses port {port}")
        return _Replay(self._inner, port, known, timeout=timeout)


def _is_well(answer: bytes) -> bool:
    """HTTP's 200."""
    return answer[:5] == b"HTTP/" and answer[8:12] == b" 200"


class _Replay:
    """A Connection to a port whose answer may be known; to any other question it is a real one."""

    def __init__(self, inner: Host, port: int, known: Survey, *, timeout: float) -> None:
        self._inner, self._port, self._known = inner, port, known
        self._timeout: float | None = timeout
        self._answer: bytes | None = None
        self._real: Connection | None = None

    def settimeout(self, timeout: float | None, /) -> None:
        self._timeout = timeout
        if self._real is not None:
            self._real.settimeout(timeout)

    def sendall(self, data: bytes, /) -> None:
        self._answer = self._known.answers.pop((self._port, data), None)
        if not self._answer:
            self._real = self._inner.dial(self._port, timeout=self._timeout or 60.0)
            self._real.settimeout(self._timeout)
            self._real.sendall(data)

    def recv(self, size: int, /) -> bytes:
        if self._real is not None:
            return self._real.recv(size)
        piece, self._answer = (self._answer or b"")[:size], (self._answer or b"")[size:]
        return piece

    def close(self) -> None:
        if self._real is not None:
            self._real.close()
