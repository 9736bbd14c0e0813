"""Servers that do not get on: they are found, named, restarted, and at last given up."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from llmctl.errors import LlmctlError
from llmctl.proxy.gpu_watch import GpuWatch
from llmctl.proxy.hangs import Hangs, given_up, hung, with_report
from llmctl.proxy.restarts import MOST, Restarts
from llmctl.proxy.tasks import spawn

if TYPE_CHECKING:
    from llmctl.proxy.dialect import Trouble
    from llmctl.proxy.keeper import Keeper, Seen
    from llmctl.proxy.parties import Told
    from llmctl.proxy.routing import Served
    from llmctl.proxy.switchboard import Switchboard


class Recovery:
    """Of one box."""

    def __init__(
        self, board: "Switchboard", keeper: "Keeper", now: Callable[[], float], told: "Told"
    ) -> None:
        self._board, self._keeper, self._now, self._told = board, keeper, now, told
        self._hangs, self._restarts = Hangs(), Restarts()
        self.gpus = GpuWatch(keeper, now, told, self._whose)

    def _whose(self, pid: int) -> str | None:
        board = self._board
        all_of_them = (*board.table.served.values(), *board.replicas)
        return next((one.name for one in all_of_them if one.pid == pid), None)

    def reset(self) -> None:
        """Somebody says that the configuration has changed."""
        self._restarts.clear()

    def observe(self, seen: "Seen") -> None:
        """What a look saw."""
        self._hangs.made(seen.made)
        for served in (*seen.served, *seen.replicas):
            if self._hangs.is_odd(served):
                self.gpus.suspect()
            self.gpus.sees(served)
            if self._hangs.see(served, self._now()) >= self._board.settings.hang_timeout_s:
                self._hangs.forget(served.label)
                self.restart(served, hung(served.label, self._board.settings.hang_timeout))
        self.gpus.saw(seen.dumps)

    def stall_limit(self, served: "Served") -> tuple[float, str]:
        """For how long nothing of this one's may move, in seconds and in words: less where its GPU
        is known to have failed."""
        settings = self._board.settings
        if self.gpus.of(served) and settings.hang_timeout_s < settings.stall_timeout_s:
            return settings.hang_timeout_s, settings.hang_timeout
        return settings.stall_timeout_s, settings.stall_timeout

    def restart(self, served: "Served", trouble: "Trouble") -> None:
        """It does not get on: what it works on is lost, what waits for it goes on waiting. Where a
        switch to another model follows from that, it is the end of this one."""
        report = self.gpus.of(served)
        if report is not None:
            trouble = with_report(trouble, str(report))
        again_s = self._restarts.again_in(served.label, self._now())
        if served.number > 1:
            self._told.restarting(served.name, trouble)
            self._board.replicas.restart(served, trouble, wait=again_s)
        elif again_s:
            self._give_up(served, trouble, again_s)
        else:
            self._told.restarting(served.name, trouble)
            self._end(served, trouble, self._keeper.restart)

    def _give_up(self, served: "Served", trouble: "Trouble", again_s: float) -> None:
        told = given_up(served.name, trouble, MOST, again_s)
        self._told.given_up(served.name, told)
        self._end(served, told, self._unload)
        self._board.gives_up(served, told, self._now() + again_s)

    def _end(self, served: "Served", trouble: "Trouble", work: Callable[[str], None]) -> None:
        self._board.end_all(served.name, trouble)
        if self._board.turns(served.queue).switching in (None, served.name):
            self._board.doubt(served)
            spawn(self._done(work, served.name), name=f"end the process of {served.name}")

    def _unload(self, name: str) -> None:
        self._keeper.unload((name,))

    async def _done(self, work: Callable[[str], None], name: str) -> None:
        try:
            await asyncio.to_thread(work, name)
        except LlmctlError as error:
            self._board.problem = error.message
        self._board.wake()
