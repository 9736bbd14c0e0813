"""The switch: make one profile of a group the running model, or leave things as they were."""

import msgspec
from msgspec.structs import replace

from llmctl.core.fleet import is_in_pool
from llmctl.core.plan import (
    AwaitReady,
    Observed,
    Restart,
    Start,
    Step,
    Wanted,
    describe,
    plan_switch,
)
from llmctl.core.progress import Note, Report
from llmctl.core.state import State, UnitStatus
from llmctl.core.unit import Owner, process_of, read_header, url
from llmctl.core.verdict import Outcome, Ready
from llmctl.core.words import SLICE, instance_of, profile_of
from llmctl.engine.beside import residents
from llmctl.engine.box import Box
from llmctl.engine.clock import Clock
from llmctl.engine.execute import Executor
from llmctl.engine.pool_switch import check_room_beside, leaving_for, members_beside, renewed
from llmctl.engine.replica_units import replica_file
from llmctl.engine.rollback import Rollback
from llmctl.errors import (
    HostError,
    NoAnswerError,
    NothingRunsError,
    SwitchError,
    UnreachableError,
    sentence,
)

TIMEOUT_S = 120.0


class Options(msgspec.Struct, frozen=True):
    """How to switch. timeout: seconds in which something must move. room: in a pool, see to it that
    there is room; else whoever switches has done so."""

    timeout: float = TIMEOUT_S
    wait: bool = True
    rollback: bool = True
    room: bool = True


class Switched(msgspec.Struct, frozen=True):
    """A switch that was made. ready_s: None when nobody waited. stopped: members of its pool that
    made room. pid: of the process that answered, 0 when nobody waited."""

    profile: str
    previous: str | None
    state: State
    ready_s: float | None
    url: str
    stopped: tuple[str, ...] = ()
    pid: int = 0


class Switch:
    """One switch of one box. `steps` is the plan; `run` carries it out.

    failed: the wanted model was given up. executor: knows which units were asked to start.
    """

    def __init__(
        self, box: Box, name: str, *, options: Options, clock: Clock, report: Report
    ) -> None:
        self.box = box
        self.options = options
        self.clock = clock
        self.report = report
        self.target = box.resolve(name, ask=True)
        self._before = self._look()
        self.wanted = self._wanted()
        self.observed = self._observe()
        self.steps = self._plan()
        self._check_files()
        if self._starts() and not self._is_in_pool() and self._has_company():
            check_room_beside(box, name)
        if options.room and self._starts() and self._is_in_pool():
            leaving = leaving_for(box, name, clock=clock, report=report)
            self.observed = replace(
                self.observed, leaving=leaving,
                beside=tuple(one for one in self.observed.beside if one not in leaving),
            )  # fmt: skip
            self.steps = self._plan()
        self.failed = False
        self.executor = Executor(box, timeout=options.timeout, clock=clock, report=report)

    @property
    def previous(self) -> str | None:
        """The profile that was up before."""
        return profile_of(self.observed.previous or "")

    # Observe

    def _look(self) -> dict[str, UnitStatus]:
        """The wanted unit, and those of its pool or its rivals that are not plainly stopped."""
        place, unit = self.target.place, self.target.unit
        near = {*place.rivals, *place.foreign, *members_beside(self.box, self.target)}
        lively = self.box.systemd.lively("llm-*.service", *place.foreign)
        units = [unit, *(one for one in lively if one in near)]
        self._lively = lively
        return dict(zip(units, self.box.systemd.status(units), strict=True))

    def _wanted(self) -> Wanted:
        unit = self.target.unit
        path = self.box.store.unit_path(unit)
        owner = read_header(self.box.store.unit_text(unit)).owner
        if owner is Owner.FOREIGN:
            raise self.box.not_ours(unit)
        if owner is Owner.EDITED:
            again = f"`llmctl apply --overwrite {self.target.profile.name}` renders it anew"
            self.report(Note(f"{path} was edited by hand and is used as it stands; {again}"))
        replicas = replica_file(self.box, self.target)
        more = (self.box.slice(), *((replicas,) if replicas is not None else ()))
        rendered = self.box.render(self.target)
        more += renewed(self.box, self.target)
        return Wanted(self.target.profile.name, rendered, self.target.process, more)

    def _observe(self) -> Observed:
        place, unit = self.target.place, self.target.unit
        up = [name for name, status in self._before.items() if status.is_up]
        beside = members_beside(self.box, self.target)
        active = [name for name in up if name not in (*place.foreign, *beside)]
        names = (*(one.name for one in self.wanted.support), unit, SLICE, *active[:1])
        texts = {name: self.box.store.unit_text(name) for name in names}
        return Observed(
            texts=texts,
            active=tuple(active),
            foreign=tuple(name for name in up if name in place.foreign),
            running=self.box.running_process(self._before[unit].pid),
            previous_text=self._text_of(active[0], texts[active[0]]) if active else None,
            kept=self.box.store.kept_text(unit),
            needs_reload=self._before[unit].needs_reload,
            beside=tuple(name for name in up if name in beside),
        )

    def _text_of(self, unit: str, installed: str | None) -> str | None:
        """What a running unit was started from: the installed text, or the one kept since then."""
        running = self.box.running_process(self._before[unit].pid)
        if running in (None, process_of(installed)):
            return installed
        kept = self.box.store.kept_text(unit)
        return kept if process_of(kept) == running else None

    # Plan

    def _plan(self) -> tuple[Step, ...]:
        steps = plan_switch(self.wanted, self.observed)
        return steps if self.options.wait else steps[:-1]

    def _is_in_pool(self) -> bool:
        return is_in_pool(self.target.profile, self.box.store.config)

    def _starts(self) -> bool:
        """It is about to take memory."""
        unit = self.target.unit
        return unit not in self.observed.active or Restart(unit) in self.steps

    def _has_company(self) -> bool:
        """Models run that stay, and that its plan has not left room for (engine/beside.py)."""
        whose = {found[0] for unit in self._lively if (found := instance_of(unit))}
        stay = whose - {profile_of(unit) for unit in self._before}
        known = residents(self.box, self.target.profile) if self.target.plan.words else ()
        return bool(stay - {one.name for one in known})

    def _check_files(self) -> None:
        """A file that is not there is found before the running model is stopped for it."""
        name, previous = self.wanted.profile, self.previous
        if previous == name and Restart(self.target.unit) not in self.steps:
            return
        problem = self.box.store.missing_file(self.target.profile)
        if problem is None:
            return
        hint = f"Correct {self.box.store.profile_path(name)}, or put the file there."
        if previous is None and not self.observed.beside:
            raise NothingRunsError(f"{name} was not started: {problem}.", hint=hint)
        if previous is None:
            raise SwitchError(f"{name} was not started: {problem}.", hint=hint)
        still = "It runs as before." if previous == name else f"{previous} still runs."
        raise SwitchError(f"{name} was not started: {problem}. {still}", hint=hint)

    # Apply and verify

    def run(self) -> Switched:
        """Carry the plan out. SwitchError: it failed; what runs instead is in its class."""
        done: list[Step] = []
        outcome: Outcome | None = None
        for step in self.steps:
            outcome = self._do(step)
            done.append(step)
            if outcome is not None and not isinstance(outcome, Ready):
                self.failed = True
                raise Rollback(self, done).after(outcome)
        return self._switched(outcome)

    def _do(self, step: Step) -> Outcome | None:
        """One step. Once a start was asked for, a lost answer leaves the outcome open."""
        try:
            return self.executor.do(step, seen=self._before[self.target.unit])
        except HostError as error:
            lost = isinstance(error, NoAnswerError) and self.executor.asked
            if lost or isinstance(step, AwaitReady):
                raise self._unknown(error) from None
            if not isinstance(step, Start | Restart) or isinstance(error, UnreachableError):
                raise  # nothing has changed but files, and the error names them
            if self.previous is None:
                raise NothingRunsError(error.message, hint=error.hint) from None
            message = f"{sentence(error.message)} {self.previous} still runs."
            raise SwitchError(message, hint=error.hint) from None

    def _unknown(self, error: HostError) -> HostError:
        name = self.wanted.profile
        open_end = f"Whether {name} started is not known: the switch may go on in systemd."
        return NoAnswerError(f"{sentence(error.message)} {open_end}", hint="Run `llmctl status`.")

    def _switched(self, outcome: Outcome | None) -> Switched:
        ready_s = outcome.seconds if isinstance(outcome, Ready) else None
        if ready_s is not None:
            self.box.store.keep_text(self.target.unit)
        state = State.LOADING if ready_s is None else State.READY
        address = url(self.box.port_of(self.target.unit, self.target.profile.group))
        stopped = tuple(profile_of(one) or one for one in self.observed.leaving)
        pid = outcome.pid if isinstance(outcome, Ready) else 0
        name = self.wanted.profile
        return Switched(name, self.previous, state, ready_s, address, stopped, pid)


def dry_run(switch: Switch) -> tuple[str, ...]:
    """The steps in words."""
    return tuple(describe(step) for step in switch.steps)
