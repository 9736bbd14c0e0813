"""When a switch fails: say why, bring the earlier model back, and tell what runs now.

Nobody's decision is overruled on the way: whoever switched or stopped the model meanwhile wins,
and the failed switch only says so.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from llmctl.core.plan import Restart, Step, plan_rollback
from llmctl.core.verdict import Gone, Outcome, Ready
from llmctl.core.words import profile_of
from llmctl.engine.failure import Failure, failure
from llmctl.engine.wait import in_charge
from llmctl.errors import (
    DisplacedError,
    HostError,
    LostError,
    NoAnswerError,
    NothingRunsError,
    ProfileError,
    SwitchError,
    TakenDownError,
    UnreachableError,
    sentence,
)

if TYPE_CHECKING:
    from llmctl.engine.switch import Switch


class Rollback:
    """The way back from one switch, of which `done` are the steps that were carried out."""

    def __init__(self, switch: "Switch", done: Sequence[Step]) -> None:
        self._switch = switch
        self._box = switch.box
        self._done = tuple(done)
        self._name = switch.wanted.profile
        self._previous = switch.previous

    def after(self, outcome: Outcome) -> SwitchError:
        """The error that tells all, once everything that can be restored is.

        NoAnswerError, raised: the way to the box was lost meanwhile.
        """
        place = self._switch.target.place
        if isinstance(outcome, Gone) and (
            rival := in_charge(self._box, (*place.rivals, *place.foreign))
        ):
            return self._displaced(rival)
        why = self._why(outcome)
        if isinstance(outcome, Gone) and not outcome.by_itself:
            # Somebody stopped it. Starting the earlier model now would overrule them.
            return why.error(TakenDownError, f"{self._name} is not running: {why.what}.")
        if not self._switch.options.rollback:
            return why.error(NothingRunsError, f"{self._name} is not ready: {why.what}.")
        return self._go_back(why)

    def _why(self, outcome: Outcome) -> Failure:
        """The explanation. That it cannot be had must not keep the earlier model from coming."""
        try:
            target = self._box.target(self._name)
            return failure(self._box, target, outcome, self._switch.clock)
        except (HostError, ProfileError) as error:
            return Failure("it did not become ready", sentence(error.message))

    def _go_back(self, why: Failure) -> SwitchError:
        observed, wanted = self._switch.observed, self._switch.wanted
        place = self._switch.target.place
        expected = {wanted.unit.name, *observed.active, *observed.foreign}
        others = [one for one in (*place.rivals, *place.foreign) if one not in expected]
        try:
            if rival := in_charge(self._box, others):  # a third switch came in between
                return self._displaced(rival)
            present = self._box.store.unit_text(observed.previous) if observed.previous else None
            steps = plan_rollback(wanted, observed, self._done, present=present)
            restored = all(self._undo(step) for step in steps)
        except (LostError, UnreachableError) as error:
            raise self._unknown(why, error) from None
        except HostError as error:
            clause = f"{why.what}; and going back failed too: {sentence(error.message)}"
            return why.error(NothingRunsError, f"{self._name} failed: {clause}")
        return self._told(why, steps, restored=restored)

    def _unknown(self, why: Failure, error: HostError) -> NoAnswerError:
        failed = f"{self._name} failed: {why.what}. {sentence(error.message)}"
        what = f"{self._previous} runs again" if self._previous else "anything runs now"
        return NoAnswerError(f"{failed} Whether {what} is not known.", hint="Run `llmctl status`.")

    def _undo(self, step: Step) -> bool:
        outcome = self._switch.executor.do(step, back=True)
        return outcome is None or isinstance(outcome, Ready)

    def _told(self, why: Failure, steps: Sequence[Step], *, restored: bool) -> SwitchError:
        failed = f"{self._name} failed: {why.what}"
        if self._previous is None and (still := self._in_pool(restored=restored)):
            return why.error(SwitchError, f"{failed}. {still}.")
        if self._previous is None:
            foreign = ", ".join(self._switch.observed.foreign)
            then = f"{foreign} was started again" if foreign else "Nothing ran before"
            return why.error(NothingRunsError, f"{failed}. {then}.")
        if self._previous == self._name and not any(isinstance(one, Restart) for one in steps):
            return why.error(NothingRunsError, self._left(why, stopped=bool(steps)))
        if not restored:
            clause = f"and {self._previous}, which ran before, did not come back either"
            return why.error(NothingRunsError, f"{failed}; {clause}.")
        if self._previous == self._name:
            return why.error(SwitchError, f"{failed}. It runs as it did before.")
        return why.error(SwitchError, f"{failed}. {self._previous} is ready again.")

    def _in_pool(self, *, restored: bool) -> str:
        """What runs of its pool by now: those that made room, if they are back, and the rest."""
        observed = self._switch.observed
        left, beside = observed.leaving, observed.beside
        told = []
        if left and restored:
            told.append(f"{_names(left)} made room, and {_run(left)} again")
        elif left:
            told.append(f"{_names(left)} made room, and did not come back")
        if beside:
            told.append(f"{_names(beside)} still {_run(beside)}")
        return "; ".join(told) if beside or restored else ""

    def _left(self, why: Failure, *, stopped: bool) -> str:
        """It was active before as well, and there is no text to go back to."""
        if not stopped:
            return f"{self._name} runs but is not ready: {why.what}. It was left as it is."
        return (
            f"{self._name} failed: {why.what}. It is stopped now: what it ran with before "
            "is not known any more."
        )

    def _displaced(self, rival: str) -> SwitchError:
        by = profile_of(rival) or rival
        return DisplacedError(
            f"{self._name} was displaced by {by}: somebody switched to that one after you.",
            hint=f"Agree who has the box, then `llmctl switch {self._name}` again.",
        )


def _names(units: Sequence[str]) -> str:
    return " and ".join(profile_of(one) or one for one in units)


def _run(units: Sequence[str]) -> str:
    return "runs" if len(units) == 1 else "run"
