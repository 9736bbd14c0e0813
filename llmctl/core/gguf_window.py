"""The bytes of a file's head, fetched as far as they are needed and never further than allowed."""

import struct
from typing import TYPE_CHECKING, Protocol, TypeAlias

from llmctl.errors import GgufError

if TYPE_CHECKING:
    import mmap

    Buffer: TypeAlias = bytes | bytearray | mmap.mmap

HEAD_LIMIT = 128 << 20
"""No head is longer: 1,000,000 tokens with their merges take about 70 MiB."""
_FIRST_READ = 1 << 20
_U32 = struct.Struct("<I").unpack_from
_U64 = struct.Struct("<Q").unpack_from


class Source(Protocol):
    """A file of known size that can be read anywhere: local, or on a box over SFTP."""

    @property
    def size(self) -> int:
        """Length in bytes."""
        ...

    def read(self, start: int, length: int) -> bytes:
        """The bytes from `start`; fewer than `length` only at the end of the file."""
        ...


class BufferSource:
    """A buffer seen as a Source: what is left to do with a file after its head was read."""

    def __init__(self, data: "Buffer") -> None:
        self._data = data

    @property
    def size(self) -> int:
        """Length in bytes."""
        return len(self._data)

    def read(self, start: int, length: int) -> bytes:
        """The bytes from `start`."""
        return bytes(self._data[start : start + length])


class Window:
    """A cursor over a head: what it reads, it moves behind. Reading past the end: GgufError."""

    __slots__ = ("_source", "data", "filled", "limit", "pos", "size")

    def __init__(self, data: "Buffer", size: int, source: Source | None = None) -> None:
        self.data, self.size, self._source = data, size, source
        self.filled = len(data)
        self.limit = min(size, HEAD_LIMIT)
        self.pos = 0

    @classmethod
    def over_source(cls, source: Source) -> "Window":
        """Fetches in steps that double: a remote head costs a handful of round trips."""
        return cls(bytearray(), source.size, source)

    @classmethod
    def over_buffer(cls, data: "Buffer") -> "Window":
        """Reads in place: nothing of an mmap is copied."""
        return cls(data, len(data))

    def need(self, end: int, what: str) -> None:
        """Makes the bytes up to `end` present, or says that the file ends before `what` does."""
        if end <= self.filled:
            return
        if end > self.limit:
            bound = "the file's" if end > self.size else "any head's"
            raise self.fail(f"{what} would end at {end}, beyond {bound} {self.limit} bytes")
        self._fill(end)
        if end > self.filled:
            raise self.fail(f"{what} is cut off: the file shrank while it was read")

    def u32(self, what: str) -> int:
        """An unsigned 32-bit number."""
        self.need(self.pos + 4, what)
        self.pos += 4
        return int(_U32(self.data, self.pos - 4)[0])

    def u64(self, what: str) -> int:
        """An unsigned 64-bit number."""
        self.need(self.pos + 8, what)
        self.pos += 8
        return int(_U64(self.data, self.pos - 8)[0])

    def raw(self, length: int, what: str) -> bytes:
        """That many bytes."""
        start = self.pos
        self.need(start + length, what)
        self.pos = start + length
        return bytes(self.data[start : self.pos])

    def text(self, what: str) -> bytes:
        """A string as GGUF writes it: its length in 8 bytes, then its bytes."""
        return self.raw(self.u64(f"the length of {what}"), what)

    def skip(self, length: int, what: str) -> None:
        """Moves on; what is skipped must exist, and is not fetched."""
        if self.pos + length > self.limit:
            self.need(self.pos + length, what)
        self.pos += length

    def find(self, pattern: bytes, end: int) -> int:
        """Where `pattern` is next, at or behind the cursor and before `end`; -1: nowhere."""
        end = min(end, self.limit)
        start = self.pos
        while True:
            found = self.data.find(pattern, start, min(end, self.filled))
            if found >= 0 or self.filled >= end:
                return found
            start = max(self.pos, self.filled - len(pattern))
            self._fill(self.filled + 1)

    def fail(self, problem: str, *, at: int | None = None) -> GgufError:
        """A GgufError that says where."""
        return GgufError(f"At byte {self.pos if at is None else at}: {problem}.")

    def _fill(self, end: int) -> None:
        """Fetches at least up to `end`, doubling what is there. Stops at the end of the file."""
        if self._source is None or not isinstance(self.data, bytearray):
            return
        target = min(max(end, 2 * self.filled, _FIRST_READ), self.limit)
        while self.filled < target:
            got = self._source.read(self.filled, target - self.filled)
            if not got:
                return
            self.data += got
            self.filled = len(self.data)
