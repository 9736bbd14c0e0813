"""A finding: something of a box that is wrong, why it matters, and what to type."""

import enum
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
