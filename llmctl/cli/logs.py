"""llmctl logs"""

import contextlib
from typing import Annotated

import typer

from llmctl.cli.boxes import LOCAL, open_box
from llmctl.cli.options import HostOption, VerboseOption, complete_profile
from llmctl.cli.output import answer, say
from llmctl.core.words import unit_name
from llmctl.engine.box import Box
from llmctl.engine.evidence import follow as follow_unit
from llmctl.engine.evidence import last_lines
from llmctl.engine.status import overview
from llmctl.errors import UsageError


def logs(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]", autocompletion=complete_profile, help="Default: the active model."
        ),
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as lines come.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many at first.")] = 50,
    host: HostOption = LOCAL,
    verbose: VerboseOption = False,
) -> None:
    """What a model's server wrote."""
    with contextlib.suppress(KeyboardInterrupt):  # the usual way to end --follow
        box = open_box(host, verbose=verbose)
        if name is not None:
            box.store.require([name.partition("@")[0]])  # NAME@2 is a replica
        _print(box, name or _active(box), lines=lines, follow=follow)


def _active(box: Box) -> str:
    seen = overview(box)
    names = [one.active for one in seen.groups if one.active]
    names += [one.profile for one in seen.instances if one.profile not in names]
    if not names:
        raise UsageError("no model is active.", hint="Name one: llmctl logs NAME")
    return names[0]


def _print(box: Box, profile: str, *, lines: int, follow: bool) -> None:
    unit = unit_name(profile)
    if follow:
        for line in follow_unit(box, unit, lines=lines):
            answer(line, flush=True)
        return
    found = last_lines(box, unit, lines=lines)
    for line in found:
        answer(line)
    if not found:
        say(f"{unit} has written nothing that can be read.")
        if box.store.log_file(profile) is None:
            say(
                "hint: if it should have, the journal may not be kept: `sudo mkdir -p "
                "/var/log/journal && sudo journalctl --flush`, or `logs: file` in config.yaml."
            )
