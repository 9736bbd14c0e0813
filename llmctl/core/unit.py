"""Profile -> the text of its systemd unit, and what an installed unit's text tells of itself.

A rendered unit ends in a section that systemd ignores (systemd.unit(5): names that begin with
`X-`). It holds two digests: `Source` of everything the text was made from, so that a stale unit is
seen without rendering; `Text` of the text itself, so that an edit by hand is seen and respected.
"""

import enum
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from llmctl.core.argv import LOOPBACK
from llmctl.core.profile import Profile
from llmctl.core.words import SLICE, unit_name

SECTION = "[X-Llmctl]"
PROCESS_VARIABLE = "LLMCTL_PROCESS"
"""Set in each server's environment to a digest of its argv and environment: tells whether a
running process is what the unit starts now. A unit whose rivals changed still starts the same."""

_WIDTH = 96
_SAFE = re.compile(r"[A-Za-z0-9@_+=:,./%$-]+")
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r"}


class Owner(enum.Enum):
    """Whose a unit file is, judged by its text."""

    ABSENT = "absent"
    OURS = "ours"
    EDITED = "edited"  # rendered by llmctl, then changed by hand
    FOREIGN = "foreign"  # never ours: not to be overwritten or removed


class UnitFile(msgspec.Struct, frozen=True):
    """A unit's name and its text."""

    name: str
    text: str


class Header(msgspec.Struct, frozen=True):
    """The `[X-Llmctl]` section of an installed unit."""

    owner: Owner
    group: str | None = None
    port: int | None = None
    source: str | None = None


ABSENT = Header(Owner.ABSENT)


class Placement(msgspec.Struct, frozen=True):
    """Where a profile's server runs: its rivals, its port, its log and its environment.

    rivals: units of the other members of the group. foreign: units of config.yaml's `conflicts`.
    """

    port: int
    rivals: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()
    log_file: str | None = None
    environment: Mapping[str, str | int] | None = None


def url(port: int) -> str:
    """What a client on the box would be pointed at."""
    return f"http://{LOOPBACK}:{port}"


def context(profile: Profile, argv: Sequence[str], place: Placement) -> dict[str, Any]:
    """What the template is filled with: plain, escaped text."""
    unit = unit_name(profile.name)
    command = exec_start(argv)
    environment = [quote(f"{k}={v}") for k, v in sorted((place.environment or {}).items())]
    return {
        "profile": profile.name,
        "unit": unit,
        "group": profile.group,
        "port": place.port,
        "description": f"Model {profile.name} (llmctl)",
        "conflicts": sorted({*place.rivals, *place.foreign}),
        "after": sorted({one for one in place.rivals if one < unit} | set(place.foreign)),
        "before": sorted(one for one in place.rivals if one > unit),
        "exec_start": command,
        "environment": environment,
        "process": f"{PROCESS_VARIABLE}={process_digest(command, environment)}",
        "log_file": place.log_file and place.log_file.replace("%", "%%"),
        "stop_timeout": profile.stop_timeout,
    }


def process_digest(command: str, environment: Sequence[str]) -> str:
    """One word for what a process is started with."""
    return _digest("\n".join((command, *environment)))


def source_digest(template: str, variables: Mapping[str, Any]) -> str:
    """One word for everything a unit is made from."""
    return _digest(msgspec.json.encode([template, variables], order="sorted").decode())


def render_unit(
    name: str, template: str, variables: Mapping[str, Any], *, version: str
) -> UnitFile:
    """The unit's text, signed with the section that makes it ours."""
    from jinja2 import Environment, StrictUndefined  # 30 ms that `status` need not pay

    source = source_digest(template, variables)
    jinja = Environment(undefined=StrictUndefined, keep_trailing_newline=True)  # noqa: S701  # not HTML
    body = jinja.from_string(template).render(variables)
    return UnitFile(name, _sign(body, {**_facts(variables), "Source": source, "Version": version}))


def _facts(variables: Mapping[str, Any]) -> dict[str, str]:
    keys = {"Profile": "profile", "Group": "group", "Port": "port"}
    return {word: str(variables[key]) for word, key in keys.items() if key in variables}


def _sign(body: str, facts: Mapping[str, str]) -> str:
    lines = "".join(f"{key}={value}\n" for key, value in facts.items())
    unsigned = f"{body.rstrip()}\n\n{SECTION}\n{lines}"
    return f"{unsigned}Text={_digest(unsigned)}\n"


def _digest(text: str) -> str:
    """A detector of change, not a signature: hashlib would cost `status` 2 ms for OpenSSL."""
    data = text.encode()
    return f"{zlib.crc32(data):08x}{zlib.adler32(data):08x}"


def read_header(text: str | None) -> Header:
    """Whose the text of an installed unit is. None: there is no such file."""
    if text is None:
        return ABSENT
    _, mark, section = text.partition(f"\n{SECTION}\n")
    if not mark:
        return Header(Owner.FOREIGN)
    facts = dict(line.split("=", 1) for line in section.splitlines() if "=" in line)
    unsigned, _, rest = text.rpartition("Text=")
    owner = Owner.OURS if rest == f"{_digest(unsigned)}\n" else Owner.EDITED
    port = facts.get("Port", "")
    number = int(port) if port.isdigit() else None
    return Header(owner, facts.get("Group"), number, facts.get("Source"))


def process_of(text: str | None) -> str | None:
    """The digest of the process that an installed text starts."""
    match = re.search(rf"^Environment={PROCESS_VARIABLE}=(\w+)$", text or "", re.MULTILINE)
    return match[1] if match else None


def exec_start(argv: Sequence[str]) -> str:
    """argv as an ExecStart= value: the same words come out of systemd (systemd.service(5)).

    A flag and its values stay on one line. In the path `$` is literal, so it is not doubled
    there (config.py refuses such paths, since argv[0] would be expanded).
    """
    words = [quote(argv[0]), *(quote(word.replace("$", "$$")) for word in argv[1:])]
    return " \\\n  ".join(_wrap(words))


def _wrap(words: Iterable[str]) -> list[str]:
    lines: list[str] = []
    for chunk in _chunks(words):
        if lines and len(lines) > 1 and len(lines[-1]) + len(chunk) < _WIDTH:
            lines[-1] += " " + chunk
        else:
            lines.append(chunk)
    return lines


def _chunks(words: Iterable[str]) -> list[str]:
    chunks: list[str] = []
    for word in words:
        if chunks and not re.match(r'"?-{1,2}[A-Za-z]', word) and len(chunks) > 1:
            chunks[-1] += " " + word
        else:
            chunks.append(word)
    return chunks


def quote(word: str) -> str:
    """One word as systemd's unit files quote it; `%` is doubled, `$` is the caller's business."""
    escaped = "".join(_ESCAPES.get(sign) or _control(sign) for sign in word).replace("%", "%%")
    return escaped if _SAFE.fullmatch(word) else f'"{escaped}"'


def _control(sign: str) -> str:
    return f"\\x{ord(sign):02x}" if ord(sign) < 32 or ord(sign) == 127 else sign


def slice_file(template: str, *, version: str) -> UnitFile:
    """The common slice, rendered and signed as the models' units are."""
    return render_unit(SLICE, template, {}, version=version)
