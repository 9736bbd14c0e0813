"""-v: every command that is run on the box, as it could be typed, on stderr."""

import shlex
from collections.abc import Iterator, Mapping, Sequence

from llmctl.cli.output import say
from llmctl.host.base import Connection, Entry, Host, Result


class Traced:
    """Host: another host, that says what it runs and writes."""

    def __init__(self, inner: Host) -> None:
        self._inner = inner

    @property
    def name(self) -> str:
        """See Host."""
        return self._inner.name

    def await_port(self, port: int, requests: Sequence[bytes]) -> None:
        """See KnownHost: for the other host, if it is one."""
        if (wait := getattr(self._inner, "await_port", None)) is not None:
            wait(port, requests)

    def environ(self) -> Mapping[str, str]:
        """See Host."""
        return self._inner.environ()

    def run(self, argv: Sequence[str], *, timeout: float) -> Result:
        """See Host."""
        result = self._inner.run(argv, timeout=timeout)
        _tell(f"{shlex.join(argv)}{f'  -> {result.status}' if result.status else ''}")
        return result

    def run_all(self, argvs: Sequence[Sequence[str]], *, timeout: float) -> Result:
        """See Host."""
        result = self._inner.run_all(argvs, timeout=timeout)
        for argv in argvs:
            _tell(shlex.join(argv))
        return result

    def lines(self, argv: Sequence[str]) -> Iterator[str]:
        """See Host."""
        _tell(shlex.join(argv))
        return self._inner.lines(argv)

    def read(self, path: str, *, start: int = 0, length: int | None = None) -> bytes:
        """See Host."""
        return self._inner.read(path, start=start, length=length)

    def write(self, path: str, data: bytes, *, mode: int = 0o644) -> None:
        """See Host."""
        _tell(f"write {path} ({len(data)} bytes)")
        self._inner.write(path, data, mode=mode)

    def remove(self, path: str) -> None:
        """See Host."""
        _tell(f"remove {path}")
        self._inner.remove(path)

    def stat(self, path: str) -> Entry | None:
        """See Host."""
        return self._inner.stat(path)

    def list(self, path: str) -> tuple[Entry, ...]:
        """See Host."""
        return self._inner.list(path)

    def make_dir(self, path: str) -> None:
        """See Host."""
        self._inner.make_dir(path)

    def which(self, program: str) -> str | None:
        """See Host."""
        return self._inner.which(program)

    def dial(self, port: int, *, timeout: float) -> Connection:
        """See Host."""
        return self._inner.dial(port, timeout=timeout)


def _tell(text: str) -> None:
    say(f"+ {text}", style="dim")
