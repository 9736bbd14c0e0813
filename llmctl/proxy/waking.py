"""The machine woke up: models that ran while it slept are looked after at once.

Nobody tells a user's program of a resume, but one clock stands still while the machine sleeps and
another does not (clock_gettime(2)): when they drift apart, it has slept.
"""

import asyncio
from collections.abc import Callable

from llmctl.core.slept import NOTICEABLE_S
from llmctl.errors import LlmctlError
from llmctl.proxy.tasks import log

LOOK_S = 2.0
SETTLE_S = 3.0
"""Drivers and their daemons are given so long before a server is asked."""


class Waking:
    """slept: how long the machine has slept in all, or None where nobody counts. look_after: asks
    the models (engine/resume.py), and gives the names of those that it restarted; it blocks."""

    def __init__(
        self, slept: Callable[[], float | None], look_after: Callable[[], tuple[str, ...]], *,
        look_s: float = LOOK_S, settle_s: float = SETTLE_S,
    ) -> None:  # fmt: skip
        self._slept, self._look_after = slept, look_after
        self._look_s, self._settle_s = look_s, settle_s
        self._known = slept() or 0.0

    def has_slept(self) -> bool:
        """Since it was asked last."""
        now = self._slept() or 0.0
        news = now - self._known >= NOTICEABLE_S
        if news:
            self._known = now
        return news

    async def watch(self) -> None:
        """For ever."""
        while True:
            await asyncio.sleep(self._look_s)
            if self.has_slept():
                await asyncio.sleep(self._settle_s)
                await self.see_to_it()

    async def see_to_it(self) -> None:
        """Once. What goes wrong is for the journal; who asks a dead model hears of it anyway."""
        try:
            restarted = await asyncio.to_thread(self._look_after)
        except LlmctlError as error:
            log(f"whether models survived the machine's sleep was not found out: {error.message}")
            return
        for name in restarted:
            log(f"{name} did not survive the machine's sleep, and is restarted")
