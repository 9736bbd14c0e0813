"""API keys: what the file says of them, and whose key a request carries.

Only digests are kept, so no key can get into a log, an error or a core file of this program. A
complaint never shows a value, and no word that might be a key written at the wrong place.
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from llmctl.core.document import complain, parse_yaml
from llmctl.errors import ProfileError

LEAST_LENGTH = 12
"""Signs of a key that is written out: one that can be guessed is none."""
_KNOWN = ("name", "key", "sha256", "models", "admin")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_KEY = re.compile(r"[\x21-\x7e]+")
_Complaint = tuple[tuple[str | int, ...], str]


class ApiKey(msgspec.Struct, frozen=True):
    """One key. digest: SHA-256 of it. models: profiles that it may use; None: all. admin: it may
    also see and control what others do."""

    name: str
    digest: bytes
    models: tuple[str, ...] | None = None
    admin: bool = False


class Keyring(msgspec.Struct, frozen=True):
    """The keys of a box. problem: why they are not those that the file has now; none of them and
    a problem: nobody gets in."""

    keys: tuple[ApiKey, ...] = ()
    problem: str | None = None

    def find(self, secret: bytes) -> ApiKey | None:
        """Whose key it is; it takes as long for every answer."""
        digest = hashlib.sha256(secret).digest()
        found = None
        for one in self.keys:
            if hmac.compare_digest(one.digest, digest):
                found = one
        return found


def secret_of(headers: Mapping[bytes, bytes]) -> tuple[bytes | None, bool]:
    """The key that a request carries: a bearer token, `x-api-key`, or the password of Basic. And
    whether it is one that a browser sends by itself (Basic).

    headers: by name in lower case.
    """
    given = headers.get(b"authorization")
    if given is not None:
        scheme, _, rest = given.strip().partition(b" ")
        if scheme.lower() == b"bearer":
            return rest.strip(), False
        if scheme.lower() == b"basic":
            return _password(rest.strip()), True
    return headers.get(b"x-api-key"), False


def _password(encoded: bytes) -> bytes | None:
    try:
        return base64.b64decode(encoded, validate=True).partition(b":")[2] or None
    except binascii.Error:
        return None


def parse_keys(text: str, *, file: str) -> tuple[ApiKey, ...]:
    """The keys that a file has; ProfileError with every complaint about it."""
    try:
        raw = parse_yaml(text, file=file)
    except ProfileError as error:  # its words may quote the file
        where = re.match(rf"{re.escape(file)}(:\d+)?", error.message)
        raise ProfileError(f"{where[0] if where else file}: not valid YAML") from None
    if not isinstance(raw, list) or not raw:
        raise ProfileError(
            f"{file}: expected a list of keys",
            hint="One key is: - {name: laptop, key: A-LONG-RANDOM-WORD}",
        )
    complaints: list[_Complaint] = []
    found = [_one(index, item, complaints) for index, item in enumerate(raw)]
    keys = tuple(one for one in found if one is not None)
    complaints += _doubles(keys) if not complaints else ()
    if complaints:
        raise ProfileError([complain(path, words, file=file) for path, words in complaints])
    return keys


def _one(index: int, item: Any, complaints: list[_Complaint]) -> ApiKey | None:
    if not isinstance(item, dict):
        complaints.append(((index,), f"expected {', '.join(_KNOWN[:2])} and so on"))
        return None
    wrong = list(_complaints(item))
    complaints += [((index, *path), text) for path, text in wrong]
    if wrong:
        return None
    digest = item.get("sha256")
    return ApiKey(
        item["name"],
        bytes.fromhex(digest) if digest else hashlib.sha256(item["key"].encode()).digest(),
        None if item.get("models") is None else tuple(item["models"]),
        item.get("admin", False),
    )


def _complaints(item: Mapping[str, Any]) -> Iterable[_Complaint]:
    if set(item) - set(_KNOWN):
        yield (), f"has a key that is none of {', '.join(_KNOWN)}"
    if not isinstance(item.get("name"), str) or not _NAME.fullmatch(item["name"]):
        yield ("name",), "expected a name such as laptop"
    if ("key" in item) == ("sha256" in item):
        yield (), "expected either key or sha256"
    elif "key" in item:
        yield from _key_complaints(item["key"])
    elif not isinstance(item["sha256"], str) or not _DIGEST.fullmatch(item["sha256"]):
        yield ("sha256",), "expected 64 hexadecimal digits: printf %s KEY | sha256sum"
    models = item.get("models")
    if models is not None and not (
        isinstance(models, list) and all(isinstance(one, str) for one in models)
    ):
        yield ("models",), "expected a list of profiles"
    if not isinstance(item.get("admin", False), bool):
        yield ("admin",), "expected true or false"


def _key_complaints(key: Any) -> Iterable[_Complaint]:
    if not isinstance(key, str):
        yield ("key",), "expected text; put it in quotes"
    elif not _KEY.fullmatch(key):
        yield ("key",), "expected letters, digits and signs without spaces (ASCII)"
    elif len(key) < LEAST_LENGTH:
        yield ("key",), f"expected at least {LEAST_LENGTH} signs: openssl rand -hex 24"


def _doubles(keys: tuple[ApiKey, ...]) -> Iterable[_Complaint]:
    names: dict[str, int] = {}
    digests: dict[bytes, int] = {}
    for index, one in enumerate(keys):
        if one.name in names:
            yield (index, "name"), f"{one.name} is also the name of [{names[one.name]}]"
        if one.digest in digests:
            yield (index,), f"has the same key as [{digests[one.digest]}]"
        names.setdefault(one.name, index)
        digests.setdefault(one.digest, index)
