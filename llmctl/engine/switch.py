"""The switch: make one profile of a group the running model, or leave things as they were."""

from collections.abc import Sequence

import msgspec

from llmctl.core.plan import (
    AwaitReady,
    Observed,
    Reload,
    RemoveUnit,
    Restart,
    Start,
    Step,
    Stop,
    Wanted,
    WriteUnit,
    describe,
    plan_rollback,
    plan_switch,
)
from llmctl.core.progress import Began, Note, Report
from llmctl.core.state import UnitStatus
from llmctl.core.unit import Owner, read_header, url
from llmctl.core.verdict import Gone, Outcome, Ready, Watch
from llmctl.core.words import SLICE, profile_of
from llmctl.engine.box import Box, Resolved
from llmctl.engine.clock import Clock
from llmctl.engine.failure import Failure, failure
from llmctl.engine.wait import Waiter, in_charge
from llmctl.errors import HostError, NothingRunsError, ProfileError, SwitchError

TIMEOUT_S = 120.0


class Options(msgspec.Struct, frozen=True):
    """How to switch. timeout: seconds in which something must move."""

    timeout: float = TIMEOUT_S
    wait: bool = True
    rollback: bool = True


class Switched(msgspec.Struct, frozen=True):
    """A switch that was made. ready_s: None when nobody waited."""

    profile: str
    previous: str | None
    state: str
    ready_s: float | None
    url: str


class Switch:
    """One switch of one box. `steps` is the plan; `run` carries it out."""

    def __init__(
        self, box: Box, name: str, *, options: Options, clock: Clock, report: Report
    ) -> None:
        self.box = box
        self.options = options
        self.clock = clock
        self.report = report
        self.target = box.resolve(name)
        self.before = self._look()
        self.wanted = self._wanted()
        self.observed = self._observe()
        self.steps = self._plan()
        self._watches: dict[str, Watch] = {}

    @property
    def previous(self) -> str | None:
        """The profile that was up before."""
        return profile_of(self.observed.active[0]) if self.observed.active else None

    def _look(self) -> dict[str, UnitStatus]:
        """The wanted unit, and those of its rivals that are not plainly stopped."""
        place, unit = self.target.place, self.target.unit
        rivals = {*place.rivals, *place.foreign}
        lively = self.box.systemd.lively("llm-*.service", *place.foreign)
        units = [unit, *(one for one in lively if one in rivals)]
        return dict(zip(units, self.box.systemd.status(units), strict=True))

    def _wanted(self) -> Wanted:
        unit = self.target.unit
        text = self.box.store.unit_text(unit)
        header = read_header(text)
        path = self.box.store.unit_path(unit)
        if header.owner is Owner.FOREIGN:
            raise ProfileError(
                f"{path} was not written by llmctl, so it is left alone.",
                hint="Rename the profile, or move that file away.",
            )
        if header.owner is Owner.EDITED:
            self.report(Note(f"{path} was edited by hand and is used as it stands; "
                             f"`llmctl apply --overwrite {self.target.profile.name}` renders it "
                             "anew"))  # fmt: skip
        return Wanted(
            self.target.profile.name,
            self.box.render(self.target),
            self.target.process,
            (self.box.slice(),),
        )

    def _observe(self) -> Observed:
        place, unit = self.target.place, self.target.unit
        up = [name for name, status in sorted(self.before.items()) if status.is_up]
        texts = {name: self.box.store.unit_text(name) for name in (unit, SLICE)}
        return Observed(
            texts=texts,
            active=tuple(name for name in up if name not in place.foreign),
            foreign=tuple(name for name in up if name in place.foreign),
            running=self.box.running_process(self.before[unit].pid),
            needs_reload=self.before[unit].needs_reload,
        )

    def _plan(self) -> tuple[Step, ...]:
        steps = plan_switch(self.wanted, self.observed)
        return steps if self.options.wait else steps[:-1]

    def run(self) -> Switched:
        """Carry the plan out. SwitchError: it failed; what runs instead is in its class."""
        self._check_files()
        done: list[Step] = []
        outcome: Outcome | None = None
        for step in self.steps:
            self.report(Began(step))
            try:
                outcome = self._do(step, self.target)
            except HostError as error:
                raise self._refused(step, error) from None
            done.append(step)
            if outcome is not None and not isinstance(outcome, Ready):
                raise self._failed(outcome, done)
        ready_s = outcome.seconds if isinstance(outcome, Ready) else None
        state = "ready" if ready_s is not None else "loading"
        return Switched(
            self.wanted.profile, self.previous, state, ready_s, url(self.target.place.port)
        )

    def _check_files(self) -> None:
        """A file that is not there is found before the running model is stopped for it."""
        problem = self.box.store.missing_file(self.target.profile)
        if problem is None:
            return
        name, previous = self.wanted.profile, self.previous
        hint = f"Correct {self.box.store.profile_path(name)}, or put the file there."
        if previous is None:
            raise NothingRunsError(f"{name} was not started: {problem}.", hint=hint)
        raise SwitchError(f"{name} was not started: {problem}. {previous} still runs.", hint=hint)

    def _do(self, step: Step, target: Resolved) -> Outcome | None:
        """Carry out one step. Only waiting has an outcome."""
        store, systemd = self.box.store, self.box.systemd
        match step:
            case WriteUnit(unit):
                log = store.log_file(target.profile.name)
                if log:
                    self.box.host.make_dir(log.rpartition("/")[0])
                self.box.host.write(store.unit_path(unit.name), unit.text.encode())
            case RemoveUnit(name):
                self.box.host.remove(store.unit_path(name))
            case Reload():
                systemd.reload()
            case Start(unit) | Restart(unit):
                self._start(unit, again=isinstance(step, Restart))
            case Stop(units):
                systemd.stop(units)
                systemd.forget_failures(units)
            case AwaitReady():
                return self._await(target)
        return None

    def _start(self, unit: str, *, again: bool) -> None:
        # What was seen before the first start is seen once; a start on the way back looks anew.
        status = self.before.pop(unit, None) or self.box.systemd.status([unit])[0]
        self._watches[unit] = Watch(status, must_differ=again)
        if again:
            self.box.systemd.restart(unit)
        else:
            self.box.systemd.start(unit)

    def _await(self, target: Resolved) -> Outcome:
        waiter = Waiter(
            self.box,
            target,
            self._watches[target.unit],
            timeout=self.options.timeout,
            clock=self.clock,
            report=self.report,
        )
        return waiter.wait()

    # When it fails

    def _refused(self, step: Step, error: HostError) -> HostError | SwitchError:
        """The box did not do a step. Before the start nothing has changed: the error says it."""
        if not isinstance(step, Start | Restart):
            return error
        if self.previous is None:
            return NothingRunsError(error.message, hint=error.hint)
        return SwitchError(f"{error.message} {self.previous} still runs.", hint=error.hint)

    def _failed(self, outcome: Outcome, done: Sequence[Step]) -> SwitchError:
        """Explains, brings the earlier model back if nobody else took over, and says what runs."""
        name = self.wanted.profile
        if isinstance(outcome, Gone):
            rival = in_charge(self.box, self.target.place.rivals)
            if rival is not None:
                return _displaced(name, profile_of(rival) or rival)
        why = failure(self.box, self.target, outcome, self.clock)
        if not self.options.rollback:
            return why.error(NothingRunsError, f"{name} is not ready: {why.what}.")
        if isinstance(outcome, Gone) and not outcome.fresh:
            return why.error(NothingRunsError, f"{name} did not start: {why.what}.")
        return self._roll_back(why, done)

    def _roll_back(self, why: Failure, done: Sequence[Step]) -> SwitchError:
        name, previous = self.wanted.profile, self.previous
        spare = {self.target.unit, *self.observed.active}
        rival = in_charge(self.box, [one for one in self.target.place.rivals if one not in spare])
        if rival is not None:  # a third switch came in between: it is theirs now
            return _displaced(name, profile_of(rival) or rival)
        steps = plan_rollback(self.wanted, self.observed, done)
        try:
            restored = all(self._undo(step) for step in steps)
        except (HostError, ProfileError) as error:
            return why.error(
                NothingRunsError,
                f"{name} failed: {why.what}; and going back failed too: {error.message}",
            )
        return self._outcome_of_rollback(why, previous, restored=restored)

    def _undo(self, step: Step) -> bool:
        self.report(Began(step, back=True))
        target = self.target
        if isinstance(step, AwaitReady) and step.profile != target.profile.name:
            target = self.box.resolve(step.profile)
        outcome = self._do(step, target)
        return outcome is None or isinstance(outcome, Ready)

    def _outcome_of_rollback(
        self, why: Failure, previous: str | None, *, restored: bool
    ) -> SwitchError:
        name = self.wanted.profile
        if previous is None:
            return why.error(NothingRunsError, f"{name} failed: {why.what}. Nothing ran before.")
        if not restored:
            return why.error(
                NothingRunsError,
                f"{name} failed: {why.what}; and {previous}, which ran before, "
                "did not come back either.",
            )
        if previous == name:
            return self._own_rollback(why)
        return why.error(SwitchError, f"{name} failed: {why.what}. {previous} is ready again.")

    def _own_rollback(self, why: Failure) -> SwitchError:
        """It was active before as well: from its old text again, or just left as it was."""
        name = self.wanted.profile
        if any(isinstance(step, Restart) for step in self.steps):
            return why.error(SwitchError, f"{name} failed: {why.what}. It runs as it did before.")
        return why.error(
            NothingRunsError, f"{name} runs but is not ready: {why.what}. It was left as it is."
        )


def _displaced(name: str, by: str) -> SwitchError:
    return SwitchError(
        f"{name} was displaced by {by}: somebody switched to that one after you.",
        hint=f"Agree who has the box, then `llmctl switch {name}` again.",
    )


def dry_run(switch: Switch) -> tuple[str, ...]:
    """The steps in words."""
    return tuple(describe(step) for step in switch.steps)
