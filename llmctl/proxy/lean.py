"""A start that is short: imported before all else, by the program alone.

Nothing that is imported is garbage, so collecting meanwhile costs time for nothing. And msgspec
takes three names from typing_extensions where it is there, and the same from typing where it is
not: 20 ms of CPU and 3 MB for nothing.
"""

import gc
import sys

_LEFT_OUT = "typing_extensions"

gc.disable()
sys.modules.setdefault(_LEFT_OUT, None)  # type: ignore[arg-type]


def imported() -> None:
    """All is there: garbage is collected from now on, and what is there is not looked at again."""
    if sys.modules.get(_LEFT_OUT) is None:
        sys.modules.pop(_LEFT_OUT, None)
    gc.enable()
    gc.collect()
    gc.freeze()
