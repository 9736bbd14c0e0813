"""llmctl apply"""

import difflib
import itertools
import sys
from collections.abc import Iterator, Sequence
from typing import Annotated

import typer

from llmctl.cli.boxes import LOCAL, open_box
from llmctl.cli.far import proxy_python
from llmctl.cli.options import HostOption, JsonOption, NamesArgument, VerboseOption
from llmctl.cli.output import answer, answer_json, console, is_terminal, warn
from llmctl.cli.progress import Progress
from llmctl.core.unit import PROCESS_VARIABLE, SECTION
from llmctl.engine.apply import Change, Kind, carry_out, plan_apply
from llmctl.engine.box import Box
from llmctl.engine.clock import SystemClock
from llmctl.engine.proxy_setup import follow
from llmctl.engine.proxy_units import proxy_changes
from llmctl.errors import ProfileError, UsageError

STALE = 1


def apply(
    names: NamesArgument = None,
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; exit 1 when something is stale.")
    ] = False,
    prune: Annotated[
        bool, typer.Option("--prune", help="Remove units whose profile is gone.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Render units anew that were edited by hand.")
    ] = False,
    host: HostOption = LOCAL,
    json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Install units, and show what changes.

    Units follow the profiles. Files that llmctl did not write are never touched, and those that
    were edited by hand are left as they are unless --overwrite is given.
    """
    if names and prune:
        raise UsageError("--prune looks at all profiles: leave the names out.")
    box = open_box(host, verbose=verbose)
    box.store.require(names or ())
    changes = plan_apply(box, names or (), prune=prune, overwrite=overwrite)
    if not names:
        changes += proxy_changes(box, proxy_python(box), overwrite=overwrite)
    if not check:
        with Progress(quiet=json, steps=False) as progress:
            carry_out(box, changes, clock=SystemClock(), report=progress.report)
            follow(box, changes, clock=SystemClock(), report=progress.report)
    if json:
        answer_json([_facts(one) for one in changes])
    else:
        show_changes(box, changes, check=check)
        _sum_up(changes)
    broken = [one.error for one in changes if one.error] + [
        box.not_ours(one.unit) for one in changes if one.kind is Kind.FOREIGN
    ]
    if broken and not json:
        problems = [problem for error in broken for problem in error.problems]
        raise ProfileError(problems, hint=broken[0].hint)
    if broken:
        raise typer.Exit(ProfileError.exit_status)
    if check and any(one.is_pending for one in changes):
        raise typer.Exit(STALE)


def _facts(change: Change) -> dict[str, object]:
    problems = list(change.error.problems) if change.error else []
    return {"unit": change.unit, "change": change.kind.value, "problems": problems}


def show_changes(box: Box, changes: Sequence[Change], *, check: bool = False) -> None:
    """What was done to each unit, or would be."""
    for change in changes:
        path = box.store.unit_path(change.unit)
        if change.kind is Kind.CREATE:
            answer(f"{'missing' if check else 'created'} {path}")
        elif change.kind is Kind.REMOVE:
            answer(f"{'left over' if check else 'removed'} {path}")
        elif change.kind is Kind.UPDATE:
            answer(f"{'stale' if check else 'updated'} {path}")
            _print_diff(_diff(change))
        elif change.kind is Kind.ORPHAN:
            warn(f"{path} has no profile any more; `llmctl apply --prune` removes it")
        elif change.kind is Kind.EDITED and change.after is None:
            warn(
                f"{path} was edited by hand and its profile is gone; remove it yourself: rm {path}"
            )
        elif change.kind is Kind.EDITED:
            warn(f"{path} was edited by hand and is left as it is; --overwrite renders it anew")


def _sum_up(changes: Sequence[Change]) -> None:
    if not any(one.is_pending for one in changes):
        answer(f"{len(changes)} units are current" if changes else "there are no profiles")


def _diff(change: Change) -> Iterator[str]:
    """What changes for a person: not the digests that llmctl signs the text with."""
    before, after = (_body(text or "") for text in (change.before, change.after))
    lines = difflib.unified_diff(before, after, n=0, lineterm="")
    return (line for line in itertools.islice(lines, 2, None) if not line.startswith("@@"))


def _body(text: str) -> list[str]:
    lines = text.partition(f"\n{SECTION}\n")[0].splitlines()
    return [line for line in lines if PROCESS_VARIABLE not in line]


def _print_diff(lines: Iterator[str]) -> None:
    if not is_terminal(sys.stdout):
        for line in lines:
            answer(f"  {line}")
        return
    styles = {"+": "green", "-": "red"}
    screen = console(sys.stdout)
    for line in lines:
        screen.print(f"  {line}", style=styles.get(line[:1], ""))
