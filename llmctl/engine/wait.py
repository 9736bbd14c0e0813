"""Waits until a model answers, and not a moment longer than there is hope."""

from collections.abc import Sequence

from llmctl.core.proc import parse_read_bytes, parse_rss_bytes
from llmctl.core.progress import Report, Waiting
from llmctl.core.state import Answer, Health, UnitStatus
from llmctl.core.verdict import Impostor, Outcome, Phase, Ready, Stalled, Watch
from llmctl.engine.box import Box, Target
from llmctl.engine.clock import Clock
from llmctl.engine.expecting import expect
from llmctl.engine.ports import holders
from llmctl.health import probe

STATUS_EVERY_S = 0.2
PROGRESS_EVERY_S = 0.5
IMPOSTOR_AFTER_S = 1.0
_STEP_BYTES = 1 << 20
_WORTH_SHOWING_BYTES = 256 << 20  # below, the server's own memory is most of what is seen
SILENT = Answer(Health.SILENT)


class Waiter:
    """One wait for one model. `timeout` is how long nothing may move; a load that moves goes on."""

    def __init__(
        self,
        box: Box,
        target: Target,
        watch: Watch,
        *,
        timeout: float,
        clock: Clock,
        report: Report,
    ) -> None:
        self.box = box
        self.target = target
        self.watch = watch
        self.timeout = timeout
        self.clock = clock
        self.report = report
        self.began = self.moved = clock.now()
        self.loaded_bytes = 0
        self.odd_since: float | None = None

    def wait(self) -> Outcome:
        """Until the model is ready, or the outcome is certain."""
        expect(self.box.host, self.target.port, key=self.target.key)
        status, next_progress = self._status(), 0.0
        next_status = self.clock.now() + (STATUS_EVERY_S if status.is_running else 0.0)
        while True:
            now = self.clock.now()
            if now >= next_status:
                status = self._status()
                next_status = now + (STATUS_EVERY_S if status.is_running else 0.0)
            answer = SILENT
            if status.is_running:
                answer = probe(self.box.host, self.target.port, key=self.target.key)
            if outcome := self._judge(status, answer):
                return outcome
            if now >= next_progress:
                next_progress = now + PROGRESS_EVERY_S
                self._progress(status, answer)
            self.clock.sleep(self._pause())

    def _status(self) -> UnitStatus:
        status = self.box.systemd.status([self.target.unit])[0]
        self.watch = self.watch.see(status)
        return status

    def _judge(self, status: UnitStatus, answer: Answer) -> Outcome | None:
        phase = self.watch.judge(status)
        if not isinstance(phase, Phase):
            return phase
        if phase is Phase.QUEUED:  # systemd bounds how long a rival's stop may take
            self.moved = self.clock.now()
            return None
        if answer.health is Health.READY:
            return self._answered(status, answer)
        self.odd_since = None
        quiet = self.clock.now() - self.moved
        return Stalled(status, answer.health, quiet) if quiet > self.timeout else None

    def _answered(self, status: UnitStatus, answer: Answer) -> Outcome | None:
        """Somebody is ready: us, an old server that still holds the port, or a stranger."""
        if answer.is_from(self.target.profile) and self._confirmed(answer):
            return Ready(self.clock.now() - self.began, status.pid)
        now = self.clock.now()
        self.odd_since = self.odd_since or now
        if now - self.odd_since < IMPOSTOR_AFTER_S:
            return None  # if it is a stranger's port, our server is about to fail and say so
        return Impostor(status, answer.alias)

    def _confirmed(self, answer: Answer) -> bool:
        """The run that we wait for is the one that answered: it still runs after the answer."""
        status = self._status()
        if self.watch.judge(status) is not Phase.RUNNING:
            return False
        return not answer.locked or self._holds_port()

    def _holds_port(self) -> bool:
        """Behind a key that we do not have, the listener's unit says who answers."""
        found = holders(self.box, self.target.port)
        return any(one.unit == self.target.unit for one in found)

    def _progress(self, status: UnitStatus, answer: Answer) -> None:
        elapsed = self.clock.now() - self.began
        if not status.is_running:
            self.report(Waiting(_queued(status), elapsed))
            return
        loaded = self._loaded_bytes(status.pid)
        if loaded > self.loaded_bytes + _STEP_BYTES:
            self.loaded_bytes, self.moved = loaded, self.clock.now()
        size = self.target.size_bytes
        fraction = min(1.0, self.loaded_bytes / size) if size > _WORTH_SHOWING_BYTES else None
        what = "loading" if answer.health is Health.LOADING else "starting"
        self.report(Waiting(what, elapsed, fraction))

    def _loaded_bytes(self, pid: int) -> int:
        """How much of the model the server has touched: pages mapped, or bytes read."""
        rss = parse_rss_bytes(self.box.read_proc(pid, "status").decode(errors="replace"))
        read = parse_read_bytes(self.box.read_proc(pid, "io").decode(errors="replace"))
        return max(rss, read)

    def _pause(self) -> float:
        """5 ms at first, so that small models lose nothing; 0.1 s after half a minute."""
        return min(0.1, max(0.005, (self.clock.now() - self.began) / 300))


def _queued(status: UnitStatus) -> str:
    return "the running model is stopping" if status.active == "inactive" else "starting"


def in_charge(box: Box, rivals: Sequence[str]) -> str | None:
    """The rival that is starting, else the one that is up: whoever displaced us, if anybody."""
    starting = box.systemd.starting()
    statuses = box.systemd.status(rivals)
    found = [one.unit for one in statuses if one.unit in starting]
    found += [one.unit for one in statuses if one.is_up and not one.job]
    return next(iter(found), None)


def await_stopped(
    box: Box, units: Sequence[str], *, clock: Clock, report: Report, timeout: float
) -> tuple[str, ...]:
    """Until units are gone that were told to stop; those that are not within `timeout` seconds are
    returned. Nobody waits for one that somebody has started meanwhile: it is among these."""
    began = clock.now()
    while left := [one for one in box.systemd.status(units) if one.holds_on]:
        names, elapsed = tuple(one.unit for one in left), clock.now() - began
        if elapsed > timeout or all(one.is_running for one in left):
            return names
        report(Waiting(f"{', '.join(names)} is stopping", elapsed))
        clock.sleep(min(0.25, max(0.02, elapsed / 20)))
    return ()


def not_stopped(box: Box, left: Sequence[str], *, timeout: float) -> str:
    """What is wrong with those that `await_stopped` gave. A stop that is under way is a job, so a
    unit that runs without one was started after it was told to stop."""
    if all(one.is_running for one in box.systemd.status(left)):
        return f"{', '.join(left)} was started again by somebody."
    return f"{', '.join(left)} did not stop within {timeout:.0f} s."
