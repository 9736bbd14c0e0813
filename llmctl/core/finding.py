"""A finding: something of a box that is wrong, why it matters, and what to type."""

import enum
import re
from collections.abc import Iterable

import msgspec


class Grade(enum.Enum):
    """How a check went, or how bad a finding is."""

    OK = "ok"
    UNKNOWN = "unknown"  # it could not be looked at
    ADVICE = "advice"  # it works, and could be better
    WRONG = "wrong"


class Finding(msgspec.Struct, frozen=True):
    """what: what is true, a clause or a sentence. why: what comes of it. do: a command to type, or
    what to do where no command does it. grade: WRONG, ADVICE or UNKNOWN."""

    what: str
    why: str
    do: str
    grade: Grade = Grade.WRONG


_BY_WEIGHT = (Grade.WRONG, Grade.UNKNOWN, Grade.ADVICE)


def worst(findings: Iterable[Finding]) -> Grade:
    """The word for a check with these findings."""
    seen = {one.grade for one in findings}
    return next((grade for grade in _BY_WEIGHT if grade in seen), Grade.OK)


def advice(what: str, *, why: str, do: str) -> Finding:
    """A finding that is no fault."""
    return Finding(what, why, do, Grade.ADVICE)


_OURS = re.compile(
    r"\bllmctl (proxy \w+|apply|devices|disable|doctor|enable|list|logs|new|off|plan|render|scan"
    r"|show|status|switch)\b(?![^`;.\n]* --host\b)"
)


def with_host(text: str, host: str) -> str:
    """llmctl's own commands in a text, with the box that they are meant for."""
    return _OURS.sub(lambda found: f"{found[0]} --host {host}", text)


def from_elsewhere(finding: Finding, host: str) -> Finding:
    """The same for somebody who looks at a box from another machine: llmctl's own commands are
    typed here, all else there."""
    do = with_host(finding.do, host)
    return msgspec.structs.replace(finding, do=do if do != finding.do else f"on {host}: {do}")
