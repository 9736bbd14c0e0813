"""Files with a real head and no data: as large as the model, and they cost nothing."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from support.oracle import FORKS, header_of

from llmctl.core.gguf_types import TYPES

if TYPE_CHECKING:
    from pathlib import Path

_NUMBERS = {one.name: number for number, one in TYPES.items()}
_NUMBERS |= {name: number for name, (number, _, _) in FORKS.items()}


def _text(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def _value(value: Any) -> bytes:
    """Its type and itself, as gguf-py writes what llama.cpp reads."""
    match value:
        case bool():
            return struct.pack("<IB", 7, value)
        case int():
            return struct.pack("<II", 4, value)
        case float():
            return struct.pack("<If", 6, value)
        case str():
            return struct.pack("<I", 8) + _text(value)
        case _:
            items = [_value(one) for one in value]
            return struct.pack("<I", 9) + items[0][:4] + struct.pack("<Q", len(items)) + b"".join(
                one[4:] for one in items
            )  # fmt: skip


def head_bytes(model: dict[str, Any]) -> tuple[bytes, int]:
    """The head of one of the oracle's models, and how long its file is."""
    metadata = {key: value for key, value in model["metadata"].items() if value != []}
    tensors = header_of(metadata, model["tensors"]).tensors
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata))
    head += b"".join(_text(key) + _value(value) for key, value in metadata.items())
    for one in tensors:
        dims = struct.pack(f"<I{len(one.shape)}Q", len(one.shape), *one.shape)
        head += _text(one.name) + dims + struct.pack("<IQ", _NUMBERS[one.type], one.offset)
    start = -(-len(head) // 32) * 32
    return head, start + max((one.offset + one.nbytes for one in tensors), default=0)


def write_head(path: Path, model: dict[str, Any]) -> None:
    """One of the oracle's models as a sparse file."""
    head, size = head_bytes(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(head)
        file.truncate(size)
