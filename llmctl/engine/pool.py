"""Room for one more member of a pool: which of the others stop for it."""

from collections.abc import Mapping

import msgspec

from llmctl.core.progress import Report
from llmctl.engine.box import Box
from llmctl.engine.clock import Clock
from llmctl.errors import DoesNotFitError


class Seen(msgspec.Struct, frozen=True):
    """What a member does. idle_s: since its last request ended; 0 while it works. busy: it must
    not be stopped."""

    idle_s: float = 0.0
    busy: bool = False


def make_room(
    box: Box, name: str, seen: Mapping[str, Seen], *, clock: Clock, report: Report
) -> tuple[str, ...]:
    """Stop the cheapest idle members of a profile's pool so that it fits, and give their names.

    seen: of the members that run; one that is not in it is taken to be busy. None of them is
    stopped unless the whole set is enough. DoesNotFitError: no set is; it names who holds what, and
    who is busy or pinned.
    """
    raise DoesNotFitError(f"{name}: nobody makes room yet.")
