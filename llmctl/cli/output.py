"""stdout is the answer, stderr is the conversation.

On a terminal Rich draws; in a pipe there are plain lines, and Rich is not even imported. Text is
never markup: a model's path may hold `[brackets]`.
"""

import contextlib
import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TextIO

import msgspec

from llmctl.core.finding import with_host
from llmctl.errors import LlmctlError, SwitchError

if TYPE_CHECKING:
    from rich.console import Console

Row = Sequence[str]
EVIDENCE_LINES = 12
UNFOLDED = 14
"""Characters of a cell that stays on one line, however narrow the terminal is."""
INTERRUPTED = 130  # 128 + SIGINT, as shells have it
STYLES = {
    "ready": "green",
    "loading": "yellow",
    "failed": "bold red",
    "stopped": "dim",
    "current": "dim",
    "broken": "bold red",
    "fits": "green",
    "no": "red",
    "ok": "green",
    "advice": "yellow",
    "wrong": "bold red",
    "error": "bold red",
    "no answer": "bold red",
}


def is_terminal(stream: TextIO) -> bool:
    """Somebody is watching it."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def width() -> int | None:
    """Columns of the terminal that shows the answer; None: it goes elsewhere."""
    return console(sys.stdout).width if is_terminal(sys.stdout) else None


def console(stream: TextIO) -> "Console":
    """A Rich console that prints text as it is."""
    from rich.console import Console

    return Console(file=stream, markup=False, highlight=False, emoji=False, soft_wrap=True)


def answer(text: str, *, flush: bool = False) -> None:
    """A line of the answer; `flush` it where more comes only much later."""
    print(text, flush=flush)  # noqa: T201  # this is the one door to stdout


def answer_json(facts: Mapping[str, Any] | Sequence[Any]) -> None:
    """The answer as JSON."""
    answer(msgspec.json.format(msgspec.json.encode(facts), indent=2).decode())


def named_hosts() -> set[str]:
    """The boxes that were typed after --host."""
    words = sys.argv[1:]
    found = {after for before, after in pairwise(words) if before == "--host"}
    return found | {word.removeprefix("--host=") for word in words if word.startswith("--host=")}


def typed_here(text: str) -> str:
    """What llmctl says to type, such that it means the box that `--host` has named: without it, it
    would mean this machine. A $LLMCTL_HOST needs no saying: it holds for what is typed next, too.
    """
    named = named_hosts()
    return with_host(text, shlex.quote(named.pop())) if len(named) == 1 else text


def say(text: str, *, style: str = "") -> None:
    """A line of the conversation. What stands in a file may be in it, but moves no cursor."""
    if text.startswith(("error: ", "hint: ", "warning: ")):
        text = typed_here(text)
    text = "".join(one if one.isprintable() or one in "\n\t" else f"{one!a}"[1:-1] for one in text)
    if style and is_terminal(sys.stderr):
        console(sys.stderr).print(text, style=style)
    else:
        print(text, file=sys.stderr, flush=True)  # noqa: T201  # the one door to stderr


def table(header: Row, rows: Sequence[Row], *, folds: bool = True) -> None:
    """Rows under a header. A cell that is a state gets its colour. folds: long cells go on in their
    column on a narrow terminal; else, where a row is one entry of a log, it stays one line."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    if is_terminal(sys.stdout):
        _rich_table(header, rows, widths, folds=folds)
        return
    for row in (header, *rows):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        answer("  ".join(cells).rstrip())


def _rich_table(header: Row, rows: Sequence[Row], widths: Sequence[int], *, folds: bool) -> None:
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=None, pad_edge=False)
    for word, width in zip(header, widths, strict=True):
        # Nothing is cut off, since paths are for copying; and short cells stay whole.
        drawn.add_column(Text(word, style="bold"), overflow="fold", no_wrap=width <= UNFOLDED)
    for row in rows:
        drawn.add_row(*(Text(cell, style=_style(cell)) for cell in row))
    screen = console(sys.stdout)
    if not folds:
        screen.width = max(screen.width, sum(widths) + 2 * len(widths))
    screen.print(drawn)


def _style(cell: str) -> str:
    """A cell's colour: that of the word it is, or begins with (`fits, ctx 8192`, `no: ...`)."""
    return STYLES.get(cell.partition(",")[0].partition(":")[0], "")


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """The one handler of errors: what is raised on purpose is told, and ends with its status."""
    try:
        yield
        sys.stdout.flush()
    except LlmctlError as error:
        complain(error, as_json="--json" in sys.argv)
        sys.exit(error.exit_status)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:  # `llmctl logs | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


def complain(error: LlmctlError, *, as_json: bool) -> None:
    """An error and what to do about it; as JSON on stdout where the answer would have been."""
    if as_json:
        answer_json({"error": error_facts(error)})
    else:
        complain_of(error)


def complain_of(error: LlmctlError, *, where: str = "") -> None:
    """An error and what to do about it, on stderr. where: stands before the message."""
    if isinstance(error, SwitchError):
        for line in telling(error.evidence):
            say(f"  | {line[:200]}", style="dim")
    say(f"error: {where}{error.message}", style="bold red")
    if error.hint:
        say(f"hint: {error.hint}")


def telling(lines: Sequence[str]) -> list[str]:
    """The last lines, from the first of them that is an error (` E `, llama-server's own mark)."""
    last = list(lines[-EVIDENCE_LINES:])
    first = next((at for at, line in enumerate(last) if " E " in line or "error" in line), 0)
    return last[first:]


def error_facts(error: LlmctlError) -> dict[str, Any]:
    """The JSON shape of an error."""
    hint = error.hint and typed_here(error.hint)
    facts: dict[str, Any] = {"message": error.message, "hint": hint}
    facts["status"] = error.exit_status
    if isinstance(error, SwitchError):
        facts["evidence"] = telling(error.evidence)
    return facts


def warn(text: str) -> None:
    """Something a person should know."""
    say(f"warning: {text}", style="yellow")


def gib(count: int | None) -> str:
    """Bytes for people: `1.9 GiB`, `512 MiB`."""
    if count is None:
        return "-"
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def duration(seconds: float | None) -> str:
    """Seconds for people: `12s`, `3m 4s`, `2h 5m`, `3d 4h`."""
    if seconds is None:
        return "-"
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60}s"
    if whole < 86400:
        return f"{whole // 3600}h {whole % 3600 // 60}m"
    return f"{whole // 86400}d {whole % 86400 // 3600}h"
