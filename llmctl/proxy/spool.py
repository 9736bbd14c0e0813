"""A request's body: in memory while it is small, in an unnamed file once it is not.

A model can be asked for only when the whole body has been read, and a request may wait for minutes
while another model is unloaded: twenty images must not wait in memory.
"""

import mmap
import tempfile
from collections.abc import Iterator
from typing import IO

IN_MEMORY = 1 << 20
"""Bytes. More goes to a file in $TMPDIR that has no name, so nothing is left of it after a kill."""
PIECE = 256 << 10
Piece = bytes | memoryview


class Spool:
    """Bytes that are written once and may be read again, for a second attempt. data: what is in
    memory already."""

    def __init__(self, data: bytes = b"", *, directory: str | None = None) -> None:
        self._directory = directory
        self._pieces = [data] if data else []
        self._file: IO[bytes] | None = None
        self.nbytes = len(data)

    @property
    def is_in_memory(self) -> bool:
        """Is there no file?"""
        return self._file is None

    def write(self, data: bytes) -> None:
        """Append. OSError: there is no room on the disk."""
        self.nbytes += len(data)
        if self._file is not None:
            _write(self._file, data)
            return
        self._pieces.append(data)
        if self.nbytes > IN_MEMORY:
            self._file = tempfile.TemporaryFile(dir=self._directory, buffering=0)  # noqa: SIM115  # closed by close()
            for piece in self._pieces:
                _write(self._file, piece)
            self._pieces = []

    @property
    def descriptor(self) -> int | None:
        """Of the file; None: it is in memory, or closed."""
        return self._file.fileno() if self._file is not None else None

    def whole(self) -> "bytes | mmap.mmap":
        """All of it, to be parsed: bytes, or the file's pages."""
        if self._file is not None:
            return mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        if len(self._pieces) > 1:
            self._pieces = [b"".join(self._pieces)]
        return self._pieces[0] if self._pieces else b""

    def pieces(self) -> Iterator[Piece]:
        """All of it, to be sent."""
        if self._file is None:
            yield from self._pieces
            return
        at = 0
        while at < self.nbytes:
            self._file.seek(at)
            piece = self._file.read(PIECE)
            if not piece:
                raise OSError("a spooled body was cut short")
            at += len(piece)
            yield piece

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()
            self._file = None
        self._pieces = []


class Amended(Spool):
    """Another one's bytes with another end: `cut` bytes fewer, and `end` in their place. The other
    is closed by who made it."""

    def __init__(self, spool: Spool, cut: int, end: bytes) -> None:
        super().__init__()
        self._spool, self._end = spool, end
        self._kept = spool.nbytes - cut
        self.nbytes = self._kept + len(end)

    @property
    def is_in_memory(self) -> bool:
        """See Spool."""
        return self._spool.is_in_memory

    def whole(self) -> bytes:
        """See Spool; this one is not meant to be large."""
        return b"".join(self.pieces())

    def pieces(self) -> Iterator[Piece]:
        """See Spool. Nothing of it is copied."""
        left = self._kept
        for piece in self._spool.pieces():
            if left > 0:
                yield piece if len(piece) <= left else memoryview(piece)[:left]
            left -= len(piece)
        yield self._end

    def close(self) -> None:
        """See Spool."""


def _write(file: IO[bytes], data: bytes) -> None:
    """All of it: a disk that fills up takes part of a write without a word."""
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]
