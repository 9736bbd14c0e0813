"""Is it the box that it says it is? known_hosts decides, and nothing is trusted in silence."""

import base64
import binascii
import fnmatch
import hashlib
import hmac
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import paramiko

from llmctl.errors import HostError
from llmctl.host.ssh_config import PORT, Destination

_REVOKED = "@revoked"


class KnownKey(msgspec.Struct, frozen=True):
    """A line of a known_hosts file. names: patterns, or the hash of a name. marker: "" or one that
    begins with @."""

    names: str
    kind: str
    blob: bytes
    marker: str

    def is_of(self, name: str) -> bool:
        """Is that host meant?"""
        if self.names.startswith("|1|"):
            return _is_hash_of(self.names, name)
        patterns = self.names.split(",")
        return any(_fits(name, one) for one in patterns) and not any(
            _fits(name, one[1:]) for one in patterns if one.startswith("!")
        )


def _fits(name: str, pattern: str) -> bool:
    """As ssh compares: `*` and `?` alone mean something, and small letters are capitals."""
    return fnmatch.fnmatchcase(name.lower(), pattern.lower().replace("[", "[[]"))


def _is_hash_of(hashed: str, name: str) -> bool:
    try:
        salt, digest = (base64.b64decode(word) for word in hashed.split("|")[2:4])
    except ValueError:
        return False
    return hmac.compare_digest(hmac.digest(salt, name.lower().encode(), "sha1"), digest)


def parse_known_hosts(text: str) -> Iterator[KnownKey]:
    """The keys of a file: sshd(8), SSH_KNOWN_HOSTS FILE FORMAT. As ssh does, lines that say nothing
    are passed over: paramiko's own reader ends at the first of them, and at any marker."""
    for line in text.splitlines():
        marker, *words = line.split() if line.lstrip().startswith("@") else ("", *line.split())
        if len(words) < 3 or words[0].startswith("#"):
            continue
        try:
            blob = base64.b64decode(words[2], validate=True)
        except binascii.Error:
            continue
        yield KnownKey(words[0], words[1], blob, marker)


def known_types(destination: Destination) -> tuple[str, ...]:
    """The kinds of keys that are known of a box: those it should be asked for first."""
    return tuple(dict.fromkeys(one.kind for one in _known(destination) if not one.marker))


def check_key(destination: Destination, key: paramiko.PKey) -> None:
    """HostError: the key is unknown, or others are known, or it is marked as revoked."""
    known = _known(destination)
    if any(one.blob == key.asbytes() and one.marker == _REVOKED for one in known):
        raise _revoked(destination, key)
    theirs = [one.blob for one in known if not one.marker]
    if key.asbytes() in theirs:
        return
    raise _changed(destination, key) if theirs else _unknown(destination, key)


def _known(destination: Destination) -> list[KnownKey]:
    """What all files say of a box. A certificate's authority (@cert-authority) vouches for
    certificates, which paramiko does not ask for."""
    found: list[KnownKey] = []
    for path in destination.known_hosts:
        try:
            text = Path(path).read_text("utf-8", "replace")
        except OSError:
            continue  # most people have one of these files
        found += [one for one in parse_known_hosts(text) if one.is_of(destination.key_name)]
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
        hint=f"When you know why: ssh-keygen -R {quoted} -f {shlex.quote(file)}, then: ssh "
        f"{destination.name} true",
    )


def _revoked(destination: Destination, key: paramiko.PKey) -> HostError:
    return HostError(
        f"{destination.name} shows a host key that known_hosts calls revoked: {fingerprint(key)}.",
        hint="Do not use that machine before whoever revoked the key says why.",
    )
