"""Progress on stderr: live on a terminal, plain lines in a pipe."""

import sys
from types import TracebackType
from typing import Any

from llmctl.cli.output import console, is_terminal, say, warn
from llmctl.core.plan import describe
from llmctl.core.progress import Began, Event, Note, Waiting

EVERY_S = 10.0
WORTH_SAYING_S = 1.0


class Progress:
    """A context in which the engine's events become visible; steps only if they are wanted."""

    def __init__(self, *, quiet: bool = False, steps: bool = True) -> None:
        self._quiet = quiet
        self._steps = steps
        self._live: Any = None
        self._said: tuple[str, float] = ("", -EVERY_S)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    def report(self, event: Event) -> None:
        """Show an event."""
        match event:
            case Note(text):
                self._stop()
                warn(text)
            case Began(step, back):
                self._stop()
                if self._steps and not self._quiet:
                    say(f"{'back: ' if back else ''}{describe(step)}", style="dim")
            case Waiting():
                self._wait(event)

    def _wait(self, event: Waiting) -> None:
        if self._quiet:
            return
        text = _words(event)
        if is_terminal(sys.stderr):
            if self._live is None:
                self._live = console(sys.stderr).status(text)
                self._live.start()
            self._live.update(text)
        elif event.elapsed_s < WORTH_SAYING_S:
            return
        elif event.what != self._said[0] or event.elapsed_s - self._said[1] >= EVERY_S:
            self._said = (event.what, event.elapsed_s)
            say(text)

    def _stop(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None


def _words(event: Waiting) -> str:
    share = f" {event.fraction:.0%}" if event.fraction is not None else ""
    return f"{event.what}{share} ({event.elapsed_s:.0f} s)"
