"""llmctl schema"""

import enum
from typing import Annotated

import typer

from llmctl.cli.output import answer_json
from llmctl.core import config, profile


class Which(enum.StrEnum):
    """Documents with a schema."""

    PROFILE = "profile"
    CONFIG = "config"


def schema(
    which: Annotated[Which, typer.Argument(help="Whose schema.")] = Which.PROFILE,
) -> None:
    """JSON Schema of profiles, for editors."""
    answer_json(profile.json_schema() if which is Which.PROFILE else config.json_schema())
