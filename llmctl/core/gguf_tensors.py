"""The list of tensors of a GGUF file: name, type, shape, place and size of each."""

import struct
from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec

from llmctl.core.gguf_types import TYPES, TensorType
from llmctl.core.gguf_window import Window

MAX_NAME = 63
"""Bytes (ggml.h: GGML_MAX_NAME is 64, with the terminating zero)."""
MAX_DIMS = 4
_INFO = tuple(struct.Struct(f"<{n}QIQ") for n in range(MAX_DIMS + 1))


class Tensor(msgspec.Struct, frozen=True):
    """One tensor: `shape` as in ggml (the row first), `offset` within its part's data, in bytes.

    For a type that only a fork knows, `type` is `type 140` and `nbytes` what the file leaves it.
    """

    name: str
    type: str
    shape: tuple[int, ...]
    offset: int
    nbytes: int
    part: int = 0


class _Info(msgspec.Struct, frozen=True, gc=False):
    name: str
    type: int
    shape: tuple[int, ...]
    offset: int


def read_tensors(window: Window, count: int, alignment: int) -> tuple[tuple[Tensor, ...], int]:
    """The infos of `count` tensors, and where in the file their data begins."""
    found = [_tensor(window, number) for number in range(count)]
    names = Counter(one.name for one in found)
    if len(names) != count:
        raise window.fail(f"tensor {names.most_common(1)[0][0]} is there twice")
    for one in found:
        if one.offset % alignment:
            raise window.fail(f"{one.name} lies at {one.offset}, not a multiple of {alignment}")
    start = -(-window.pos // alignment) * alignment
    return _sized(found, window.size - start), start


def _tensor(window: Window, number: int) -> _Info:
    at = window.pos
    length = window.u64(f"the name of tensor {number}")
    if length > MAX_NAME:
        raise window.fail(f"the name of tensor {number} has {length} bytes", at=at)
    try:
        name = window.raw(length, f"the name of tensor {number}").decode()
    except UnicodeDecodeError:
        raise window.fail(f"the name of tensor {number} is not UTF-8", at=at) from None
    dims = window.u32(f"the shape of {name}")
    if dims > MAX_DIMS:
        raise window.fail(f"tensor {name} has {dims} dimensions, not at most {MAX_DIMS}", at=at)
    info, at = _INFO[dims], window.pos
    window.need(at + info.size, f"tensor {name}")
    window.pos = at + info.size
    *shape, type_, offset = info.unpack_from(window.data, at)
    _check_shape(window, name, shape, type_)
    return _Info(name, type_, tuple(shape), offset)


def _check_shape(window: Window, name: str, shape: list[int], type_: int) -> None:
    """As gguf.cpp: no overflow, rows of whole blocks."""
    elements = 1
    for one in shape:
        elements *= max(one, 1)
    if elements >= 1 << 63:
        raise window.fail(f"tensor {name} has the impossible shape {shape}")
    known = TYPES.get(type_)
    if known and shape and shape[0] % known.block:
        raise window.fail(f"{name} has rows of {shape[0]}, no multiple of {known.block}")


def _sized(found: Sequence[_Info], space: int) -> tuple[Tensor, ...]:
    gaps = _gaps(found, space) if any(one.type not in TYPES for one in found) else {}
    return tuple(
        Tensor(one.name, known.name, one.shape, one.offset, _nbytes(known, one.shape))
        if (known := TYPES.get(one.type))
        else Tensor(one.name, f"type {one.type}", one.shape, one.offset, gaps[one.offset])
        for one in found
    )


def _gaps(found: Iterable[_Info], space: int) -> dict[int, int]:
    """From each offset to the next, or to the end of the file: an upper bound of a size."""
    offsets = sorted({one.offset for one in found})
    ends = [*offsets[1:], max(space, offsets[-1])]
    return {start: end - start for start, end in zip(offsets, ends, strict=True)}


def _nbytes(type_: TensorType, shape: tuple[int, ...]) -> int:
    """Bytes of a tensor (ggml.c: ggml_nbytes of a contiguous one)."""
    rows = 1
    for one in shape[1:]:
        rows *= one
    return type_.row_bytes(shape[0] if shape else 1) * rows
