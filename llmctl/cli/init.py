"""llmctl init"""

import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from llmctl.cli.apply import show_changes
from llmctl.cli.boxes import LOCAL, open_box
from llmctl.cli.far import on_the_box
from llmctl.cli.options import HostOption, JsonOption, VerboseOption
from llmctl.cli.output import answer, answer_json, say, warn
from llmctl.cli.paths import absolute
from llmctl.cli.progress import Progress
from llmctl.cli.proxy import warn_of_linger
from llmctl.core.memory.words import in_words
from llmctl.core.words import unit_name
from llmctl.engine.apply import Change, Kind, carry_out, plan_apply
from llmctl.engine.box import Box
from llmctl.engine.clock import SystemClock
from llmctl.engine.devices import Survey, survey
from llmctl.engine.first_run import Found, Settled, profiles_for_all, settle
from llmctl.engine.proxy_setup import Installed, install
from llmctl.errors import ProfileError


def init(
    models: Annotated[
        str | None, typer.Option(metavar="DIR", help="Where the models are; usual places.")
    ] = None,
    binary: Annotated[
        str | None, typer.Option(metavar="PATH", help="The llama-server; PATH, usual places.")
    ] = None,
    proxy: Annotated[
        bool, typer.Option("--proxy/--no-proxy", help="Install the proxy, too.")
    ] = True,
    host: HostOption = LOCAL,
    json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Set this box up: find llama-server, GPUs and models, write and install what serves them.

    What is there already stays as it is: doing it again adds what is new.
    """
    box = open_box(host, verbose=verbose)
    models = models and absolute(box, models)
    binary = absolute(box, binary) if binary and "/" in binary else binary
    if proxy and host != LOCAL:
        words = [*(["--models", models] if models else []), *["--json"] * json]
        on_the_box(box, "init", *words, *(["--binary", binary] if binary else []))
    settled = settle(box, binary=binary, models_dir=models)
    if not json:
        _say_settled(settled)
    box = open_box(host, verbose=verbose)  # another configuration, another box
    seen = survey(box)
    found = profiles_for_all(box)
    if not json:
        _say_found(seen, found)
    box = open_box(host, verbose=verbose)
    changes = _apply(box, quiet=json)
    installed = _install(box, quiet=json) if proxy else None
    if json:
        answer_json(facts(settled, seen, found, changes, installed))
    else:
        show_changes(box, [*changes, *(installed.changes if installed else ())])
        _say_end(found, box.store.names, installed)
    if not box.store.names:
        raise ProfileError(
            f"There is no model to serve below {settled.models_dir}.",
            hint="What is there, and why not: llmctl scan",
        )


def _apply(box: Box, *, quiet: bool) -> tuple[Change, ...]:
    changes = plan_apply(box)
    with Progress(quiet=quiet, steps=False) as progress:
        carry_out(box, changes, clock=SystemClock(), report=progress.report)
    return changes


def _install(box: Box, *, quiet: bool) -> Installed:
    with Progress(quiet=quiet, steps=False) as progress:
        return install(box, sys.executable, clock=SystemClock(), report=progress.report)


def _say_settled(settled: Settled) -> None:
    answer(f"{'wrote' if settled.written else 'kept'} {settled.path}")
    answer(f"llama-server: {settled.binary}")
    answer(f"models: {settled.models_dir}")
    if settled.others:
        say(f"also found, and not used: {', '.join(settled.others)}")


def _say_found(seen: Survey, found: Found) -> None:
    for gpu in seen.gpus:
        answer(f"GPU: {gpu.name}, {gpu.description}")
    for one in seen.warnings:
        warn(one)
    if not seen.gpus:
        answer("GPU: none; models run on the CPU")
    for draft in found.drafts:
        plan = in_words(draft.plan, draft.units) if draft.plan else "not planned yet"
        answer(f"wrote {draft.path} ({plan})")
    for left in found.left:
        warn(f"{left.file} got no profile: {left.why}")


def _say_end(found: Found, names: Sequence[str], installed: Installed | None) -> None:
    answer(f"profiles: {', '.join(names)}" if names else "profiles: none")
    if installed is not None:
        urls = ", ".join(f"http://{one}/v1" for one in installed.listen)
        answer(f"URL for clients: {urls}")
        warn_of_linger(installed.linger, installed.user)
        for one in installed.problems:
            warn(one)
    if names:
        first = found.drafts[0].profile.name if found.drafts else names[0]
        say(f"hint: Serve one: llmctl switch {first}")


def facts(
    settled: Settled, seen: Survey, found: Found, changes: Sequence[Change],
    installed: Installed | None,
) -> dict[str, Any]:  # fmt: skip
    """The JSON shape of `init`; docs/reference/json.md holds it."""
    every = [*changes, *(installed.changes if installed else ())]
    return {
        "config": {"path": settled.path, "written": settled.written},
        "binary": settled.binary,
        "models_dir": settled.models_dir,
        "not_used": list(settled.others),
        "devices": [one.name for one in seen.gpus],
        "profiles": [
            {
                "profile": one.profile.name, "path": one.path, "unit": unit_name(one.profile.name),
                "ctx": one.plan and one.plan.settings.ctx,
            }
            for one in found.drafts
        ],
        "known": list(found.known),
        "left": [{"file": one.file, "why": one.why} for one in found.left],
        "units": [
            {"unit": one.unit, "change": one.kind.value}
            for one in every if one.kind is not Kind.CURRENT
        ],
        "listen": [f"http://{one}" for one in installed.listen] if installed else [],
        "linger": installed and installed.linger,
    }  # fmt: skip
