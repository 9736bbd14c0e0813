"""Is it the box that it says it is? known_hosts decides, and nothing is trusted in silence."""

import base64
import hashlib
from collections.abc import Sequence
from typing import Any

import paramiko

from llmctl.errors import HostError
from llmctl.host.ssh_config import PORT, Destination


def known_types(destination: Destination) -> tuple[str, ...]:
    """The kinds of keys that are known of a box: those it should be asked for first."""
    return tuple(_known(destination))


def check_key(destination: Destination, key: paramiko.PKey) -> None:
    """HostError: the key is unknown, or another one is known."""
    known = _known(destination)
    if key.get_name() in known:
        if known[key.get_name()] == key.asbytes():
            return
        raise _changed(destination, key)
    raise _changed(destination, key) if known else _unknown(destination, key)


def _known(destination: Destination) -> dict[str, bytes]:
    """Kinds of keys and the keys, of the first file that has each."""
    found: dict[str, bytes] = {}
    for path in destination.known_hosts:
        entries = paramiko.HostKeys()
        try:
            entries.load(path)
        except OSError:
            continue  # most people have one of these files
        keys: Any = entries.lookup(destination.key_name) or {}
        for kind in keys.keys():  # noqa: SIM118  # no mapping in full: iterating it gives nothing
            found.setdefault(kind, keys[kind].asbytes())
    return found


def fingerprint(key: paramiko.PKey) -> str:
    """As ssh prints it."""
    digest = base64.b64encode(hashlib.sha256(key.asbytes()).digest()).decode()
    return f"SHA256:{digest.rstrip('=')}"


def _file(files: Sequence[str]) -> str:
    return files[0] if files else "~/.ssh/known_hosts"


def _unknown(destination: Destination, key: paramiko.PKey) -> HostError:
    kind = key.get_name().removeprefix("ssh-").partition("-")[0]
    return HostError(
        f"{destination.name} is not known: its {kind} key is {fingerprint(key)}, and no line for "
        f"{destination.key_name} is in {_file(destination.known_hosts)}.",
        hint=f"Compare it with what `ssh-keygen -lf /etc/ssh/ssh_host_{kind}_key.pub` says on the "
        f"box, then: ssh {destination.name} true",
    )


def _changed(destination: Destination, key: paramiko.PKey) -> HostError:
    file, name = _file(destination.known_hosts), destination.key_name
    quoted = f'"{name}"' if destination.port != PORT else name
    return HostError(
        f"{destination.name} shows another host key than the one known of it: "
        f"{fingerprint(key)}. It was installed anew, or somebody is in between.",
        hint=f"When you know why: ssh-keygen -R {quoted} -f {file}, then: ssh "
        f"{destination.name} true",
    )
