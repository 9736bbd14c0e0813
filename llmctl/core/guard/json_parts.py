"""JSON in parts: one value of a document is read, or put in another's place, and every other byte
stays as it was. What is not asked for is never built."""

import re

import msgspec

Raw = msgspec.Raw
_OBJECT = msgspec.json.Decoder(dict[str, Raw])
_ARRAY = msgspec.json.Decoder(list[Raw])
_TEXT = msgspec.json.Decoder(str)
_KEY = re.compile(rb'[\s,{]*"[^"\\]*(?:\\.[^"\\]*)*"\s*:\s*', re.DOTALL)
_OPENING = re.compile(rb"\s*\[\s*")
_COMMA = re.compile(rb"\s*,\s*")
Bytes = bytes | Raw | memoryview
"""JSON that was read, or is part of what was read."""


def fields(data: Bytes | None) -> dict[str, Raw]:
    """The values of an object by key; of equal keys the last. Empty: it is none."""
    try:
        return {} if data is None else _OBJECT.decode(data)
    except (msgspec.DecodeError, RecursionError, ValueError):
        return {}


def items(data: Bytes | None) -> list[Raw]:
    """The items of an array. Empty: it is none."""
    try:
        return [] if data is None else _ARRAY.decode(data)
    except (msgspec.DecodeError, RecursionError, ValueError):
        return []


def text(data: Bytes | None) -> str | None:
    """A text; None: it is none."""
    try:
        return None if data is None else _TEXT.decode(data)
    except (msgspec.DecodeError, ValueError):
        return None


def with_value(data: bytes, key: str, value: bytes) -> bytes:
    """An object with another value for that key, or with one more."""
    found = fields(data)
    if key not in found:
        comma = b"," if found else b""
        head, _, tail = data.rpartition(b"}")
        return b"%b%b%b:%b}%b" % (head, comma, msgspec.json.encode(key), value, tail)
    at = start = end = 0
    for name, one in found.items():
        mark, old = _KEY.match(data, at), bytes(one)
        if mark is None or not data.startswith(old, mark.end()):
            break
        at = mark.end() + len(old)
        if name == key:
            start, end = mark.end(), at
    else:
        if data[at:].strip() == b"}":
            return data[:start] + value + data[end:]
    return msgspec.json.encode({**found, key: Raw(value)})  # a key stands twice


def with_item(data: bytes, index: int, value: bytes) -> bytes:
    """An array with another value at that place, which it has."""
    at = 0
    for number, one in enumerate(items(data)):
        gap = (_COMMA if number else _OPENING).match(data, at)
        assert gap is not None  # noqa: S101  # it was read
        start = gap.end()
        at = start + len(bytes(one))
        if number == index:
            return data[:start] + value + data[at:]
    raise IndexError(index)


def with_one_more(data: bytes, value: bytes) -> bytes:
    """An array with one more item."""
    comma = b"," if items(data) else b""
    head, _, tail = data.rpartition(b"]")
    return b"%b%b%b]%b" % (head, comma, value, tail)


def longer(data: bytes, more: str) -> bytes:
    """A text with more of it at its end."""
    head, _, tail = data.rpartition(b'"')
    return head + msgspec.json.encode(more)[1:] + tail
