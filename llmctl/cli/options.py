"""Options and arguments that several commands share, and the box they mean."""

from typing import Annotated

import typer

from llmctl.engine.box import Box
from llmctl.errors import HostError
from llmctl.host.local import LocalHost

LOCAL = "local"


def complete_profile(incomplete: str) -> list[str]:
    """Names of profiles, for the shell's completion."""
    return [name for name in Box(LocalHost()).store.names if name.startswith(incomplete)]


HostOption = Annotated[
    str,
    typer.Option("--host", envvar="LLMCTL_HOST", metavar="BOX", help="The box to talk to."),
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


def open_box(host: str, *, verbose: bool = False) -> Box:
    """The box of that name. HostError: it is not one that llmctl can reach."""
    if host != LOCAL:
        raise HostError(
            f"there is no box {host}.",
            hint="This version speaks to this machine only: leave --host out.",
        )
    if not verbose:
        return Box(LocalHost())
    from llmctl.cli.trace import Traced

    return Box(Traced(LocalHost()))
