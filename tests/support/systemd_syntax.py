"""How systemd reads a unit file: written from systemd.syntax(7) and systemd.service(5), to check
llmctl's quoting with eyes other than its own.
"""

from __future__ import annotations

import re

_ESCAPES = {
    "a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "s": " ",
    "\\": "\\", '"': '"', "'": "'",
}  # fmt: skip
_BLANK = " \t\n\r"


class SyntaxRefusedError(ValueError):
    """systemd would complain about this text, or read something else than was meant."""


def settings(text: str) -> list[tuple[str, str, str]]:
    """(section, key, value) of every assignment, continuation lines joined."""
    found: list[tuple[str, str, str]] = []
    section = ""
    for line in _logical_lines(text):
        if line.startswith("["):
            section = line[1:-1]
        elif line:
            key, equals, value = line.partition("=")
            if not equals:
                raise SyntaxRefusedError(f"no assignment: {line}")
            found.append((section, key.strip(), value.strip()))
    return found


def values(text: str, key: str) -> list[str]:
    """All values of a key, in any section."""
    return [value for _, name, value in settings(text) if name == key]


def _logical_lines(text: str) -> list[str]:
    lines: list[str] = []
    pending = ""
    for raw in text.split("\n"):
        line = raw.strip(_BLANK) if not pending else raw.rstrip(_BLANK)
        if line.lstrip(_BLANK).startswith(("#", ";")):
            continue  # a comment, also between continued lines
        pending += line
        if _ends_in_escape(pending):
            pending = pending[:-1] + " "
        else:
            lines.append(pending.strip(_BLANK))
            pending = ""
    return lines


def _ends_in_escape(line: str) -> bool:
    return (len(line) - len(line.rstrip("\\"))) % 2 == 1


def exec_words(value: str) -> list[str]:
    """The words that an ExecStart= value executes."""
    first, *rest = split(value)
    if first[:1] in "@-:+!|":
        raise SyntaxRefusedError(f"a special prefix: {first}")
    return [_no_variables(_specifiers(first)), *(_dollars(_specifiers(word)) for word in rest)]


def assignment(value: str) -> tuple[str, str]:
    """NAME and VALUE of an Environment= value that holds one assignment."""
    (word,) = split(value)
    name, equals, text = _specifiers(word).partition("=")
    if not equals:
        raise SyntaxRefusedError(f"no assignment: {word}")
    return name, text


def split(value: str) -> list[str]:
    """Words as systemd.syntax(7), "Quoting", has them."""
    words: list[str] = []
    rest = value.strip(_BLANK)
    while rest:
        if re.match(r";(\s|$)", rest):
            raise SyntaxRefusedError("a lone ; begins another command")
        word, rest = _word(rest)
        words.append(word)
        rest = rest.lstrip(_BLANK)
    return words


def _word(text: str) -> tuple[str, str]:
    built = ""
    quote = ""
    position = 0
    while position < len(text):
        sign = text[position]
        position += 1
        if quote and sign == quote:
            quote = ""
        elif not quote and sign in "\"'":
            quote = sign
        elif sign == "\\":
            piece, position = _escape(text, position)
            built += piece
        elif not quote and sign in _BLANK:
            break
        else:
            built += sign
    if quote:
        raise SyntaxRefusedError(f"unbalanced quotes: {text}")
    return built, text[position:]


def _escape(text: str, position: int) -> tuple[str, int]:
    sign = text[position : position + 1]
    if sign in _ESCAPES and sign:
        return _ESCAPES[sign], position + 1
    if match := re.compile(r"x([0-9a-fA-F]{2})").match(text, position):
        if match[1] == "00":
            raise SyntaxRefusedError("a NUL")
        return chr(int(match[1], 16)), match.end()
    raise SyntaxRefusedError(f"unknown escape: \\{sign}")


def _specifiers(word: str) -> str:
    if found := re.search(r"%[^%]|%$", re.sub("%%", "", word)):
        raise SyntaxRefusedError(f"a specifier: {found[0]}")
    return word.replace("%%", "%")


def _dollars(word: str) -> str:
    if found := re.search(r"\$", re.sub(r"\$\$", "", word)):
        raise SyntaxRefusedError(f"a variable: {found[0]}")
    return word.replace("$$", "$")


def _no_variables(word: str) -> str:
    if "$" in word:
        raise SyntaxRefusedError("the path of the program would be expanded")
    return word
