"""spool.py: bodies in memory and on disk."""

from __future__ import annotations

import contextlib
import os
import resource
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.wire import Wire, answers_in

from llmctl.proxy.spool import IN_MEMORY, PIECE, Amended, Spool

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208  # a path would open one more


@contextlib.contextmanager
def full_disk(nbytes: int) -> Iterator[None]:
    """Files of this process can be no longer, as on a disk that fills up: the last write that fits
    in part is made in part."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (nbytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@given(sizes=st.lists(st.integers(0, 700_000), max_size=6))
def test_what_was_written_can_be_read_again_and_again(sizes: list[int]) -> None:
    pieces = [bytes([65 + n]) * size for n, size in enumerate(sizes)]
    with contextlib.closing(Spool()) as spool:
        for piece in pieces:
            spool.write(piece)
        for _ in range(2):
            assert b"".join(spool.pieces()) == b"".join(pieces)
            assert bytes(spool.whole()) == b"".join(pieces)
        assert spool.nbytes == sum(sizes)


def test_only_a_large_one_takes_a_file_and_leaves_none(tmp_path: Path) -> None:
    before = open_files()
    spool = Spool(directory=str(tmp_path))
    spool.write(b"x" * IN_MEMORY)
    assert open_files() == before
    spool.write(b"y")
    assert open_files() == before + 1
    assert not list(tmp_path.iterdir()), "it has a name"
    spool.whole()
    spool.close()
    spool.close()
    assert open_files() == before


def test_a_full_disk_is_an_error_and_never_a_shorter_body() -> None:
    refused = pytest.raises(OSError, match="File too large")
    with contextlib.closing(Spool()) as spool, full_disk(2 << 20), refused:
        spool.write(b"x" * (3 << 20))


def test_a_client_is_told_so() -> None:
    head = b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (3 << 20)
    before = open_files()
    with Wire() as wire:
        held = open_files()
        client = wire.connect()
        with full_disk(2 << 20):
            client.sends(head + b"x" * (3 << 20), sizes=[1 << 20] * 3)
        ((answer, body),) = answers_in(bytes(client.heard))
        assert open_files() == held
    assert answer.status_code == 503
    assert b"The body could not be kept: File too large" in body
    assert b'"type":"overloaded_error"' in body
    assert open_files() == before


def test_a_file_that_lost_bytes_is_not_sent_as_if_whole(tmp_path: Path) -> None:
    with contextlib.closing(Spool(directory=str(tmp_path))) as spool:
        spool.write(b"x" * (3 << 20))
        assert spool._file is not None
        os.ftruncate(spool._file.fileno(), 1 << 20)
        with pytest.raises(OSError, match="cut short"):
            list(spool.pieces())


def test_another_end_leaves_a_large_body_in_its_file() -> None:
    """It goes out in pieces, as it would without that end."""
    spool = Spool()
    spool.write(b"x" * (IN_MEMORY + 1) + b"}")
    amended = Amended(spool, 1, b',"stream":true}')
    assert not amended.is_in_memory
    assert max(map(len, amended.pieces())) <= PIECE + 15
    assert amended.nbytes == sum(map(len, amended.pieces()))
    spool.close()
    small = Amended(Spool(b"{}"), 1, b'"stream":true}')
    assert small.is_in_memory
    assert small.whole() == b'{"stream":true}'
