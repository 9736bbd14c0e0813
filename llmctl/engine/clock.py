"""Time as an argument: the engine's only way to know it and to let it pass."""

import time
from typing import Protocol


class Clock(Protocol):
    """Seconds that never go back."""

    def now(self) -> float:
        """Seconds since some fixed moment."""
        ...

    def sleep(self, seconds: float) -> None:
        """Let `seconds` pass. It may raise, which ends whatever waits."""
        ...


class SystemClock:
    """The real one."""

    def now(self) -> float:
        """See Clock."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """See Clock."""
        time.sleep(seconds)


def slept_s() -> float | None:
    """How long this machine has slept since it was booted; None where nobody counts (a Mac).

    CLOCK_MONOTONIC stands still meanwhile, and CLOCK_BOOTTIME does not: clock_gettime(2).
    """
    boot = getattr(time, "CLOCK_BOOTTIME", None)
    return None if boot is None else max(0.0, time.clock_gettime(boot) - time.monotonic())
