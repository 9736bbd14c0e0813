"""The kernel's reports of GPUs, as the proxy hears of them.

A driver's dump is seen at the next look at the box. The kernel's log is read when there is reason
to: a server fell silent, died or stands still, a dump has come; and once a minute while servers
work. What happened before the proxy began is no news. Times are seconds of the proxy's clock, which
is the kernel's, too.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

import msgspec

from llmctl.core.gpu_reports import GpuReport
from llmctl.proxy.tasks import spawn

if TYPE_CHECKING:
    from llmctl.proxy.keeper import Keeper
    from llmctl.proxy.parties import Told
    from llmctl.proxy.routing import Served

AT_MOST_EVERY_S = 5.0
WORKING_EVERY_S = 60.0
FRESH_S = 600.0
"""For how long a report says something of what a server does."""
MOST = 16
"""Reports that are remembered."""


class GpuWatch:
    """Of one box. whose: the profile that a process is of, if it is one of ours."""

    def __init__(
        self, keeper: "Keeper", now: Callable[[], float], told: "Told",
        whose: Callable[[int], str | None],
    ) -> None:  # fmt: skip
        self._keeper, self._now, self._told, self._whose = keeper, now, told, whose
        self.reports: deque[GpuReport] = deque(maxlen=MOST)
        self._dumps: Collection[str] | None = None
        self._read_until = now()
        self._read_at = now()
        self._is_reading = self._has_read = False
        self._since: dict[str, tuple[int, float]] = {}

    def sees(self, served: "Served") -> None:
        """An instance as it is: since when is its process there?"""
        known = self._since.get(served.label)
        if known is None or known[0] != served.pid:
            self._since[served.label] = served.pid, self._now()

    def saw(self, dumps: Collection[GpuReport]) -> None:
        """The dumps that lie there at this look."""
        known, self._dumps = self._dumps, {one.what for one in dumps}
        for report in dumps:
            if known is not None and report.what not in known:
                self._note(msgspec.structs.replace(report, at=self._now()))
                self.suspect()

    def works(self) -> None:
        """Servers have work: now and then the kernel is asked, be there reason or not."""
        if self._now() - self._read_at >= WORKING_EVERY_S:
            self.suspect()

    def suspect(self) -> None:
        """Something may be wrong with a GPU: read the kernel's log, unless that was just done."""
        is_due = self._now() - self._read_at >= AT_MOST_EVERY_S or not self._has_read
        if is_due and not self._is_reading:
            self._is_reading = self._has_read = True
            self._read_at = self._now()
            spawn(self._read(), name="read the kernel's log")

    async def _read(self) -> None:
        try:
            reports = await asyncio.to_thread(self._keeper.gpu_reports)
        finally:
            self._is_reading = False
        news = [one for one in reports if one.at > self._read_until]
        for report in news:
            self._note(report)
        self._read_until = max((one.at for one in news), default=self._read_until)

    def _note(self, report: GpuReport) -> None:
        self.reports.append(report)
        self._told.gpu(report, self._whose(report.pid) if report.pid else None)

    def of(self, served: "Served") -> GpuReport | None:
        """The last fresh report that may be about this process."""
        pid, since = self._since.get(served.label, (0, 0.0))
        if pid != served.pid:
            return None
        mine = (
            one for one in reversed(self.reports)
            if one.may_concern(pid) and (one.pid or one.at >= since)
            and self._now() - one.at < FRESH_S
        )  # fmt: skip
        return next(mine, None)

    def problems(self) -> list[str]:
        """What a person should hear of now."""
        fresh = (one for one in self.reports if self._now() - one.at < FRESH_S)
        told = (f"The kernel reports of a GPU: {one}. {one.hint}" for one in fresh)
        return list(dict.fromkeys(told))

    def facts(self) -> list[dict[str, Any]]:
        """For /llmctl/status: all that are remembered, the last one first."""
        return [
            {**gpu_facts(one), "age_s": round(self._now() - one.at, 1)}
            for one in reversed(self.reports)
        ]


def gpu_facts(report: GpuReport) -> dict[str, Any]:
    """A report as events and pages show it."""
    return {
        "kind": report.kind, "what": report.what, "device": report.device,
        "pid": report.pid or None, "process": report.process or None,
    }  # fmt: skip
