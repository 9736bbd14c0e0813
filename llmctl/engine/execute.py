"""Carries steps out, one at a time; what they are is decided elsewhere."""

import contextlib

from llmctl.core.plan import (
    AwaitReady,
    Reload,
    RemoveUnit,
    Restart,
    Start,
    Step,
    Stop,
    WriteUnit,
)
from llmctl.core.profile_rules import LONGEST_STOP_S
from llmctl.core.progress import Began, Report
from llmctl.core.state import UnitStatus
from llmctl.core.verdict import Outcome, Watch
from llmctl.core.words import profile_of
from llmctl.engine.box import Box
from llmctl.engine.clock import Clock
from llmctl.engine.replica_units import running_replicas
from llmctl.engine.wait import Waiter, await_stopped, not_stopped
from llmctl.errors import HostError, NoAnswerError
from llmctl.store.server_key import make_server_key

STOP_TIMEOUT_S = LONGEST_STOP_S + 60.0


class Executor:
    """The dull loop's hands. `timeout` is passed on to waiting.

    asked: a unit was asked to start, so systemd is at work whatever becomes of us.
    """

    def __init__(
        self, box: Box, *, clock: Clock, report: Report, timeout: float = STOP_TIMEOUT_S
    ) -> None:
        self._box = box
        self.asked: tuple[str, ...] = ()
        self._timeout = timeout
        self._clock = clock
        self._report = report
        self._watches: dict[str, Watch] = {}

    def do(
        self, step: Step, *, back: bool = False, seen: UnitStatus | None = None
    ) -> Outcome | None:
        """Carry out one step. Only waiting has an outcome.

        seen: the unit of a Start as it was looked at just now, if it was.
        """
        self._report(Began(step, back))
        store, systemd = self._box.store, self._box.systemd
        match step:
            case WriteUnit(unit):
                store.write_unit(unit.name, unit.text, log_of=profile_of(unit.name))
            case RemoveUnit(name):
                self._box.host.remove(store.unit_path(name))
            case Reload():
                systemd.reload()
            case Start(unit_name):
                self._watch(unit_name, seen, again=False)
                systemd.start(unit_name)
            case Restart(unit_name):
                self._stop_replicas(unit_name)
                self._watch(unit_name, seen, again=True)
                systemd.restart(unit_name)
            case Stop(units):
                self._stop(units)
            case AwaitReady(profile):
                return self._wait(profile)
        return None

    def _watch(self, unit: str, seen: UnitStatus | None, *, again: bool) -> None:
        if self._box.store.config.proxy.api_keys is not None:  # its file may have been removed
            make_server_key(self._box.host, self._box.store.server_key)
        before = seen or self._box.systemd.status([unit])[0]
        self._watches[unit] = Watch(before, must_differ=again)
        if again or not before.is_up:
            self._empty_log(unit)
        self.asked = (*self.asked, unit)

    def _empty_log(self, unit: str) -> None:
        """A log file holds what was written since the last switch, however often it crashed."""
        profile = profile_of(unit)
        log = self._box.store.log_file(profile) if profile else None
        if log:
            with contextlib.suppress(HostError):  # a full disk is no reason not to start
                self._box.host.write(log, b"", mode=0o600)

    def _stop_replicas(self, unit: str) -> None:
        """systemd would restart them with their model, whether there is room for them or not."""
        profile = profile_of(unit)
        running = running_replicas(self._box, profile) if profile else ()
        if running:
            self._stop(running)

    def _stop(self, units: tuple[str, ...]) -> None:
        self._box.systemd.stop(units)
        left = await_stopped(
            self._box, units, clock=self._clock, report=self._report, timeout=STOP_TIMEOUT_S
        )
        if left:
            raise NoAnswerError(not_stopped(self._box, left, timeout=STOP_TIMEOUT_S))
        self._box.systemd.forget_failures(units)

    def _wait(self, profile: str) -> Outcome:
        target = self._box.target(profile)
        waiter = Waiter(
            self._box,
            target,
            self._watches[target.unit],
            timeout=self._timeout,
            clock=self._clock,
            report=self._report,
        )
        return waiter.wait()
