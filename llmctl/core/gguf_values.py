"""The metadata of a GGUF file: typed values, and arrays that are not worth materialising.

A vocabulary has hundreds of thousands of strings, each behind its own length, so that walking over
them is most of what reading a head costs. `Walk.JUMP` looks for the next key instead: 7 zero bytes
(of a length below 256) and the beginning that all keys behind a vocabulary have. A token may look
like that too, so the caller believes a jump only when everything behind it makes sense.
"""

import enum
import struct
from typing import Final, TypeAlias

import msgspec

from llmctl.core.gguf_window import Window

Scalar: TypeAlias = bool | int | float | str
Value: TypeAlias = Scalar | tuple[Scalar, ...]

_STRING, _ARRAY = 8, 9
_FIXED: Final = {
    number: (name, struct.Struct(f"<{code}"))
    for number, name, code in (
        (0, "u8", "B"), (1, "i8", "b"), (2, "u16", "H"), (3, "i16", "h"), (4, "u32", "I"),
        (5, "i32", "i"), (6, "f32", "f"), (7, "bool", "B"), (10, "u64", "Q"), (11, "i64", "q"),
        (12, "f64", "d"),
    )
}  # fmt: skip
_MATERIALISED = 4096
_JUMPED = 4096
_JUMP_REACH = 64  # bytes per item: beyond, walking is no slower than searching
_NEXT_KEY = (b"\0" * 7 + b"tokenizer.", b"\0" * 7 + b"general.")
_ITEM = struct.Struct("<Q")


class Walk(enum.Enum):
    """How to get past a long array of strings."""

    JUMP = "jump"
    EXACT = "exact"


class Array(msgspec.Struct, frozen=True):
    """An array left in the file: what it holds, and the bytes of its items."""

    type: str
    count: int
    start: int
    end: int


class Values(msgspec.Struct):
    """What has been read of the metadata so far. `jumped`: some of it may be wrong."""

    plain: dict[str, Value]
    arrays: dict[str, Array]
    jumped: bool = False


def read_values(window: Window, values: Values, count: int, walk: Walk) -> None:
    """Adds `count` keys with their values (gguf.cpp: gguf_init_from_reader)."""
    for number in range(count):
        _read_pair(window, values, number, walk)


def _read_pair(window: Window, values: Values, number: int, walk: Walk) -> None:
    at = window.pos
    raw = window.text(f"key {number}")
    try:
        key = raw.decode()
    except UnicodeDecodeError:
        raise window.fail(f"key {number} is not UTF-8: {raw[:40]!r}", at=at) from None
    if not key or key in values.plain or key in values.arrays:
        raise window.fail(f"key {number} is {'a second ' + key if key else 'empty'}", at=at)
    type_ = window.u32(f"the type of {key}")
    if type_ == _ARRAY:
        _read_array(window, values, key, walk)
    else:
        values.plain[key] = _scalar(window, key, type_)


def _scalar(window: Window, key: str, type_: int) -> Scalar:
    if type_ == _STRING:
        return window.text(f"the value of {key}").decode(errors="replace")
    _, item = _fixed(window, key, type_)
    at = window.pos
    window.need(at + item.size, f"the value of {key}")
    window.pos = at + item.size
    value: int | float = item.unpack_from(window.data, at)[0]
    return bool(value) if type_ == 7 else value


def _fixed(window: Window, key: str, type_: int) -> tuple[str, struct.Struct]:
    try:
        return _FIXED[type_]
    except KeyError:
        raise window.fail(f"{key} is of type {type_}, which does not exist") from None


def _read_array(window: Window, values: Values, key: str, walk: Walk) -> None:
    type_, count = _array_head(window, key)
    start = window.pos
    if type_ == _STRING and count > _JUMPED and walk is Walk.JUMP and _jump(window, count):
        values.jumped = True
    elif count <= _MATERIALISED and type_ != _ARRAY and not key.startswith("tokenizer."):
        values.plain[key] = tuple(_items(window, key, type_, count))
        return
    else:
        _skip(window, key, type_, count)
    name = {_STRING: "string", _ARRAY: "array"}.get(type_) or _FIXED[type_][0]
    values.arrays[key] = Array(name, count, start, window.pos)


def _array_head(window: Window, key: str) -> tuple[int, int]:
    """Type of the items and their number, which the rest of the file must be able to hold."""
    type_ = window.u32(f"the item type of {key}")
    at = window.pos
    count = window.u64(f"the length of {key}")
    item = 8 if type_ == _STRING else 12 if type_ == _ARRAY else _fixed(window, key, type_)[1].size
    if count * item > window.size - window.pos:
        raise window.fail(f"{key} claims {count} items, more than the file can hold", at=at)
    return type_, count


def _items(window: Window, key: str, type_: int, count: int) -> list[Scalar]:
    if type_ == _STRING:
        return [_scalar(window, f"{key}[{n}]", _STRING) for n in range(count)]
    code = _FIXED[type_][1].format[1:]
    item = struct.Struct(f"<{count}{code}")
    raw = item.unpack(window.raw(item.size, key))
    return [bool(one) for one in raw] if type_ == 7 else list(raw)


def _skip(window: Window, key: str, type_: int, count: int) -> None:
    if type_ == _STRING:
        _walk_strings(window, key, count)
    elif type_ != _ARRAY:
        window.skip(count * _FIXED[type_][1].size, key)
    else:
        _skip_arrays(window, key, count)


def _skip_arrays(window: Window, key: str, count: int) -> None:
    """Arrays in arrays: the format has them, llama.cpp refuses them, no model does."""
    for _ in range(count if count <= _MATERIALISED else 0):
        type_, inner = _array_head(window, key)
        if type_ == _ARRAY:
            break
        _skip(window, key, type_, inner)
    else:
        if count <= _MATERIALISED:
            return
    raise window.fail(f"{key} nests arrays deeper or wider than any model does")


def _walk_strings(window: Window, key: str, count: int) -> None:
    """Passes `count` strings one by one: exact, and the slow part of a long head."""
    pos, filled, data, unpack = window.pos, window.filled, window.data, _ITEM.unpack_from
    for _ in range(count):
        if pos + 8 > filled:
            window.need(pos + 8, key)
            filled, data = window.filled, window.data
        pos += 8 + unpack(data, pos)[0]
        if pos > filled:
            window.need(pos, key)
            filled, data = window.filled, window.data
    window.pos = pos


def _jump(window: Window, count: int) -> bool:
    """Moves to what looks like the next key. False, and unmoved, if nothing does."""
    end = window.pos + _JUMP_REACH * count
    hits = []
    for pattern in _NEXT_KEY:
        found = window.find(pattern, end)
        if found >= 0:
            hits.append(found)
            end = found
    if not hits or hits[-1] - 1 < window.pos + 8 * count:
        return False
    window.pos = hits[-1] - 1
    return True
