"""Is a conversation going round in circles: the same tool calls, with the same results?"""

from collections.abc import Sequence
from fnmatch import fnmatchcase

import msgspec

from llmctl.core.guard.history import Shape, Step, names_of, steps
from llmctl.core.guard.json_parts import Bytes
from llmctl.core.guard.settings import GuardSettings

LONGEST_CYCLE = 6
"""Steps."""
MOST_STEPS = 100
"""How far back is looked, unless the settings' last number needs more."""
_MOST_SAMPLE = 400


class Cycle(msgspec.Struct, frozen=True):
    """The last steps were `period` steps, `repeats` times. is_exact: their results were equal, not
    only alike. tools: their names. sample: the first of the calls, with its arguments."""

    period: int
    repeats: int
    is_exact: bool
    tools: tuple[str, ...]
    sample: str = ""


def tool_loop(body: Bytes, kind: Shape, settings: GuardSettings) -> Cycle | None:
    """The circle that a request's conversation goes round in, once it has done so as often as the
    settings' first number says."""
    least = settings.tool_nudges[0]
    most = max(MOST_STEPS, LONGEST_CYCLE * settings.tool_nudges[-1])
    return find_cycle(steps(body, kind)[-most:], least=least, exempt=settings.exempt_tools)


def find_cycle(found: Sequence[Step], *, least: int, exempt: Sequence[str] = ()) -> Cycle | None:
    """The shortest one that repeats often enough. One with an exempt tool is none: what waits for
    something may ask in between."""
    for period in range(1, min(LONGEST_CYCLE, len(found) // least) + 1):
        same = _repeating(found, period)
        repeats = same // period + 1
        if repeats >= least:
            cycle = found[-period:]
            tools = tuple(names_of(cycle))
            if any(fnmatchcase(name, pattern) for name in tools for pattern in exempt):
                return None
            pairs = zip(found[-same:], found[-same - period : -period], strict=True)
            is_exact = all(one.has_results_of(two) for one, two in pairs)
            return Cycle(period, repeats, is_exact, tools, _sample(cycle[0]))
    return None


def _sample(step: Step) -> str:
    call = step.calls[0]
    return f"{call.name} {call.arguments[:_MOST_SAMPLE].decode(errors='replace')}"


def _repeating(found: Sequence[Step], period: int) -> int:
    """How many of the last steps are like the one `period` steps before."""
    count = 0
    while count + period < len(found) and found[-1 - count].is_like(found[-1 - count - period]):
        count += 1
    return count
