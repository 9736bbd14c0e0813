"""The heads of model files: read through a Host in a few pieces, and kept until a file changes."""

import contextlib

import msgspec

from llmctl.core.gguf import Header, Source, read_header, read_parts
from llmctl.errors import GgufError, HostError
from llmctl.host.base import Entry, Host

FORMAT = 1
"""Of the kept file: what an older llmctl kept is read anew."""


class _Kept(msgspec.Struct, frozen=True):
    """A head as it was when its file had this size and time of change."""

    format: int
    path: str
    size_bytes: int
    mtime_ns: int
    header: Header


class _File:
    """A file of a host as a Source (core/gguf_window.py)."""

    def __init__(self, host: Host, path: str, size: int) -> None:
        self._host, self._path, self.size = host, path, size

    def read(self, start: int, length: int) -> bytes:
        """See Source."""
        return self._host.read(self._path, start=start, length=length)


def head_of(host: Host, path: str, *, cache_dir: str) -> Header:
    """The head of a model, of all its parts. GgufError names the file that is wrong."""
    return read_parts(path, lambda one: _part(host, one, cache_dir))


def source_of(host: Host, path: str) -> Source:
    """A file to read pieces of. HostError: it is not there."""
    entry = host.stat(path)
    if entry is None:
        raise HostError(f"There is no file {path}.")
    return _File(host, path, entry.size_bytes)


def _part(host: Host, path: str, cache_dir: str) -> Header | None:
    entry = host.stat(path)
    if entry is None:
        return None
    kept_at = _cache_file(path, cache_dir)
    known = _known(host, kept_at)
    stamp = (FORMAT, path, entry.size_bytes, entry.mtime_ns)
    if known and (known.format, known.path, known.size_bytes, known.mtime_ns) == stamp:
        return known.header
    header = _read(host, path, entry)
    with contextlib.suppress(HostError):  # a disk that takes nothing: it is read again next time
        host.write(kept_at, msgspec.msgpack.encode(_Kept(*stamp, header)), mode=0o600)
    return header


def _read(host: Host, path: str, entry: Entry) -> Header:
    if entry.is_dir:
        raise GgufError(f"{path} is a directory, not a model file.")
    try:
        return read_header(_File(host, path, entry.size_bytes))
    except GgufError as error:
        raise GgufError(f"{path}: {error.message}", hint=error.hint) from None


def _cache_file(path: str, cache_dir: str) -> str:
    import hashlib  # most commands read no head

    return f"{cache_dir}/gguf/{hashlib.sha256(path.encode()).hexdigest()[:32]}.msgpack"


def _known(host: Host, path: str) -> _Kept | None:
    try:
        return msgspec.msgpack.decode(host.read(path), type=_Kept)
    except (FileNotFoundError, HostError, msgspec.MsgspecError):
        return None
