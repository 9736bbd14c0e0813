"""Options and arguments that several commands share."""

from typing import Annotated

import typer

from llmctl.cli.output import named_hosts


def _one_box(host: str) -> str:
    """Of several, the last alone would count, and nobody would be told."""
    if len(named_hosts()) > 1:
        raise typer.BadParameter("expected one box; status, list and off take several.")
    return host


def complete_profile(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of profiles, for the shell's completion."""
    from llmctl.cli import completion  # no command needs it

    return completion.profiles(ctx.params.get("host"), incomplete)


def complete_box(incomplete: str) -> list[str]:
    """Names of boxes, for the shell's completion."""
    from llmctl.cli import completion

    return completion.boxes(incomplete)


HostOption = Annotated[
    str,
    typer.Option(
        "--host", envvar="LLMCTL_HOST", metavar="BOX", autocompletion=complete_box,
        help="The box to talk to.", callback=_one_box,
    ),
]  # fmt: skip
BoxArgument = Annotated[
    str, typer.Argument(metavar="BOX", autocompletion=complete_box, help="A box.")
]
HostsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--host", envvar="LLMCTL_HOST", metavar="BOX", autocompletion=complete_box,
        help="The box to talk to; may be repeated.",
    ),
]  # fmt: skip
JsonOption = Annotated[bool, typer.Option("--json", help="Print facts as JSON.")]
VerboseOption = Annotated[
    bool, typer.Option("--verbose", "-v", help="Say more: what is run on the box.")
]
NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", autocompletion=complete_profile, help="A profile.")
]
NamesArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="[NAME]...", autocompletion=complete_profile, help="Profiles."),
]
