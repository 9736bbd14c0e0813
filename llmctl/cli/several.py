"""`--host` given more than once: boxes are asked at once, and a dead one does not stop the rest."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Generic, TypeVar

import typer

from llmctl.cli.boxes import LOCAL, open_box
from llmctl.cli.output import answer_json, complain_of, error_facts, warn
from llmctl.core.progress import Event, Note, Report
from llmctl.engine.ahead import Ahead
from llmctl.engine.box import Box
from llmctl.errors import LlmctlError

T = TypeVar("T")
NO_ANSWER = "no answer"


class Told(Generic[T]):
    """What a box answered, or why it did not. Exactly one of the two is there."""

    def __init__(self, box: str, *, answer: T | None, error: LlmctlError | None) -> None:
        self.box = box
        self.answer = answer
        self.error = error


def names_of(hosts: Sequence[str] | None) -> list[str]:
    """The boxes that are meant, each once; this machine where none was named."""
    return list(dict.fromkeys(hosts or [LOCAL]))


def ask_each(
    names: Sequence[str], ask: Callable[[Box], T], *, verbose: bool = False
) -> list[Told[T]]:
    """What each box answers, in the order of the names: all are asked at the same time, each in
    its own thread, so that it takes as long as the slowest."""
    asked = [(name, Ahead(partial(_ask, name, ask, verbose=verbose))) for name in names]
    return [_told(name, one) for name, one in asked]


def _ask(name: str, ask: Callable[[Box], T], *, verbose: bool) -> T:
    return ask(open_box(name, verbose=verbose))


def _told(name: str, asked: Ahead[T]) -> Told[T]:
    try:
        return Told(name, answer=asked.result(), error=None)
    except LlmctlError as error:
        return Told(name, answer=None, error=error)


def answer_each(told: Sequence[Told[T]], facts: Callable[[T], Any]) -> None:
    """The answers as JSON: for each box what it answers alone, or the error."""
    answer_json({
        "boxes": [
            {
                "host": one.box,
                "answer": None if one.answer is None else facts(one.answer),
                "error": None if one.error is None else error_facts(one.error),
            }
            for one in told
        ]
    })  # fmt: skip


def complain_of_each(told: Sequence[Told[Any]]) -> None:
    """Tell on stderr which boxes did not answer, and why."""
    for one in told:
        if one.error is not None:
            is_named = one.error.message.startswith(one.box)
            complain_of(one.error, where="" if is_named else f"{one.box}: ")


def leave(told: Sequence[Told[Any]]) -> None:
    """End with the highest status of any box; return when all answered."""
    statuses = [one.error.exit_status for one in told if one.error is not None]
    if statuses:
        raise typer.Exit(max(statuses))


def notes_of(box: str) -> Report:
    """A report that tells of a box only what a person should know; progress of several at once
    would be a muddle."""

    def report(event: Event) -> None:
        if isinstance(event, Note):
            warn(f"{box}: {event.text}")

    return report
