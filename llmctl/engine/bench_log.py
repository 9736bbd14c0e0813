"""~/.local/state/llmctl/bench.jsonl: what was measured on this box, the newest last."""

import contextlib
from collections.abc import Sequence

import msgspec

from llmctl.core.bench import FORMAT, Record
from llmctl.engine.box import Box
from llmctl.errors import HostError

MOST_LINES = 2000
"""Some 2 MB; the oldest go first."""


def known(box: Box) -> tuple[Record, ...]:
    """Every measurement that this version can compare with."""
    return tuple(one for line in _lines(box) if (one := _parsed(line)) and one.format == FORMAT)


def keep(box: Box, records: Sequence[Record], *, most: int = MOST_LINES) -> None:
    """Add measurements, of which `most` lines stay. HostError: they cannot be kept."""
    lines = [*_lines(box), *(msgspec.json.encode(one) for one in records)][-most:]
    box.store.write_private(box.store.bench_log, b"".join(one + b"\n" for one in lines).decode())


def _lines(box: Box) -> list[bytes]:
    with contextlib.suppress(FileNotFoundError, HostError):
        return box.host.read(box.store.bench_log).splitlines()
    return []


def _parsed(line: bytes) -> Record | None:
    try:
        return msgspec.json.decode(line, type=Record)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
