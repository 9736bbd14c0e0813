"""What `llmctl status` prints of several boxes: one table."""

from collections.abc import Iterator, Sequence

from llmctl.cli.output import answer, table, warn
from llmctl.cli.overview import HEADER, facts, notes_of, proxy_lines, rows_of, warnings_of
from llmctl.cli.several import NO_ANSWER, Told, answer_each, ask_each, complain_of_each, leave
from llmctl.engine.box import Box
from llmctl.engine.proxy_view import ProxyView, proxy_view
from llmctl.engine.status import Overview, overview

Seen = tuple[Overview, ProxyView | None]


def show_overviews(names: Sequence[str], *, as_json: bool, verbose: bool = False) -> None:
    """The state of boxes. Ends with a status when one of them did not answer."""
    told = ask_each(names, _look, verbose=verbose)
    if as_json:
        answer_each(told, lambda seen: facts(seen[0], proxy=seen[1]))
    else:
        _show(told)
    leave(told)


def _look(box: Box) -> Seen:
    return overview(box), proxy_view(box)


def _show(told: Sequence[Told[Seen]]) -> None:
    table(("BOX", *HEADER), [row for one in told for row in _rows(one)])
    for one in told:
        if one.answer is not None:
            seen, proxy = one.answer
            said, warned = proxy_lines(proxy, known=seen.problems)
            for line in (*notes_of(seen), *said):
                answer(f"{one.box}: {line}")
            for line in (*warnings_of(seen), *warned):
                warn(f"{one.box}: {line}")
    complain_of_each(told)


def _rows(one: Told[Seen]) -> Iterator[tuple[str, ...]]:
    if one.answer is None:
        blank = len(HEADER) - 3
        yield one.box, "-", "-", NO_ANSWER, *("-" * blank)
        return
    for row in rows_of(one.answer[0]):
        yield one.box, *row
