"""Is it ready, still coming, or lost? The judgement of a unit on its way up, without a clock.

A start is asked for with --no-block; from then on systemd's own properties tell how it goes. A new
InvocationID is a new run: the one that follows the request is ours, the next one means that ours
died and systemd tried again (a failed start under Restart=on-failure shows as `activating
(auto-restart)`, never as `failed`, until the start limit is hit).
"""

import enum

import msgspec

from llmctl.core.state import Health, UnitStatus

CLD_EXITED = 1
"""ExecMainCode of a process that exited; waitid(2)."""


class Ready(msgspec.Struct, frozen=True):
    """The right model answers, `seconds` after it was asked for. pid: of the process that does."""

    seconds: float
    pid: int = 0


class Crashed(msgspec.Struct, frozen=True):
    """The run we waited for ended badly."""

    status: UnitStatus


class Gone(msgspec.Struct, frozen=True):
    """The start was cancelled, or the run ended without a failure. fresh: it had begun."""

    status: UnitStatus
    fresh: bool

    @property
    def by_itself(self) -> bool:
        """The server exited with status 0 of its own accord.

        While it loads, a stop ends llama-server by the signal itself: its handlers come later.
        """
        return self.fresh and self.status.exit_code == CLD_EXITED


class Stalled(msgspec.Struct, frozen=True):
    """Nothing moved for `seconds`."""

    status: UnitStatus
    health: Health
    seconds: float


class Impostor(msgspec.Struct, frozen=True):
    """The port answers under another name."""

    status: UnitStatus
    alias: str | None


Outcome = Ready | Crashed | Gone | Stalled | Impostor


class Phase(enum.Enum):
    """Where a unit is on its way up."""

    QUEUED = "queued"  # systemd has not started it yet: something else must stop first
    RUNNING = "running"  # the server was executed; whether it answers is another question


class Watch(msgspec.Struct, frozen=True):
    """What is known of the run being waited for.

    before: the unit when the start was asked for. must_differ: it was a restart, so the run that
    was active then does not count. run: InvocationID of the run being watched, once it began.
    """

    before: UnitStatus
    must_differ: bool = False
    run: str = ""

    def see(self, now: UnitStatus) -> "Watch":
        """The watch after another look: remembers the first run that counts."""
        counts = now.invocation != self.before.invocation or (
            now.is_running and not self.must_differ
        )
        return (
            msgspec.structs.replace(self, run=now.invocation) if counts and not self.run else self
        )

    def judge(self, now: UnitStatus) -> Phase | Crashed | Gone:
        """The phase of the run, or how it ended. `now` has been seen."""
        if self.run and now.invocation not in (self.run, ""):
            # systemd is trying again. (An empty id is a unit that was stopped and unloaded.)
            return Crashed(msgspec.structs.replace(now, invocation=self.run))
        if self.run and now.has_failed:
            # There is no time limit on starting: this run was stopped, and had to be killed.
            killed = now.result == "timeout"
            return Gone(now, fresh=True) if killed else Crashed(now)
        if now.is_running and self.run:
            return Phase.RUNNING
        if now.active in ("inactive", "failed") and not now.job:
            return Gone(now, fresh=bool(self.run))
        return Phase.QUEUED
