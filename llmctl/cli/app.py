"""The `llmctl` command: its commands, loaded one at a time, and the one handler of errors.

`status` answers in a blink only if it pays for nothing but itself, so a command's module is
imported when that command is asked for (tests/bench holds this).
"""

import importlib
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from llmctl import __version__
from llmctl.cli.output import guarded
from llmctl.errors import UsageError

# In the order of `llmctl --help`; each is a function of the module llmctl.cli.<module>.
COMMANDS = {
    "status": "status",
    "switch": "switch",
    "off": "switch",
    "logs": "logs",
    "requests": "requests",
    "guard": "guard",
    "list": "profiles",
    "show": "profiles",
    "render": "profiles",
    "plan": "plan",
    "bench": "bench",
    "tune": "tune",
    "scan": "scan",
    "new": "new",
    "devices": "devices",
    "apply": "apply",
    "enable": "boot",
    "disable": "boot",
    "proxy": "proxy",
    "host": "host",
    "wake": "power",
    "sleep": "power",
    "aliases": "aliases",
    "doctor": "doctor",
    "schema": "schema",
}
_NAME = "llmctl"
"""Also where it was started as `python -m llmctl`: completion asks for it by its name."""
_PYTHON_NAMES = {"list": "list_"}


class LazyGroup(TyperGroup):
    """A group whose commands are imported when they are asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names of all commands."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of that name, or None."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"llmctl.cli.{COMMANDS[cmd_name]}")
        found = getattr(module, _PYTHON_NAMES.get(cmd_name, cmd_name))
        if isinstance(found, typer.Typer):  # it has commands of its own
            return typer.main.get_group(found)
        one = typer.Typer(add_completion=False, rich_markup_mode=None)
        one.command(cmd_name)(found)
        return typer.main.get_command(one)


app = typer.Typer(
    cls=LazyGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"llmctl {__version__}")
        raise typer.Exit


@app.callback()
def root(
    _version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Serve one language model at a time, by systemd, and switch between them truly."""


def main() -> None:
    """Run the command line; every failure of ours ends here, with its exit status."""
    with guarded():
        if "--json" not in sys.argv:
            app(prog_name=_NAME)
            return
        try:
            sys.exit(app(prog_name=_NAME, standalone_mode=False))
        except _ClickError as error:
            raise UsageError(error.format_message()) from None


# Typer's own base class of usage errors, wherever this version of it keeps Click.
_ClickError: Any = typer.BadParameter.__mro__[2]
