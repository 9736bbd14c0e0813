"""The tables of docs/ that are made: from the annotations that also check and describe documents,
and from what estimates are compared with.

`python tests/support/reference.py --write` renews them in place; tests/unit/test_docs.py holds
them to what this makes. A block stands between `<!-- generated: NAME -->` and `<!-- end -->`.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from support import logs, oracle, variables

from llmctl.core.config import Config
from llmctl.core.guard.settings import GuardSettings
from llmctl.core.hosts import HostEntry
from llmctl.core.memory.traits import TRAITS
from llmctl.core.profile import Profile
from llmctl.core.proxy_settings import ProxySettings

if TYPE_CHECKING:
    from collections.abc import Callable

DOCS = Path(__file__).resolve().parents[2] / "docs"
END = "<!-- end -->"


def keys(kind: type[msgspec.Struct]) -> list[msgspec.structs.FieldInfo]:
    """What a document may say. A profile's name is its file's."""
    return [field for field in msgspec.structs.fields(kind) if field.name != "name"]


def table(kind: type[msgspec.Struct]) -> str:
    """One row for each key: what it takes, what it is for, its default, an example."""
    rows = [
        f"| `{field.name}` | {_cell(_note(field).title)} | {_cell(_note(field).description)} "
        f"| {_default(field)} | {_example(field)} |"
        for field in keys(kind)
    ]
    header = "| key | value | what for | default | example |\n|---|---|---|---|---|"
    return "\n".join([header, *rows])


def guesses() -> str:
    """The architectures whose cache is only bounded, and why."""
    reasons: dict[str, list[str]] = {}
    for name, traits in TRAITS.items():
        if traits.guess:
            reasons.setdefault(traits.guess, []).append(f"`{name}`")
    rows = [f"| {', '.join(names)} | {why} |" for why, names in reasons.items()]
    return "\n".join(["| architecture | why |", "|---|---|", *rows])


def _note(field: msgspec.structs.FieldInfo) -> msgspec.Meta:
    notes = [one for one in field.type.__metadata__ if isinstance(one, msgspec.Meta)]
    return next(note for note in reversed(notes) if note.title)


def _cell(text: str | None) -> str:
    return (text or "").replace("|", "\\|")


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return "required"
    value = field.default if field.default is not msgspec.NODEFAULT else None
    if field.default_factory is not msgspec.NODEFAULT:
        value = field.default_factory()
    plain = _without_none(msgspec.to_builtins(value))
    return "-" if plain in (None, {}, [], (), "") else _code(plain)


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {key: _without_none(one) for key, one in value.items()}
        return {key: one for key, one in kept.items() if one not in (None, [], ())}
    return value


def _example(field: msgspec.structs.FieldInfo) -> str:
    examples = _note(field).examples or []
    return ", ".join(_code(one, key=field.name) for one in examples)


def _code(value: Any, *, key: str = "") -> str:
    return f"`{key}{': ' * bool(key)}{_cell(_yaml(value))}`"


def _yaml(value: Any) -> str:
    """A value as one writes it on one line of YAML."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_yaml(one)}' for key, one in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_yaml(one) for one in value)}]"
    if isinstance(value, str) and (value.lstrip("-").isdigit() or value.startswith(("-", "~"))):
        return f'"{value}"' if not value.startswith("~/") else value
    return str(value).lower() if isinstance(value, bool) else str(value)


BLOCKS: dict[str, tuple[str, Callable[[], str]]] = {
    "profile": ("reference/profile.md", lambda: table(Profile)),
    "config": ("reference/config.md", lambda: table(Config)),
    "proxy": ("reference/config.md", lambda: table(ProxySettings)),
    "guard": ("reference/config.md", lambda: table(GuardSettings)),
    "hosts": ("reference/hosts.md", lambda: table(HostEntry)),
    "guesses": ("concepts/memory.md", guesses),
    "errors": ("concepts/memory.md", oracle.table),
    "logs": ("concepts/memory.md", logs.table),
    "variables": ("reference/ansible.md", variables.table),
}


def block(name: str) -> str:
    """A generated block with its markers."""
    return f"<!-- generated: {name} -->\n{BLOCKS[name][1]()}\n{END}"


def found(name: str, text: str) -> str | None:
    """The block of that name in a page, markers included."""
    match = re.search(rf"<!-- generated: {re.escape(name)} -->.*?{END}", text, re.DOTALL)
    return match and match[0]


def renewed(name: str, text: str) -> str:
    """A page with its block as it should be; at its end when it has none."""
    old = found(name, text)
    if old is None:
        return f"{text.rstrip()}\n\n{block(name)}\n".lstrip()
    return text.replace(old, block(name))


def write() -> None:
    """Renew every block in place."""
    for name, (page, _) in BLOCKS.items():
        path = DOCS / page
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(renewed(name, path.read_text("utf-8") if path.exists() else ""), "utf-8")


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit("usage: python tests/support/reference.py --write")
    write()
