"""Names that mean the same thing everywhere: profiles, groups, units."""

import re

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
DEFAULT_GROUP = "gpu"
RESIDENT = "none"
SLICE = "llm.slice"


def unit_name(profile: str) -> str:
    """The unit that runs a profile."""
    return f"llm-{profile}.service"


def profile_of(unit: str) -> str | None:
    """The profile that a unit's name stands for; None for units that are not a model's."""
    name = unit.removeprefix("llm-").removesuffix(".service")
    return name if unit == unit_name(name) and NAME.fullmatch(name) else None
