"""The way back from a sweep: the units and the model as they were before it."""

from msgspec.structs import replace

from llmctl.core.plan import Reload, RemoveUnit, Restart, Step, WriteUnit, plan_rollback
from llmctl.core.progress import Report
from llmctl.core.unit import UnitFile
from llmctl.core.verdict import Ready
from llmctl.core.words import profile_of
from llmctl.engine.box import Box
from llmctl.engine.clock import Clock
from llmctl.engine.execute import Executor
from llmctl.engine.switch import Switch
from llmctl.engine.wait import in_charge
from llmctl.errors import HostError, NothingRunsError, ProfileError, sentence
from llmctl.host.base import Host


class Before:
    """What the first switch of a sweep found. is_ready: the last one made the model ready."""

    def __init__(self, first: Switch) -> None:
        self._name, self._unit = first.wanted.profile, first.target.unit
        self._wanted, self._observed = first.wanted, first.observed
        self._previous, self._timeout = first.previous, first.options.timeout
        place = first.target.place
        self._rivals = (*place.rivals, *place.foreign)
        self.is_ready = False

    def restore(self, host: Host, *, clock: Clock, report: Report) -> str:
        """Go back, and say what runs then. SwitchError: what ran before did not come back."""
        box = Box(host)
        executor = Executor(box, clock=clock, report=report, timeout=self._timeout)
        try:
            if told := self._overruled(box):
                self._restore_text(box, executor)
                return told
            is_back = self._go_back(box, executor)
            self._restore_text(box, executor)
        except HostError as error:
            raise self._lost(sentence(error.message)) from None
        if not is_back:
            raise self._lost("It did not become ready.")
        if self._observed.previous is None:
            return "Nothing runs, as before."
        box.store.keep_text(self._observed.previous)
        return f"{self._previous} runs again, as before."

    def _overruled(self, box: Box) -> str | None:
        """What somebody else decided meanwhile: that stays."""
        expected = {self._unit, *self._observed.active, *self._observed.foreign}
        others = [one for one in self._rivals if one not in expected]
        if rival := in_charge(box, others) if others else None:
            return f"{profile_of(rival) or rival} was started meanwhile, and goes on."
        status = box.systemd.status([self._unit])[0]
        if not self.is_ready or status.is_up or status.has_failed:
            return None
        mine = [one for one in self._rivals if one in expected]
        rival = in_charge(box, mine) if mine else None
        told = f"{profile_of(rival) or rival} was started" if rival else "The model was stopped"
        return f"{told} meanwhile, and that stays."

    def _go_back(self, box: Box, executor: Executor) -> bool:
        present = self._observed.previous and box.store.unit_text(self._observed.previous)
        done: tuple[Step, ...] = (Restart(self._unit),)
        seen = self._observed
        if self._previous and seen.previous_text is None:  # then what was installed is the best
            seen = replace(seen, previous_text=seen.texts.get(seen.previous or ""))
        steps = plan_rollback(self._wanted, seen, done, present=present)
        outcomes = [executor.do(one, back=True) for one in steps]
        return all(one is None or isinstance(one, Ready) for one in outcomes)

    def _restore_text(self, box: Box, executor: Executor) -> None:
        """The unit's file as it was, and the plan of what the profile says."""
        text, present = self._observed.texts[self._unit], box.store.unit_text(self._unit)
        if text != present:
            step: Step = RemoveUnit(self._unit, present or "")
            if text is not None:
                step = WriteUnit(UnitFile(self._unit, text), present)
            executor.do(step, back=True)
            executor.do(Reload(), back=True)
        try:
            box.resolve(self._name, ask=True)
        except ProfileError:
            return  # it was broken meanwhile; `llmctl status` says so

    def _lost(self, why: str) -> NothingRunsError:
        name = self._previous or self._name
        return NothingRunsError(
            f"{name}, which ran before, is not back: {why}", hint=f"llmctl switch {name}"
        )
