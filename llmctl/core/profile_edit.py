"""Changes keys in the text of a profile, or of hosts.yaml, and leaves all the rest as a person
wrote it: comments, order, blank lines.

Only what stands on lines of its own is understood. Whoever calls compares what the new text says
with what it should say, and leaves a file alone that is written in another way.
"""

import re
from collections.abc import Mapping
from typing import Any

from llmctl.core.yaml_text import flow

_WORDS = frozenset({"on", "off"})


def edited(text: str, keys: Mapping[str, Any]) -> str:
    """The text with these top-level keys set. A block that is replaced by one line stays beside it
    as a comment."""
    lines = text.splitlines()
    for key, value in keys.items():
        lines = _set(lines, key, value)
    return "\n".join(lines) + "\n"


def added(text: str, section: str, key: str, value: Any) -> str:
    """The text with a key of a section set, where the section is a block, is empty, or is not
    there yet: a line of its own for each key, so that comments have a place."""
    lines = text.splitlines()
    at = _line_of(lines, section)
    if at is not None and _end_of(lines, at) > at + 1:
        return edited(text, {section: {key: value}})
    told = [f"{section}:", f"  {key}: {flow(value, words=_WORDS)}"]
    before, after = (lines, []) if at is None else (lines[:at], lines[at + 1 :])
    return "\n".join([*before, *told, *after]) + "\n"


def removed(text: str, section: str, key: str) -> str:
    """The text without a key of a section that is a block. Comments before the key stay."""
    lines = text.splitlines()
    at = _line_of(lines, section)
    if at is None:
        return text
    end = _end_of(lines, at)
    block = lines[at + 1 : end]
    indent = _indent_of(block)
    own = [line.removeprefix(indent) for line in block]
    first = _line_of(own, key)
    if first is None:
        return text
    block[first : _end_of(own, first)] = []
    return "\n".join([*lines[: at + 1], *block, *lines[end:]]) + "\n"


def _line_of(lines: list[str], key: str) -> int | None:
    pattern = re.compile(rf"""(["']?){re.escape(key)}\1\s*:(?=\s|$)""")
    return next((n for n, line in enumerate(lines) if pattern.match(line)), None)


def _indent_of(block: list[str]) -> str:
    first = next((line for line in block if line.strip()), "")
    return first[: len(first) - len(first.lstrip())]


def _set(lines: list[str], key: str, value: Any) -> list[str]:
    at = _line_of(lines, key)
    if at is None:
        return [*lines, f"{key}: {flow(value, words=_WORDS)}"]
    end = _end_of(lines, at)
    block = lines[at + 1 : end]
    if isinstance(value, Mapping) and block and _is_bare(lines[at]):
        return [*lines[: at + 1], *_inside(block, value), *lines[end:]]
    told = f"{key}: {flow(value, words=_WORDS)}{_comment_of(lines[at])}"
    return [*lines[:at], *(f"# {one}" if one.strip() else one for one in block), told, *lines[end:]]


def _inside(block: list[str], values: Mapping[str, Any]) -> list[str]:
    """A block mapping with these keys set."""
    indent = _indent_of(block)
    for key, value in values.items():
        own = [line.removeprefix(indent) for line in block]
        block = [indent + line if line.strip() else line for line in _set(own, key, value)]
    return block


def _end_of(lines: list[str], at: int) -> int:
    """The line after a key's value: the next one that is not indented. Blank lines and comments
    before it are no part of the value."""
    end = at + 1
    for number in range(at + 1, len(lines)):
        line = lines[number]
        if line[:1].isspace() and line.strip():
            end = number + 1
        elif line.strip() and not line.startswith("#"):
            break
    return end


def _is_bare(line: str) -> bool:
    """Does nothing stand behind the colon but a comment?"""
    rest = line.partition(":")[2].strip()
    return not rest or rest.startswith("#")


def _comment_of(line: str) -> str:
    """The comment at the end of a line, with the blanks before it."""
    quote = ""
    for at, one in enumerate(line):
        if quote:
            quote = "" if one == quote else quote
        elif one in "\"'":
            quote = one
        elif one == "#" and line[at - 1].isspace():
            return line[len(line[:at].rstrip()) :]
    return ""
