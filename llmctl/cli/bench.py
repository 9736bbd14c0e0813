"""llmctl bench"""

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from llmctl.cli.boxes import LOCAL, open_box
from llmctl.cli.options import HostOption, JsonOption, NameArgument, VerboseOption
from llmctl.cli.output import INTERRUPTED, answer, answer_json, say, table
from llmctl.cli.progress import Progress
from llmctl.core.bench import Comparison, Figures, Record, Spread, compared
from llmctl.core.draft_worth import worth_of
from llmctl.engine import bench_log
from llmctl.engine.bench import GENERATE, RUNS, Bench, Wish
from llmctl.engine.bench_target import Running
from llmctl.engine.clock import SystemClock

PromptOption = Annotated[
    list[int] | None,
    typer.Option(
        "--prompt", "-p", min=1, metavar="N", show_default=False,
        help="Tokens to read; may be given several times. Default: 512 and 4096, as far as the"
        " model's context reaches.",
    ),
]  # fmt: skip
GenerateOption = Annotated[
    int, typer.Option("--generate", "-g", min=2, metavar="N", help="Tokens to write.")
]
RunsOption = Annotated[
    int, typer.Option("--runs", "-r", min=2, metavar="N", help="Runs that count, after one more.")
]
ForceOption = Annotated[
    bool, typer.Option("--force", help="Measure beside other requests too, and keep nothing.")
]


def bench(
    name: NameArgument,
    prompt: PromptOption = None,
    generate: GenerateOption = GENERATE,
    runs: RunsOption = RUNS,
    concurrency: Annotated[
        int, typer.Option("--concurrency", "-c", min=1, metavar="N", help="Requests at once.")
    ] = 1,
    force: ForceOption = False,
    host: HostOption = LOCAL,
    json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """How fast the running model NAME reads and writes, beside what was measured before.

    It switches nothing. Ctrl-C ends it, and what was measured by then is kept.
    """
    box = open_box(host, verbose=verbose)
    wish = Wish(
        prompts=tuple(prompt or ()), generate=generate, runs=runs, concurrency=concurrency,
        force=force,
    )  # fmt: skip
    before, found = bench_log.known(box), list[Record]()
    interrupted = False
    with Progress(quiet=json) as progress:
        work = Bench(box, name, wish, clock=SystemClock(), report=progress.report)
        try:
            for one in work.run():
                found.append(one)
        except KeyboardInterrupt:
            interrupted = True
    show = show_facts if json else show_cases
    show(work.target, found, [compared(one, before) for one in found])
    if interrupted:
        say("interrupted: what is not shown was not measured.")
        raise typer.Exit(INTERRUPTED)


def show_facts(
    target: Running, found: Sequence[Record], beside: Sequence[Sequence[Comparison]]
) -> None:
    """As JSON. beside: each one's comparisons."""
    cases = [
        {**record_facts(one), "compared": [_comparison_facts(two) for two in others]}
        for one, others in zip(found, beside, strict=True)
    ]
    answer_json({
        "profile": target.name, "build": target.build, "flags": target.flags,
        "digest": target.digest, "cases": cases,
    })  # fmt: skip


def record_facts(one: Record) -> dict[str, Any]:
    """A measurement's JSON shape; docs/reference/json.md holds it."""
    case, seen = one.case, one.figures
    return {
        "time": one.time, "prompt": case.prompt, "generate": case.generate,
        "concurrency": case.concurrency, "drafting": case.drafting, "runs": seen.runs,
        "prompt_tokens": seen.prompt_tokens,
        "prompt_tokens_per_s": _spread_facts(seen.prompt_per_s),
        "tokens_per_s": _spread_facts(seen.generation_per_s),
        "total_tokens_per_s": _spread_facts(seen.total_per_s),
        "ttft_s": _spread_facts(seen.ttft_s), "wall_s": _spread_facts(seen.wall_s),
        "drafted_tokens": seen.drafted, "accepted_tokens": seen.accepted,
        "acceptance": seen.acceptance and round(seen.acceptance, 4),
        "draft_cost": one.draft_cost,
        "draft_speedup": draft_speedup(one),
    }  # fmt: skip


def draft_speedup(one: Record) -> float | None:
    """How much faster than without a draft; None: nothing without one was measured."""
    found = worth_of(one)
    return None if found is None else round(found.speed, 3)


def _spread_facts(one: Spread) -> dict[str, float]:
    return {"median": one.median, "min": one.least, "max": one.most}


def _comparison_facts(one: Comparison) -> dict[str, Any]:
    return {
        "time": one.time, "same": one.same, "tokens_per_s_change": round(one.generation, 4),
        "prompt_tokens_per_s_change": round(one.prompt, 4), "clear": one.clear,
        "differs": list(one.apart),
    }  # fmt: skip


def show_cases(
    target: Running, found: Sequence[Record], beside: Sequence[Sequence[Comparison]]
) -> None:
    """For people. beside: each one's comparisons."""
    if not found:
        return
    answer(f"{target.name}, build {target.build}, flags {target.digest}")
    header = ("CASE", "PROMPT TOK/S", "TOK/S", "ALL TOK/S", "FIRST TOKEN", "DRAFT")
    table(header, [row(one) for one in found])
    for one, others in zip(found, beside, strict=True):
        for told in (*(_compared(two) for two in others), *_worth(one)):
            answer(f"{one.case.told}: {told}")


def row(one: Record) -> tuple[str, ...]:
    """A measurement for people."""
    seen = one.figures
    at_once = _range(seen.total_per_s) if one.case.concurrency > 1 else "-"
    return (
        one.case.told, _range(seen.prompt_per_s), _range(seen.generation_per_s), at_once,
        f"{seen.ttft_s.median:.2f} s", draft_cell(seen),
    )  # fmt: skip


def draft_cell(seen: Figures) -> str:
    """How much of what was drafted was accepted."""
    return "-" if seen.acceptance is None else f"{seen.acceptance:.0%} of {seen.drafted}"


def _range(one: Spread) -> str:
    return f"{one.median:.1f} ({one.least:.1f} to {one.most:.1f})"


def _compared(one: Comparison) -> str:
    day = one.time[:16].replace("T", " ")
    change = f"{one.generation:+.0%} (prompt {one.prompt:+.0%})"
    clear = "" if one.clear else ", within the spread"
    if one.same:
        return f"{change} since {day}{clear}"
    return f"{change} against {day}{clear}: {', '.join(one.apart)}"


def _worth(one: Record) -> tuple[str, ...]:
    found = worth_of(one)
    if found is None:
        return ()
    told = f"with its draft {found.speed:.2f} times as fast as without"
    if found.speed >= 1:
        return (told,)
    return (
        f"{told}: {found.counted.acceptance:.0%} are accepted, and a drafted token costs"
        f" {found.cost:.0%} of a step; `llmctl tune {one.profile} --draft` finds how many pay",
    )
