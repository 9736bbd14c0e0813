"""llmctl tune"""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer

from llmctl.cli.bench import ForceOption, GenerateOption, draft_cell, record_facts
from llmctl.cli.boxes import LOCAL, open_box
from llmctl.cli.options import HostOption, JsonOption, NameArgument, VerboseOption
from llmctl.cli.output import INTERRUPTED, answer, answer_json, say, table
from llmctl.cli.progress import Progress
from llmctl.core.tuning import Point, winner
from llmctl.core.yaml_text import flow
from llmctl.engine.bench import GENERATE, Wish
from llmctl.engine.box import Box
from llmctl.engine.clock import SystemClock
from llmctl.engine.tune import Tried, Tune
from llmctl.engine.tune_points import Points
from llmctl.engine.tune_write import write_point
from llmctl.errors import LlmctlError, UsageError

PROMPT = 512
RUNS = 3
_BAR = 20
_ENDS = (signal.SIGTERM, signal.SIGHUP)


def tune(
    name: NameArgument,
    draft: Annotated[
        bool, typer.Option("--draft", help="Try drafts: none, and so many tokens at a time.")
    ] = False,
    values: Annotated[
        str | None,
        typer.Option("--values", metavar="N,N,...", help="What to try instead."),
    ] = None,
    prompt: Annotated[
        int, typer.Option("--prompt", "-p", min=1, metavar="N", help="Tokens to read.")
    ] = PROMPT,
    generate: GenerateOption = GENERATE,
    runs: Annotated[
        int, typer.Option("--runs", "-r", min=2, metavar="N", help="Runs of each, after one more.")
    ] = RUNS,
    check: Annotated[
        bool, typer.Option("--check", help="Only say what would be tried, and what fits.")
    ] = False,
    write: Annotated[
        bool, typer.Option("--write", help="Write the winner into the profile.")
    ] = False,
    force: ForceOption = False,
    host: HostOption = LOCAL,
    json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:  # fmt: skip
    """Try n_cpu_moe, or drafts, around the plan of NAME, and show which is fastest.

    Each one is a real switch of the model. At the end, at Ctrl-C and at any failure, what ran
    before runs again. The profile is changed only with --write.
    """
    box = open_box(host, verbose=verbose)
    sweep = Points(box, name)
    points = (sweep.of_drafts if draft else sweep.of_experts)(_numbers(values))
    if check:
        _show_check(name, points, as_json=json)
        return
    wish = Wish(prompts=(prompt,), generate=generate, runs=runs, force=force)
    with Progress(quiet=json, steps=False) as progress:
        work = Tune(box, name, points, wish, clock=SystemClock(), report=progress.report)
        found, is_whole = _swept(work)
    best = _best(found) if is_whole else None
    written = _written(open_box(host, verbose=verbose), best) if write else None
    show = _show_facts if json else show_points
    show(name, points, found, best, written)
    if not is_whole:
        raise typer.Exit(INTERRUPTED)


def _written(box: Box, best: Point | None) -> str | None:
    """The profile's path, if there was something to write."""
    if best is None or not best.keys:
        return None
    path = write_point(box, best)
    with contextlib.suppress(LlmctlError):  # it is planned at the next switch, too
        Box(box.host).resolve(best.profile.name, ask=True)
    return path


def _numbers(text: str | None) -> tuple[int, ...]:
    if text is None:
        return ()
    words = text.split(",")
    if not all(one.strip().isdecimal() for one in words):
        raise UsageError(f"--values {text}: expected whole numbers, such as 8,10,12.")
    return tuple(int(one) for one in words)


def _swept(work: Tune) -> tuple[list[Tried], bool]:
    """What was tried; was it all of it? Whatever ends it, the way back is gone first."""
    found: list[Tried] = []
    with _ends_as_interrupt():
        try:
            for one in work.run():
                found.append(one)
                if one.record:
                    speed = one.record.figures.generation_per_s.median
                    say(f"{one.point.label}: {speed:.1f} tok/s")
        except KeyboardInterrupt:
            say("interrupted: going back to what ran before; Ctrl-C again leaves it as it is.")
            return found, False
        finally:
            if told := work.end():
                say(told)
    return found, True


@contextlib.contextmanager
def _ends_as_interrupt() -> Iterator[None]:
    """A closed terminal and a polite kill end the sweep as Ctrl-C does, once."""

    def interrupt(number: int, _frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)
        if number == signal.SIGHUP:  # nobody reads on, and writing would fail on the way back
            sys.stdout = sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115  # to the end
        raise KeyboardInterrupt

    old = {one: signal.signal(one, interrupt) for one in _ENDS}
    try:
        yield
    finally:
        for one, handler in old.items():
            signal.signal(one, handler)


def _best(found: Sequence[Tried]) -> Point | None:
    return winner([(one.point, one.record.figures) for one in found if one.record])


# What is said


def _show_check(name: str, points: Sequence[Point], *, as_json: bool) -> None:
    if as_json:
        _show_facts(name, points, (), None, None)
        return
    table(("POINT", "TRY"), [(one.label, _try(one)) for one in points])


def _try(one: Point) -> str:
    if one.why_not:
        return f"no: {one.why_not}"
    return "fits, as it is now" if one.is_now else "fits"


def show_points(
    name: str, points: Sequence[Point], found: Sequence[Tried], best: Point | None,
    written: str | None,
) -> None:  # fmt: skip
    """For people: the curve, and what is best."""
    rates = [one.record.figures.generation_per_s.median for one in found if one.record]
    by_label = {one.point.label: one for one in found}
    rows = [_row(one, by_label.get(one.label), best, max(rates, default=1.0)) for one in points]
    table(("POINT", "PROMPT TOK/S", "TOK/S", "", "REQUEST", "DRAFT", "NOTE"), rows)
    if best is None:
        return
    if best.is_now:
        answer(f"{name}: nothing is clearly faster than what the profile says.")
        return
    told = "; ".join(f"{key}: {flow(one)}" for key, one in best.keys.items())
    if written:
        answer(f"{name}: {told} is written to {written}; llmctl switch {name} runs it.")
    else:
        answer(f"{name}: {told} is fastest; llmctl tune writes it with --write.")


def _row(point: Point, tried: Tried | None, best: Point | None, most: float) -> tuple[str, ...]:
    notes = [text for text, holds in (("now", point.is_now), ("best", point is best)) if holds]
    if tried is None or tried.record is None:
        why = tried.failure if tried and tried.failure else point.why_not or "not tried"
        return (point.label, "-", "-", "", "-", "-", "; ".join((*notes, why)))
    seen = tried.record.figures
    speed = seen.generation_per_s.median
    return (
        point.label, f"{seen.prompt_per_s.median:.1f}", f"{speed:.1f}",
        "#" * max(1, round(_BAR * speed / most)), f"{seen.wall_s.median:.2f} s", draft_cell(seen),
        "; ".join(notes),
    )  # fmt: skip


def _show_facts(
    name: str, points: Sequence[Point], found: Sequence[Tried], best: Point | None,
    written: str | None,
) -> None:  # fmt: skip
    """As JSON; docs/reference/json.md holds it."""
    by_label = {one.point.label: one for one in found}
    answer_json({
        "profile": name,
        "points": [_point_facts(one, by_label.get(one.label)) for one in points],
        "best": best and best.label,
        "keys": dict(best.keys) if best else {},
        "written": written,
    })  # fmt: skip


def _point_facts(point: Point, tried: Tried | None) -> dict[str, Any]:
    return {
        "point": point.label, "keys": point.keys, "now": point.is_now,
        "fits": point.why_not is None, "why_not": point.why_not,
        "failure": tried.failure if tried else None,
        "measured": record_facts(tried.record) if tried and tried.record else None,
    }  # fmt: skip
