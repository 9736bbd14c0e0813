"""llmctl guard log, and llmctl guard test"""

from typing import Any

import typer

from llmctl.cli.boxes import LOCAL, open_box
from llmctl.cli.entries import Columns, FollowOption, LinesOption, cell, show_entries, time_cell
from llmctl.cli.guard_look import look
from llmctl.cli.options import HostOption, JsonOption, VerboseOption

guard = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None)

HEADER = (
    "TIME", "MODEL", "ENDPOINT", "KIND", "CHANNEL", "STEP", "OUTCOME", "REPEATS", "BLOCK", "HELD",
    "TOOLS",
)  # fmt: skip
_WIDTHS = (19, 14, 11, 9, 9, 8, 7, 7, 6, 6, 0)


@guard.callback()
def root() -> None:
    """The guard: loops of models, and what was done about them."""


guard.command("test")(look)


@guard.command()
def log(
    follow: FollowOption = False,
    lines: LinesOption = 20,
    host: HostOption = LOCAL,
    json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """What the guard found, what it did about it, and what came of it."""
    box = open_box(host, verbose=verbose)
    columns = Columns(HEADER, _WIDTHS, row, "The guard has found nothing.")
    show_entries(box, box.store.guard_log, columns, lines=lines, follow=follow, json=json)


def row(one: dict[str, Any]) -> tuple[str, ...]:
    """An entry for people. Blocks are bytes of text; of tool calls, steps."""
    copies = one.get("copies")
    return (
        time_cell(one),
        *(cell(one.get(key)) for key in ("model", "endpoint", "kind", "channel")),
        *(cell(one.get(key)) for key in ("step", "outcome")),
        "-" if copies is None else f"{copies:g}",
        *(cell(one.get(key)) for key in ("block", "held_characters")),
        cell(", ".join(one.get("tools") or ())),
    )
