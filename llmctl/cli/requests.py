"""llmctl requests"""

import contextlib
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from llmctl.cli.boxes import LOCAL, open_box
from llmctl.cli.options import HostOption, JsonOption, VerboseOption
from llmctl.cli.output import answer, answer_json, say, table
from llmctl.engine.requests import follow_requests, last_requests

HEADER = (
    "TIME", "KEY", "ENDPOINT", "ASKED", "SERVED", "IN", "OUT", "QUEUE", "TTFT", "TOTAL", "TOK/S",
    "OUTCOME",
)  # fmt: skip
_WIDTHS = (19, 10, 11, 14, 14, 6, 6, 7, 7, 8, 6, 0)


def requests(
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as they end.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many at first.")] = 20,
    host: HostOption = LOCAL,
    json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """What the proxy answered: who asked for which model, how long it took, how it ended."""
    box = open_box(host, verbose=verbose)
    with contextlib.suppress(KeyboardInterrupt):  # the usual way to end --follow
        if follow:
            _follow(follow_requests(box, lines=lines), as_json=json)
            return
        found = last_requests(box, lines=lines)
        if json:
            answer_json(found)
            return
        table(HEADER, [row(one) for one in found], folds=False)
        if not found:
            say("The proxy has noted down no requests.")


def _follow(entries: Iterator[dict[str, Any]], *, as_json: bool) -> None:
    """One line for each: what comes later cannot widen a column."""
    if not as_json:
        answer(_line(HEADER), flush=True)
    for one in entries:
        answer(_compact(one) if as_json else _line(row(one)), flush=True)


def _compact(one: dict[str, Any]) -> str:
    import msgspec

    return msgspec.json.encode(one).decode()


def _line(cells: tuple[str, ...]) -> str:
    padded = (cell.ljust(width) for cell, width in zip(cells, _WIDTHS, strict=True))
    return "  ".join(padded).rstrip()


def row(one: dict[str, Any]) -> tuple[str, ...]:
    """An entry for people: times of day in UTC, as it stands in the log."""
    speed = one.get("tokens_per_s")
    return (
        str(one.get("time", "-"))[:19].replace("T", " "),
        *(_text(one.get(key)) for key in ("key", "endpoint", "asked", "served")),
        *(_text(one.get(key)) for key in ("tokens_in", "tokens_out")),
        *(_time(one.get(key)) for key in ("queue_s", "ttft_s", "total_s")),
        f"{speed:.1f}" if speed else "-",
        _text(one.get("outcome")),
    )


def _text(value: object) -> str:
    return "-" if value in (None, "") else str(value)


def _time(seconds: float | None) -> str:
    """Milliseconds up to ten seconds."""
    if seconds is None:
        return "-"
    return f"{1000 * seconds:.0f} ms" if seconds < 10 else f"{seconds:.1f} s"
