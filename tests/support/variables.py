"""The variables of ansible/: what the roles' argument specifications and defaults say."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ANSIBLE = Path(__file__).resolve().parents[2] / "ansible"


def roles() -> list[str]:
    """In the order in which site.yml runs them."""
    play = yaml.safe_load((ANSIBLE / "site.yml").read_text("utf-8"))[0]
    return [one["role"] for one in play["roles"]]


@cache
def spec(role: str) -> dict[str, Any]:
    """What a role takes, as Ansible itself checks it."""
    path = ANSIBLE / "roles" / role / "meta" / "argument_specs.yml"
    main: dict[str, Any] = yaml.safe_load(path.read_text("utf-8"))["argument_specs"]["main"]
    return main


@cache
def defaults(role: str) -> dict[str, Any]:
    path = ANSIBLE / "roles" / role / "defaults" / "main.yml"
    found: dict[str, Any] = yaml.safe_load(path.read_text("utf-8"))
    return found


def used(role: str) -> set[str]:
    """Variables of its own name that a role's files speak of."""
    folder = ANSIBLE / "roles" / role
    texts = [one.read_text("utf-8") for one in folder.rglob("*.yml") if one.parent.name != "meta"]
    texts += [one.read_text("utf-8") for one in folder.rglob("*.j2")]
    return set(re.findall(rf"\b{role}_\w+", "\n".join(texts)))


def table() -> str:
    """A section for each role, a row for each variable."""
    return "\n\n".join(_section(role) for role in roles())


def _section(role: str) -> str:
    rows = [
        f"| `{name}` | {one['type']} | {_cell(one)} | {_value(defaults(role)[name])} |"
        for name, one in spec(role)["options"].items()
    ]
    header = "| variable | type | what for | default |\n|---|---|---|---|"
    parts = [f"## {role}", f"{spec(role)['short_description']}.", "\n".join([header, *rows])]
    for name, one in spec(role)["options"].items():
        if "options" in one:
            parts += [f"Each of `{name}`:", _entries(one["options"])]
    return "\n\n".join(parts)


def _entries(options: dict[str, Any]) -> str:
    rows = [
        f"| `{name}` | {one['type']} | {_cell(one)}{' Required.' * one.get('required', False)} |"
        for name, one in options.items()
    ]
    return "\n".join(["| key | type | what for |", "|---|---|---|", *rows])


def _cell(one: dict[str, Any]) -> str:
    return " ".join(one["description"].split()).replace("|", "\\|")


def _value(value: Any) -> str:
    if value in ("", [], {}):
        return "-"
    flow = yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("...\n").strip()
    return f"`{flow}`".replace("|", "\\|")
