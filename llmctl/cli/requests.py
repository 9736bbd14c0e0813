"""llmctl requests"""

from typing import Any

from llmctl.cli.boxes import LOCAL, open_box
from llmctl.cli.entries import Columns, FollowOption, LinesOption, cell, show_entries, time_cell
from llmctl.cli.options import HostOption, JsonOption, VerboseOption

HEADER = (
    "TIME", "KEY", "ENDPOINT", "ASKED", "SERVED", "IN", "OUT", "QUEUE", "TTFT", "TOTAL", "TOK/S",
    "DRAFT", "OUTCOME",
)  # fmt: skip
_WIDTHS = (19, 10, 11, 14, 14, 6, 6, 7, 7, 8, 6, 5, 0)


def requests(
    follow: FollowOption = False,
    lines: LinesOption = 20,
    host: HostOption = LOCAL,
    json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """What the proxy answered: who asked for which model, how long it took, how it ended."""
    box = open_box(host, verbose=verbose)
    columns = Columns(HEADER, _WIDTHS, row, "The proxy has noted down no requests.")
    show_entries(box, box.store.request_log, columns, lines=lines, follow=follow, json=json)


def row(one: dict[str, Any]) -> tuple[str, ...]:
    """An entry for people."""
    speed = one.get("tokens_per_s")
    return (
        time_cell(one),
        *(cell(one.get(key)) for key in ("key", "endpoint", "asked")),
        _served(one),
        *(cell(one.get(key)) for key in ("tokens_in", "tokens_out")),
        *(_time(one.get(key)) for key in ("queue_s", "ttft_s", "total_s")),
        f"{speed:.1f}" if speed else "-",
        _share(one.get("draft_accepted"), one.get("draft_tokens")),
        cell(one.get("outcome")),
    )


def _share(accepted: int | None, drafted: int | None) -> str:
    """How much of what was drafted was accepted."""
    return f"{(accepted or 0) / drafted:.0%}" if drafted else "-"


def _served(one: dict[str, Any]) -> str:
    """A replica's number is told, where one answered."""
    number = one.get("instance") or 1
    return cell(one.get("served")) + (f"@{number}" if number > 1 else "")


def _time(seconds: float | None) -> str:
    """Milliseconds up to ten seconds."""
    if seconds is None:
        return "-"
    return f"{1000 * seconds:.0f} ms" if seconds < 10 else f"{seconds:.1f} s"
