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


def replica_unit_name(profile: str, number: int) -> str:
    """The unit that runs a further instance of a profile. number: 2 for the first of them."""
    return f"llm-{profile}@{number}.service"


def replica_template(profile: str) -> str:
    """The file that all further instances of a profile are made from: systemd.unit(5)."""
    return f"llm-{profile}@.service"


def instance_of(unit: str) -> tuple[str, int] | None:
    """The profile and the number of the instance that a unit's name stands for: 1 for its own unit,
    2 and more for its replicas; None for units that are not a model's."""
    name, at, number = unit.removeprefix("llm-").removesuffix(".service").partition("@")
    if not at:
        return (name, 1) if profile_of(unit) else None
    is_one = re.fullmatch(r"[1-9][0-9]{0,2}", number) is not None and number != "1"
    is_ours = is_one and NAME.fullmatch(name) and unit == replica_unit_name(name, int(number))
    return (name, int(number)) if is_ours else None


def replicated(unit: str) -> str | None:
    """The profile that a template's name stands for; None for all other units."""
    name = unit.removeprefix("llm-").removesuffix("@.service")
    return name if unit == replica_template(name) and NAME.fullmatch(name) else None
