"""llmctl schema"""

import enum
from typing import Annotated

import typer

from llmctl.cli.output import answer_json
from llmctl.core import config, hosts, profile


class Which(enum.StrEnum):
    """Documents with a schema."""

    PROFILE = "profile"
    CONFIG = "config"
    HOSTS = "hosts"


_SCHEMAS = {
    Which.PROFILE: profile.json_schema,
    Which.CONFIG: config.json_schema,
    Which.HOSTS: hosts.json_schema,
}


def schema(
    which: Annotated[Which, typer.Argument(help="Whose schema.")] = Which.PROFILE,
) -> None:
    """JSON Schema of profiles, for editors."""
    answer_json(_SCHEMAS[which]())
