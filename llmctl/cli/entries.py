"""How commands show a log of JSON lines: the last entries as a table, or each as it comes."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any

import msgspec
import typer

from llmctl.cli.output import answer, answer_json, say, table
from llmctl.engine.box import Box
from llmctl.engine.proxy_logs import follow_entries, last_entries

FollowOption = Annotated[bool, typer.Option("--follow", "-f", help="Go on as they come.")]
LinesOption = Annotated[int, typer.Option("--lines", "-n", min=0, help="How many at first.")]


class Columns(msgspec.Struct, frozen=True):
    """A log as a table. widths: of each column but the last, where lines come one by one. nothing:
    what is said of an empty log."""

    header: tuple[str, ...]
    widths: tuple[int, ...]
    row: Callable[[dict[str, Any]], tuple[str, ...]]
    nothing: str


def show_entries(
    box: Box, log: str, columns: Columns, *, lines: int, follow: bool, json: bool
) -> None:
    """Print them. log: its path on the box."""
    with contextlib.suppress(KeyboardInterrupt):  # the usual way to end --follow
        if follow:
            _follow(follow_entries(box, log, lines=lines), columns, as_json=json)
            return
        found = last_entries(box, log, lines=lines)
        if json:
            answer_json(found)
            return
        table(columns.header, [columns.row(one) for one in found], folds=False)
        if not found:
            say(columns.nothing)


def _follow(entries: Iterator[dict[str, Any]], columns: Columns, *, as_json: bool) -> None:
    """One line for each: what comes later cannot widen a column."""
    if not as_json:
        answer(_line(columns.header, columns.widths), flush=True)
    for one in entries:
        text = _compact(one) if as_json else _line(columns.row(one), columns.widths)
        answer(text, flush=True)


def _compact(one: dict[str, Any]) -> str:
    return msgspec.json.encode(one).decode()


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
    return "  ".join(padded).rstrip()


def time_cell(one: dict[str, Any]) -> str:
    """The time of an entry: of day, in UTC, as it stands in the log."""
    return str(one.get("time", "-"))[:19].replace("T", " ")


def cell(value: object) -> str:
    """A fact of an entry, or a dash."""
    return "-" if value in (None, "", []) else str(value)
