"""Which flags a llama-server build has, read from its own --help.

llama.cpp adds and removes flags monthly (`--mlock` and `--draft-max` are gone, `-fa` learnt a
value), and an unknown one ends the server at once, so nothing is rendered unprobed.
"""

import re
from collections.abc import Iterable

import msgspec

REMOVED = "the argument has been removed"
_NAME = re.compile(r"-{1,2}[A-Za-z][A-Za-z0-9.-]*")


class Flags(msgspec.Struct, frozen=True):
    """Flag name (every spelling) -> its help: the value's form, then the text, on one line."""

    help: dict[str, str] = {}

    def __contains__(self, flag: str) -> bool:
        return flag in self.help and REMOVED not in self.help[flag]

    def first(self, *spellings: str) -> str | None:
        """The first of `spellings` that this build has."""
        return next((flag for flag in spellings if flag in self), None)

    def synonyms(self, flag: str) -> frozenset[str]:
        """Other spellings of a flag: one entry of the help lists them all."""
        text = self.help.get(flag)
        return frozenset(one for one, its in self.help.items() if text and its == text) - {flag}

    def says(self, flag: str, word: str) -> bool:
        """The help of `flag` mentions `word` as a whole word."""
        return (
            re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", self.help.get(flag, "")) is not None
        )

    def removed(self, flag: str) -> str | None:
        """What the build itself says of a flag that it used to have."""
        text = self.help.get(flag, "")
        return text[text.index(REMOVED) :] if REMOVED in text else None

    def near(self, flag: str) -> str | None:
        """The spelling that a mistyped flag most likely meant."""
        import difflib  # only complaints need it

        known = [one for one in self.help if one in self]
        return next(iter(difflib.get_close_matches(flag, known, n=1, cutoff=0.7)), None)


def parse_help(text: str) -> Flags:
    """`llama-server --help` -> Flags.

    An entry starts in column 0 with a dash: spellings, an optional value, two or more spaces, text.
    Lines that are indented continue it (common/arg.cpp, common_arg::to_string).
    """
    found: dict[str, str] = {}
    for entry in _entries(text.splitlines()):
        names, rest = _names(entry)
        found |= dict.fromkeys(names, rest)
    return Flags(help=found)


def _entries(lines: Iterable[str]) -> list[str]:
    entries: list[str] = []
    for line in lines:
        if line.startswith("-") and not line.startswith("-----"):
            entries.append(line.rstrip())
        elif line.startswith(" ") and entries:
            entries[-1] += "  " + line.strip()
    return entries


def _names(entry: str) -> tuple[list[str], str]:
    """`-c,    --ctx-size N    text` -> (["-c", "--ctx-size"], "N text")."""
    names: list[str] = []
    rest = entry
    while match := re.match(rf"({_NAME.pattern})(,?)\s*", rest):
        names.append(match[1])
        rest = rest[match.end() :]
        if not match[2]:
            break
    return names, " ".join(rest.split())
