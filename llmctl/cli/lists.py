"""What `llmctl list` prints of several boxes: one table."""

from collections.abc import Sequence
from typing import Any

from llmctl.cli.output import table, warn
from llmctl.cli.profiles import HEADER, profile_facts, row_of
from llmctl.cli.several import NO_ANSWER, Told, answer_each, ask_each, complain_of_each, leave

Rows = list[dict[str, Any]]


def show_lists(names: Sequence[str], *, as_json: bool, verbose: bool = False) -> None:
    """The profiles of boxes. Ends with a status when one of them did not answer."""
    told: list[Told[Rows]] = ask_each(names, profile_facts, verbose=verbose)
    if as_json:
        answer_each(told, lambda rows: rows)
    else:
        table(("BOX", *HEADER), [(one.box, *row) for one in told for row in _rows(one)])
        for one in told:
            for problem in (text for row in one.answer or () for text in row["problems"]):
                warn(f"{one.box}: {problem}")
        complain_of_each(told)
    leave(told)


def _rows(one: Told[Rows]) -> list[tuple[str, ...]]:
    if one.answer is None:
        row = dict.fromkeys(HEADER, "-") | {"STATE": NO_ANSWER}
        return [tuple(row.values())]
    return [row_of(row) for row in one.answer]
