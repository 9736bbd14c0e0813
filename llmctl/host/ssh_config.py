"""Where a name leads: what the user's own ssh would do with it.

OpenSSH's client is asked (`ssh -G`), since it alone knows all of its configuration: Include, Match,
tokens, canonical names. Where there is none, paramiko's parser reads the same file, without
Include.
"""

import os
import pwd
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from llmctl.errors import HostError

CONNECT_TIMEOUT_S = 10.0
"""For each step to a box where ConnectTimeout does not say it."""
PORT = 22
RESOLVE_TIMEOUT_S = 10.0
_SAFE = re.compile(r"[^\s-][^\s]*")
_TOKEN = re.compile(r"%([%dhiknpru])")
"""Those of ssh_config(5), TOKENS, that `ssh -G` leaves as they are, but for hashes of others."""
_VARIABLE = re.compile(r"\$\{(\w+)\}")
_NEXT_PATH = re.compile(r"\s+(?=[/~%$])")
"""Between paths; `ssh -G` tells them without quotes, and a home directory may have a space."""
_URI = re.compile(r"ssh://((?:[^@/]*@)?)(?:\[([^]]+)\]|([^]:/[]+))(?::(\d+))?/?")
_JUMP = re.compile(r"(?:[^@/]*@)?(?:\[[^]]+\]|[^]:[]+):\d+")


class Destination(msgspec.Struct, frozen=True):
    """One hop: ssh_config(5) has each of these.

    name: as typed. address: what is connected to. agent: the socket of a key agent, if there is
    one. jumps: destinations to go through first, in their order.
    """

    name: str
    address: str
    port: int = PORT
    user: str = ""
    identities: tuple[str, ...] = ()
    identities_only: bool = False
    agent: str | None = None
    jumps: tuple[str, ...] = ()
    command: str | None = None
    known_hosts: tuple[str, ...] = ()
    key_alias: str | None = None
    timeout: float = CONNECT_TIMEOUT_S

    @property
    def key_name(self) -> str:
        """What known_hosts calls it: sshd(8), SSH_KNOWN_HOSTS FILE FORMAT."""
        name = self.key_alias or self.address
        return name if self.port == PORT or self.key_alias else f"[{name}]:{self.port}"


def resolve(name: str, environ: Mapping[str, str]) -> Destination:
    """The destination of a name or an alias. HostError: it can be none."""
    if not _SAFE.fullmatch(name):
        raise HostError(
            f"{name!r} names no box.", hint="Give a name from ~/.ssh/config, or USER@ADDRESS."
        )
    home = environ.get("HOME") or str(Path("~").expanduser())
    ssh = shutil.which("ssh", path=environ.get("PATH"))
    place, port = _place(name)
    found = _by_ssh(ssh, place, port, environ, home) if ssh else _by_paramiko(place, port, home)
    return _destination(name, place, found, environ, home)


def _place(name: str) -> tuple[str, str]:
    """[USER@]HOST and the port, if it is said. ssh itself takes no IPv6 address in a URI."""
    found = _URI.fullmatch(name)
    return (f"{found[1]}{found[2] or found[3]}", found[4] or "") if found else (name, "")


_Found = Mapping[str, list[str]]
"""Options by their names in small letters; those that may stand repeatedly have several values."""


def _by_ssh(ssh: str, name: str, port: str, environ: Mapping[str, str], home: str) -> _Found:
    listed = _listed_home()
    file = () if _is_same(home, listed) else _file_words(home)
    try:
        done = subprocess.run(
            [ssh, "-G", *file, *(("-p", port) if port else ()), "--", name],
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=RESOLVE_TIMEOUT_S,
            encoding="utf-8",
            errors="surrogateescape",
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise HostError(f"ssh -G {name} did not end within {RESOLVE_TIMEOUT_S:g} s.") from None
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise HostError(f"ssh does not take {name}: {said}", hint="See ~/.ssh/config.")
    found: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        key, _, value = line.partition(" ")
        found.setdefault(key, []).append(value.replace(f"{listed}/.ssh/", f"{home}/.ssh/"))
    return found


def _listed_home() -> str:
    """The home directory of the password file: ssh looks at no other."""
    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        return ""


def _is_same(one: str, other: str) -> bool:
    return Path(one) == Path(other)


def _file_words(home: str) -> tuple[str, ...]:
    """Who has set HOME to another place means the configuration there."""
    file = Path(home, ".ssh", "config")
    return ("-F", str(file) if file.is_file() else "none")


def _by_paramiko(name: str, port: str, home: str) -> _Found:
    import paramiko

    user, _, host = name.rpartition("@")
    file = Path(home, ".ssh", "config")
    text = file.read_text("utf-8", "replace") if file.is_file() else ""
    try:
        told: Mapping[str, Any] = paramiko.SSHConfig.from_text(text).lookup(host)
    except paramiko.SSHException as error:
        raise HostError(f"{file} cannot be read: {error}", hint=f"See {file}.") from None
    ours = str(Path("~").expanduser())  # paramiko has put that in already
    found = {
        key: [
            one.replace(f"{ours}/.ssh/", f"{home}/.ssh/")
            for one in (value if isinstance(value, list) else [value])
        ]
        for key, value in told.items()
    }
    kinds = ("ed25519", "ecdsa", "rsa")
    found.setdefault("identityfile", [f"~/.ssh/id_{kind}" for kind in kinds])
    said = {"user": user, "port": port}
    return found | {key: [value] for key, value in said.items() if value}


def _destination(
    name: str, place: str, found: _Found, environ: Mapping[str, str], home: str
) -> Destination:
    def one(key: str, default: str = "") -> str:
        return found.get(key, [default])[0]

    def filled(text: str) -> str:
        return _TOKEN.sub(lambda match: tokens[match[1]], text)

    def paths(values: Iterable[str]) -> tuple[str, ...]:
        wanted = (value for value in values if value not in ("", "none"))
        return tuple(_expanded(filled(value), environ, home) for value in wanted)

    host = place.rpartition("@")[2]
    address, port = one("hostname", host), int(one("port", str(PORT)))
    user = one("user") or environ.get("USER") or pwd.getpwuid(os.getuid()).pw_name
    tokens = {"%": "%", "d": home, "h": address, "n": host, "p": str(port), "r": user}
    tokens |= {"i": str(os.getuid()), "k": one("hostkeyalias") or host}
    tokens |= {"u": environ.get("USER", "")}
    command, jumps = filled(one("proxycommand")), filled(one("proxyjump"))
    known = one("userknownhostsfile", "~/.ssh/known_hosts ~/.ssh/known_hosts2")
    system = one("globalknownhostsfile", "/etc/ssh/ssh_known_hosts")
    seconds = one("connecttimeout")
    return Destination(
        name=name,
        address=address,
        port=port,
        user=user,
        identities=paths(found.get("identityfile", ())),
        identities_only=one("identitiesonly") == "yes",
        agent=_agent(one("identityagent"), environ, home),
        jumps=tuple(map(_jump, jumps.split(","))) if jumps not in ("", "none") else (),
        command=command if command not in ("", "none") else None,
        known_hosts=paths((*_files(known), *_files(system))),
        key_alias=one("hostkeyalias") or None,
        timeout=float(seconds) if seconds.isdigit() and int(seconds) else CONNECT_TIMEOUT_S,
    )


def _files(text: str) -> list[str]:
    return shlex.split(text) if '"' in text else _NEXT_PATH.split(text)


def _jump(word: str) -> str:
    """A word of ProxyJump as ssh takes a destination: a port is said in a URI alone."""
    return f"ssh://{word}" if _JUMP.fullmatch(word) else word


def _agent(given: str, environ: Mapping[str, str], home: str) -> str | None:
    """IdentityAgent: a path, a $VARIABLE, `none`, or by default what SSH_AUTH_SOCK says."""
    if given == "none":
        return None
    if given in ("", "SSH_AUTH_SOCK"):
        return environ.get("SSH_AUTH_SOCK") or None
    if given.startswith("$") and not given.startswith("${"):
        return environ.get(given[1:])
    return _expanded(given, environ, home)


def _expanded(path: str, environ: Mapping[str, str], home: str) -> str:
    known = {**environ, "HOME": home}
    path = _VARIABLE.sub(lambda match: known.get(match[1], match[0]), path)
    if path.startswith("~/"):
        return f"{home}/{path.removeprefix('~/')}"
    return os.path.expanduser(path)  # noqa: PTH111  # of somebody else, who need not be there
