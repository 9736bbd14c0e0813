"""A start that is short, and short halts after it: imported before all else, by the program alone.

Nothing that is imported is garbage, so collecting meanwhile costs time for nothing. And msgspec
takes three names from typing_extensions where it is there, and the same from typing where it is
not: 20 ms of CPU and 3 MB for nothing.
"""

import gc
import sys

_MANY = 10_000
"""Objects more than at the last look before garbage is looked for again: what a request makes ends
with it, and each look that finds nothing is a millisecond in which no answer moves."""
_TURN_S = 0.0005
"""How long a thread that looks at the box may keep answers waiting, for Python runs one at a time:
5 ms otherwise."""
_LEFT_OUT = "typing_extensions"

gc.disable()
sys.modules.setdefault(_LEFT_OUT, None)  # type: ignore[arg-type]


def imported() -> None:
    """All is there: garbage is collected from now on, and what is there is not looked at again.
    Neither that nor other threads keep answers waiting for long."""
    if sys.modules.get(_LEFT_OUT) is None:
        sys.modules.pop(_LEFT_OUT, None)
    gc.enable()
    gc.collect()
    gc.freeze()
    gc.set_threshold(_MANY)
    sys.setswitchinterval(_TURN_S)
