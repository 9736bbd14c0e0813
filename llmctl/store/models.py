"""The GGUF files below a directory of a box.

A Host follows links and does not say that it did, so a link to a directory above is recognised by
what it holds: the same names, sizes and times as a directory on the way to it.
"""

from collections.abc import Iterator

import msgspec

from llmctl.core.gguf_name import first_part, shards
from llmctl.errors import HostError
from llmctl.host.base import Entry, Host

MOST_DIRS = 4096
"""Directories that are looked into; a home directory has more, a place for models has not."""
MOST_FILES = 4096
DEEPEST = 32
_ROUNDS = 8
"""Directories in one another that look alike, name, size, time and all, are fewer than that."""


class ModelFile(msgspec.Struct, frozen=True):
    """A GGUF file, or the first part of a split one. path: absolute; name: below the directory.

    sizes and times: of all parts that are there. missing: the parts that are not.
    """

    path: str
    name: str
    size_bytes: int
    mtime_ns: int
    parts: int = 1
    missing: tuple[str, ...] = ()


class Tree(msgspec.Struct, frozen=True):
    """What there is below a directory, by name, and what could not be seen."""

    files: tuple[ModelFile, ...]
    warnings: tuple[str, ...] = ()


def find_models(host: Host, directory: str) -> Tree:
    """Every GGUF file below a directory, in the order of their names."""
    walk = _Walk(host)
    found: dict[str, Entry] = {}
    for path, entry in walk.files(directory.rstrip("/") or "/", ()):
        if len(found) == MOST_FILES:
            walk.warnings.append(f"{directory} holds more than {MOST_FILES} GGUF files")
            break
        found[path] = entry
    prefix = f"{directory.rstrip('/')}/"
    firsts = sorted({first_part(path) for path in found})
    files = tuple(_model(first, found, prefix) for first in firsts)
    return Tree(tuple(sorted(files, key=lambda one: one.name)), tuple(walk.warnings))


def _model(first: str, found: dict[str, Entry], prefix: str) -> ModelFile:
    parts = shards(first)
    there = [found[one] for one in parts if one in found]
    return ModelFile(
        first,
        first.removeprefix(prefix),
        sum(one.size_bytes for one in there),
        max(one.mtime_ns for one in there),
        len(parts),
        tuple(one for one in parts if one not in found),
    )


_Above = tuple[tuple[str, tuple[Entry, ...]], ...]
"""Directories on the way down, with what they hold."""


class _Walk:
    """One walk down a tree, with what it met."""

    def __init__(self, host: Host) -> None:
        self._host, self._seen = host, 0
        self.warnings: list[str] = []

    def files(self, directory: str, above: _Above) -> Iterator[tuple[str, Entry]]:
        """Files that are called GGUF, with their paths. above: the way here."""
        entries = self._list(directory)
        if not entries or self._is_loop(directory, entries, above):
            return
        if len(above) == DEEPEST:
            self.warnings.append(f"{directory} is too deep down: it is not looked into")
            return
        base = directory.rstrip("/")
        for entry in entries:
            path = f"{base}/{entry.name}"
            if not self._is_text(path):
                continue
            if entry.is_dir:
                yield from self.files(path, (*above, (base, entries)))
            elif entry.name.lower().endswith(".gguf") and not entry.name.startswith("."):
                yield path, entry

    def _is_loop(self, directory: str, entries: tuple[Entry, ...], above: _Above) -> bool:
        """Is it one of those above? Then the way from there to here can be gone on and on."""
        return any(
            held == entries
            and all(
                self._list(directory + directory.removeprefix(base) * more) == entries
                for more in range(1, _ROUNDS)
            )
            for base, held in above
        )

    def _is_text(self, path: str) -> bool:
        """Linux takes any bytes for a name; what is no UTF-8 nothing here can write down."""
        try:
            path.encode()
        except UnicodeEncodeError:
            self.warnings.append(f"a name is no UTF-8 text, so it is left out: {path!a}")
            return False
        return True

    def _list(self, directory: str) -> tuple[Entry, ...]:
        self._seen += 1
        if self._seen > MOST_DIRS:
            if self._seen == MOST_DIRS + 1:
                self.warnings.append(f"only {MOST_DIRS} directories were looked into")
            return ()
        try:
            return self._host.list(directory)
        except HostError as error:
            self.warnings.append(error.message.rstrip("."))
            return ()
