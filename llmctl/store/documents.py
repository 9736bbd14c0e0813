"""YAML files of a box, parsed once per change.

What PyYAML made of a file is kept as JSON by (path, size, mtime_ns): `llmctl status` then neither
imports PyYAML nor parses, which is a fifth of its time with 20 profiles.
"""

import contextlib
from collections.abc import Mapping
from typing import Any

import msgspec

from llmctl.core.document import parse_yaml
from llmctl.errors import HostError, ProfileError
from llmctl.host.base import Entry, Host


class _Parsed(msgspec.Struct, frozen=True, array_like=True):
    """A document, and the file that it was parsed from."""

    size_bytes: int
    mtime_ns: int
    document: Any


class Documents:
    """Parsed YAML files, cached in one file."""

    def __init__(self, host: Host, cache: str) -> None:
        self._host = host
        self._path = cache
        self._known = self._load()
        self._changed = False

    def _load(self) -> Mapping[str, _Parsed]:
        try:
            return msgspec.json.decode(self._host.read(self._path), type=dict[str, _Parsed])
        except (FileNotFoundError, HostError, msgspec.MsgspecError):
            return {}

    def read(self, path: str, entry: Entry) -> Any:
        """The document in a file; ProfileError when it is no YAML, FileNotFoundError when gone."""
        known = self._known.get(path)
        if known and (known.size_bytes, known.mtime_ns) == (entry.size_bytes, entry.mtime_ns):
            return known.document
        document = parse_yaml(self._text(path), file=path)
        parsed = _Parsed(entry.size_bytes, entry.mtime_ns, document)
        self._known = {**self._known, path: parsed}
        self._changed = True
        return document

    def _text(self, path: str) -> str:
        try:
            return self._host.read(path).decode()
        except UnicodeDecodeError as error:
            raise ProfileError(f"{path}: not UTF-8 text at byte {error.start}") from None

    def save(self) -> None:
        """Keep what was parsed. A disk that takes nothing only costs time."""
        if self._changed:
            with contextlib.suppress(HostError, TypeError):  # TypeError: a key that JSON has not
                self._host.write(self._path, msgspec.json.encode(self._known), mode=0o600)
            self._changed = False
