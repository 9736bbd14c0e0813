"""The models on a box that are smaller than another, the smallest first: what may draft for it.

What is looked at is bounded: directories below models_dir down to publisher/model/file.gguf, as
download tools lay them out, and no more of them than `MOST_DIRS`.
"""

from collections.abc import Iterator

import msgspec

from llmctl.core.gguf_name import shards
from llmctl.errors import HostError
from llmctl.host.base import Entry, Host

DEEPEST = 3
MOST_DIRS = 256
MOST_MODELS = 512
"""Smaller ones come first, so what is left out is large."""


class ModelFile(msgspec.Struct, frozen=True, order=True):
    """A model's size, the path of its first part, and the latest change of any part."""

    size_bytes: int
    path: str
    mtime_ns: int


def smaller_models(host: Host, directory: str, model: str) -> tuple[ModelFile, ...]:
    """The models below a directory that are smaller than `model`, by size, then path."""
    target = _model(host, model)
    if target is None:
        return ()
    parts = dict(_files(host, directory.rstrip("/"), DEEPEST, [MOST_DIRS]))
    found = (_joined(path, parts) for path in parts)
    smaller = sorted(one for one in found if one and one.size_bytes < target.size_bytes)
    return tuple(smaller[:MOST_MODELS])


def _files(host: Host, directory: str, deep: int, left: list[int]) -> Iterator[tuple[str, Entry]]:
    """GGUF files with their paths. left: how many directories may still be looked into."""
    left[0] -= 1
    if left[0] < 0:
        return
    try:
        entries = host.list(directory or "/")
    except HostError:
        return
    for entry in entries:
        path = f"{directory}/{entry.name}"
        if entry.name.endswith(".gguf") and not entry.is_dir:
            yield path, entry
        elif entry.is_dir and deep > 1 and not entry.name.startswith("."):
            yield from _files(host, path, deep - 1, left)


def _joined(path: str, parts: dict[str, Entry]) -> ModelFile | None:
    """All parts of the model that begins with this one; None: it is a later part, or some lack."""
    paths = shards(path)
    if paths[0] != path or not all(one in parts for one in paths):
        return None
    entries = [parts[one] for one in paths]
    size, changed = sum(e.size_bytes for e in entries), max(e.mtime_ns for e in entries)
    return ModelFile(size, path, changed)


def _model(host: Host, path: str) -> ModelFile | None:
    found = {one: entry for one in shards(path) if (entry := host.stat(one))}
    return _joined(path, found)
