"""Options and arguments that several commands share."""

from typing import Annotated

import typer

from llmctl.engine.box import Box
from llmctl.host.local import LocalHost


def complete_profile(incomplete: str) -> list[str]:
    """Names of profiles, for the shell's completion."""
    return [name for name in Box(LocalHost()).store.names if name.startswith(incomplete)]


HostOption = Annotated[
    str,
    typer.Option("--host", envvar="LLMCTL_HOST", metavar="BOX", help="The box to talk to."),
]
HostsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--host", envvar="LLMCTL_HOST", metavar="BOX", help="The box to talk to; may be repeated."
    ),
]
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
