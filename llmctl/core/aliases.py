"""Shell aliases for the models of a box: `llcoder`, `lloff` and so on.

In two kinds: through a llmctl on the machine where they are typed, and through nothing but ssh.
"""

import enum
import shlex
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from llmctl.core.listening import Address
from llmctl.core.words import unit_name

PREFIX = "ll"
FIXED = ("off", "status", "logs", "sleep", "wake")
"""Aliases that are there whatever the profiles are; a profile of that name has none."""
_ANY = ("0.0.0.0", "::")  # noqa: S104  # recognised, not listened on
_SUSPEND = ("systemctl", "suspend")
# Six bytes of ff and sixteen times the address, to the discard port (AMD's white paper 20213).
# Perl comes with macOS and Debian, and neither has a program for it.
_WAKE = (
    "use Socket; socket(S, PF_INET, SOCK_DGRAM, 17); setsockopt(S, SOL_SOCKET, SO_BROADCAST, 1); "
    'send(S, chr(255) x 6 . pack("H*", "{mac}") x 16, 0, sockaddr_in(9, inet_aton("{to}")))'
)


class Shell(enum.StrEnum):
    """Shells that aliases are written for."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


class Ssh(msgspec.Struct, frozen=True, kw_only=True):
    """How plain aliases reach a box. program: llmctl there, as an absolute path, since commands
    over ssh have another PATH; None: it has none, and systemctl has to do. mac, broadcast: to wake
    it. via: who has to, as ssh takes it; None: the machine where one types."""

    destination: str
    program: str | None = None
    mac: str | None = None
    broadcast: str | None = None
    via: str | None = None


def through_llmctl(
    profiles: Sequence[str], *, box: str | None, program: str = "llmctl"
) -> Mapping[str, str]:
    """Alias -> command, for a machine with llmctl. box: None for the machine itself, which wakes
    nobody."""
    there = () if box is None else ("--host", box)
    words = {f"{PREFIX}{name}": (program, "switch", name, *there) for name in _free(profiles)}
    words |= {f"{PREFIX}{verb}": (program, verb, *there) for verb in ("off", "status", "logs")}
    power = (("sleep",),) if box is None else (("sleep", box), ("wake", box))
    words |= {f"{PREFIX}{one[0]}": (program, *one) for one in power}
    return {alias: shlex.join(one) for alias, one in words.items()}


def through_ssh(profiles: Sequence[str], ssh: Ssh) -> Mapping[str, str]:
    """Alias -> command, for a machine with nothing but ssh."""
    commands = dict(_remote(profiles, ssh))
    made = {
        alias: shlex.join(("ssh", "-t", ssh.destination, one)) for alias, one in commands.items()
    }
    if ssh.mac:
        packet = _WAKE.format(
            mac="".join(one for one in ssh.mac if one not in ":-"),
            to=ssh.broadcast or "255.255.255.255",
        )
        wake = ("perl", "-e", packet)
        made[f"{PREFIX}wake"] = shlex.join(("ssh", ssh.via, shlex.join(wake)) if ssh.via else wake)
    return made


def _remote(profiles: Sequence[str], ssh: Ssh) -> Iterator[tuple[str, str]]:
    """Alias -> what the box's shell is to run."""
    if ssh.program is None:
        yield from _by_systemctl(profiles)
        return
    for name in _free(profiles):
        yield f"{PREFIX}{name}", shlex.join((ssh.program, "switch", name))
    for verb in ("off", "status", "logs", "sleep"):
        yield f"{PREFIX}{verb}", shlex.join((ssh.program, verb))


def _by_systemctl(profiles: Sequence[str]) -> Iterator[tuple[str, str]]:
    """systemd itself excludes the other models of a group; nobody waits until the model answers,
    and nobody rolls back."""
    manager = ("systemctl", "--user")
    units = tuple(unit_name(name) for name in profiles)
    for name in _free(profiles):
        yield f"{PREFIX}{name}", shlex.join((*manager, "start", unit_name(name)))
    if units:
        stop = shlex.join((*manager, "stop", *units))
        yield f"{PREFIX}off", stop
        yield f"{PREFIX}sleep", f"{stop} && {shlex.join(_SUSPEND)}"
    yield f"{PREFIX}status", shlex.join((*manager, "--no-pager", "list-units", "--all", "llm-*"))
    yield f"{PREFIX}logs", shlex.join(("journalctl", "--user-unit=llm-*", "--lines=50"))


def _free(profiles: Sequence[str]) -> list[str]:
    return [name for name in profiles if name not in FIXED]


def taken(profiles: Sequence[str]) -> list[str]:
    """Profiles whose alias is another's."""
    return [name for name in profiles if name in FIXED]


def proxy_url(listen: Sequence[Address], *, address: str | None) -> str:
    """The base URL of a box's proxy. listen: where it listens. address: what ssh connects to, for
    a client elsewhere; None: the client is on the box."""
    inside, outside = _split(listen)
    if address is None:
        first = (inside or outside)[0]
        return _base("127.0.0.1" if first.host in _ANY else first.host, first.port)
    if not outside:
        return _base(address, inside[0].port)
    first = outside[0]
    return _base(address if first.host in _ANY else first.host, first.port)


def is_open(listen: Sequence[Address]) -> bool:
    """Can the proxy be reached from other machines?"""
    return bool(_split(listen)[1])


def _split(listen: Sequence[Address]) -> tuple[list[Address], list[Address]]:
    inside = [one for one in listen if one.is_loopback]
    return inside, [one for one in listen if not one.is_loopback]


def _base(host: str, port: int) -> str:
    """As OpenAI's SDKs take it (`base_url`)."""
    return f"http://{Address(host, port)}/v1"


def render(commands: Mapping[str, str], *, url: str, shell: Shell | None = None) -> str:
    """What `eval` is to read. Without a shell, a text that all of them understand: fish has
    `export` and `alias NAME=TEXT` as well."""
    quoted = _for_fish if shell is Shell.FISH else shlex.quote
    if shell is Shell.FISH:
        lines = [f"set -gx LLM_URL {quoted(url)}"]
        lines += [f"alias {alias} {quoted(one)}" for alias, one in commands.items()]
    else:
        lines = [f"export LLM_URL={quoted(url)}"]
        lines += [f"alias {alias}={quoted(one)}" for alias, one in commands.items()]
    return "\n".join(lines)


def _for_fish(text: str) -> str:
    """Quoted as fish has it: a backslash escapes also within single quotes (fish(1), Quotes)."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
