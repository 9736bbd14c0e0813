"""-v: every command that is run on the box, as it could be typed, on stderr."""

import shlex
from collections.abc import Sequence

from llmctl.cli.output import say
from llmctl.host.base import Result
from llmctl.host.local import LocalHost


class Traced(LocalHost):
    """A local host that says what it runs."""

    def __init__(self, inner: LocalHost) -> None:
        super().__init__(inner.environ())

    def run(self, argv: Sequence[str], *, timeout: float) -> Result:
        """See Host."""
        result = super().run(argv, timeout=timeout)
        status = f"  -> {result.status}" if result.status else ""
        say(f"+ {shlex.join(argv)}{status}", style="dim")
        return result

    def write(self, path: str, data: bytes, *, mode: int = 0o644) -> None:
        """See Host."""
        say(f"+ write {path} ({len(data)} bytes)", style="dim")
        super().write(path, data, mode=mode)
