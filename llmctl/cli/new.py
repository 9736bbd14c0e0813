"""llmctl new"""

from typing import Annotated, Any

import msgspec
import typer

from llmctl.cli.boxes import LOCAL, open_box
from llmctl.cli.options import HostOption, JsonOption, VerboseOption
from llmctl.cli.output import answer, answer_json, typed_here, warn
from llmctl.cli.paths import working_dir
from llmctl.core.memory.advice import shortage
from llmctl.core.memory.request import placing
from llmctl.core.memory.words import in_words
from llmctl.engine.new_profile import Asked, Draft, drafted, write


def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What you will type.")],
    file: Annotated[str, typer.Argument(metavar="FILE", help="A GGUF file.")],
    ctx: Annotated[
        str | None, typer.Option(metavar="N|auto", help="Context in tokens; auto.")
    ] = None,
    kv: Annotated[
        str | None, typer.Option(metavar="TYPE", help="Type of K and V, or K,V; f16.")
    ] = None,
    binary: Annotated[
        str | None, typer.Option(metavar="NAME", help="A llama-server build of config.yaml.")
    ] = None,
    group: Annotated[str | None, typer.Option(metavar="NAME", help="Its group, or none.")] = None,
    port: Annotated[
        int | None, typer.Option(metavar="PORT", help="Of a resident (--group none).")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Write it although the model does not fit.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the profile, write nothing.")
    ] = False,
    host: HostOption = LOCAL,
    json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Write a profile for a GGUF file, with a plan for this box."""
    box = open_box(host, verbose=verbose)
    cwd = working_dir(box) if box.host.name == LOCAL else None
    asked = Asked(
        name=name, file=file, cwd=cwd, ctx=ctx, kv=kv, binary=binary, group=group, port=port,
        force=force,
    )  # fmt: skip
    draft = drafted(box, asked)
    if not dry_run:
        write(box, draft)
    if json:
        answer_json(facts(draft, written=not dry_run))
        return
    if dry_run:
        answer(draft.text.rstrip("\n"))
    else:
        _show(draft)
    for one in draft.warnings:
        warn(one)


def _show(draft: Draft) -> None:
    answer(f"wrote {draft.path}")
    answer(f"plan: {_plan(draft)}")
    for one in draft.plan.offers if draft.plan else ():
        answer(f"offer: {one}")
    answer("next:")
    commands = {typed_here(command): what for command, what in _next(draft).items()}
    width = max(map(len, commands))
    for command, what in commands.items():
        answer(f"  {command.ljust(width)}  # {what}")


def _next(draft: Draft) -> dict[str, str]:
    name = draft.profile.name
    return {
        f"llmctl switch {name}": "serve it now",
        f"llmctl apply {name}": "only install its unit",
    }


def _plan(draft: Draft) -> str:
    if draft.plan is None:
        return "none yet"
    if not draft.plan.fits:
        return f"it does not fit: {shortage(draft.plan)}"
    return in_words(draft.plan, draft.units)


def facts(draft: Draft, *, written: bool) -> dict[str, Any]:
    """The JSON shape of `new`; docs/reference/json.md holds it."""
    plan = draft.plan
    values = msgspec.to_builtins(draft.profile)
    return {
        "profile": draft.profile.name,
        "path": draft.path,
        "written": written,
        "values": {key: value for key, value in values.items() if key != "name"},
        "fits": plan and plan.fits,
        "ctx": plan and plan.settings.ctx,
        "args": list(placing(plan)) if plan else [],
        "offers": list(plan.offers) if plan else [],
        "not_planned": draft.why_not or None,
        "text": draft.text,
        "next": list(_next(draft)),
        "warnings": list(draft.warnings),
    }
