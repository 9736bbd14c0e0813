"""What Ansible is told of a box: its inventory, and its command line."""

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from llmctl.core.hosts import LOCAL

_DESTINATION = re.compile(
    r"(?:ssh://)?(?:(?P<user>[^@/]+)@)?(?P<host>\[[^\]]+\]|[^:/@]+)(?::(?P<port>\d+))?/?"
)
"""ssh(1), destination. A port is only in the form of a URI."""


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What a person asked for. files: of variables, the strongest last."""

    check: bool = False
    tags: str | None = None
    ask_become_pass: bool = False
    ask_vault_pass: bool = False
    verbose: bool = False
    files: tuple[str, ...] = ()


class Failed(msgspec.Struct, frozen=True):
    """A task that failed, on which box, and what it said."""

    task: str
    host: str
    said: str
    unreachable: bool = False


class Outcome(msgspec.Struct, frozen=True):
    """How a run went: numbers of tasks; None: nothing failed."""

    ok: int = 0
    changed: int = 0
    failed: Failed | None = None


def inventory(box: str, target: str, variables: Mapping[str, Any]) -> dict[str, Any]:
    """One box. target: what `ssh` takes for it, so that the user's ~/.ssh/config counts."""
    return {"all": {"hosts": {box: {**_way(target), **variables}}}}


def _way(target: str) -> dict[str, Any]:
    if target == LOCAL:
        return {"ansible_connection": "local"}
    match = _DESTINATION.fullmatch(target)
    if match is None or (match["port"] and not target.startswith("ssh://")):
        return {"ansible_host": target}
    way: dict[str, Any] = {"ansible_host": match["host"].strip("[]")}
    if match["user"]:
        way["ansible_user"] = match["user"]
    if match["port"]:
        way["ansible_port"] = int(match["port"])
    return way


def words(inventory_file: str, site: str, wish: Wish) -> tuple[str, ...]:
    """What follows `ansible-playbook`."""
    found = ["-i", inventory_file, site]
    for file in wish.files:
        found += ["-e", f"@{file}"]
    found += ["--check", "--diff"] if wish.check else []
    found += ["--tags", wish.tags] if wish.tags else []
    found += ["--ask-become-pass"] if wish.ask_become_pass else []
    found += ["--ask-vault-pass"] if wish.ask_vault_pass else []
    return (*found, *(["-v"] if wish.verbose else []))


def again(box: str, wish: Wish, given: Sequence[str], profiles: str | None) -> str:
    """The line to type once what failed is mended: what was done is not done again, since every
    task looks first. given: files that were named on the command line, and profiles."""
    found = ["llmctl", "provision", box]
    for file in given:
        found += ["--vars", file]
    found += ["--profiles", profiles] if profiles else []
    found += ["--check"] if wish.check else []
    found += ["--tags", wish.tags] if wish.tags else []
    found += ["--ask-become-pass"] if wish.ask_become_pass else []
    found += ["--ask-vault-pass"] if wish.ask_vault_pass else []
    return shlex.join(found)
