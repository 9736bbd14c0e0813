"""llmctl guard test"""

import typer

from llmctl.cli.guard_look import look

guard = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None)


@guard.callback()
def root() -> None:
    """The guard: loops of models, and what was done about them."""


guard.command("test")(look)
