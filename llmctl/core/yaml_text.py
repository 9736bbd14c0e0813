"""Values as YAML that every parser and editor reads alike, be it of YAML 1.1 or 1.2.

A word stands plain only where no parser takes it for anything but text; everything else is in
double quotes, with what is not printable escaped (YAML 1.2, section 5.1 and 7.3.1).
"""

import re
from collections.abc import Mapping, Sequence

_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_./+@%-]*|[1-9][0-9]*(?:ms|s|m|h)")
_WORDS = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})
_NAMED = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def flow(value: object, *, words: frozenset[str] = frozenset()) -> str:
    """A value on one line. words: those that may stand plain although YAML 1.1 has them for true
    and false. ValueError: text with half a character, as a file name may have that is no UTF-8.
    """
    match value:
        case None | bool():
            return "null" if value is None else str(value).lower()
        case int():
            return str(value)
        case float():
            return number(value)
        case str():
            return value if value in words else text(value)
        case Mapping():
            pairs = (f"{flow(key)}: {flow(one, words=words)}" for key, one in value.items())
            return f"{{{', '.join(pairs)}}}"
        case Sequence():
            return f"[{', '.join(flow(one, words=words) for one in value)}]"
        case _:
            raise TypeError(f"{value!r} has no place in YAML")


def text(value: str) -> str:
    """Text, quoted where it must be."""
    if _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    return f'"{"".join(map(_character, value))}"'


def _character(one: str) -> str:
    code = ord(one)
    if 0xD800 <= code < 0xE000:
        raise ValueError("it holds bytes that are no UTF-8")
    if one in _NAMED or one.isprintable():
        return _NAMED.get(one, one)
    if code < 1 << 8:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 1 << 16 else f"\\U{code:08x}"


def number(value: float) -> str:
    """A finite number, so that it is the same one when it is read."""
    shown = repr(value)
    return shown if any(sign in shown for sign in ".e") else f"{shown}.0"


def comment(value: str, *, most: int = 72) -> str:
    """Text of somebody else's in a comment: one line, printable, and short."""
    line = "".join(one if one.isprintable() else "?" for one in " ".join(value.split()))
    return line if len(line) <= most else f"{line[: most - 3]}..."
