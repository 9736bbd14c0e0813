"""What is wrong with a box, all of it: every check is made, and none hides another.

Facts come through the Host, so any box can be looked at; rules that weigh them are in core/.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec

from llmctl.core.finding import Finding, Grade, from_elsewhere, worst
from llmctl.engine.box import Box
from llmctl.engine.clock import Clock, SystemClock
from llmctl.engine.doctor_box import clock, disk, linger, manager, path
from llmctl.engine.doctor_models import binaries, gpu, models
from llmctl.engine.doctor_proxy import proxy, tailnet
from llmctl.engine.doctor_sleep import sleep
from llmctl.engine.doctor_units import config, ports, profiles, running, units
from llmctl.engine.patient import Patient
from llmctl.errors import HostError, LlmctlError

MANAGER, CONFIG = "manager", "config"
"""Checks that others build on."""


class Check(msgspec.Struct, frozen=True):
    """about: what is true of a box that passes, a clause. needs: checks without which this one
    could say nothing that they have not said."""

    name: str
    about: str
    look: Callable[[Patient], Iterable[Finding]]
    needs: tuple[str, ...] = ()


CHECKS = (
    Check(MANAGER, "the user manager answers", manager),
    Check("linger", "models go on when you log out, and start at boot", linger),
    Check(CONFIG, "config.yaml can be read", config),
    Check("profiles", "every profile can be read", profiles, (CONFIG,)),
    Check("path", "programs are found without a login", path, (MANAGER, CONFIG)),
    Check("binaries", "each llama-server starts, with its libraries", binaries, (CONFIG,)),
    Check("gpu", "the binaries see the GPUs", gpu, (CONFIG,)),
    Check("models", "every model file is all there", models, (CONFIG,)),
    Check("units", "installed units are as the profiles say", units, (MANAGER, CONFIG)),
    Check("running", "at most one model of a group runs, and none has failed", running,
          (MANAGER, CONFIG)),
    Check("sleep", "models that ran while the box slept still work", sleep, (MANAGER, CONFIG)),
    Check("ports", "nobody else holds the models' ports", ports, (MANAGER, CONFIG)),
    Check("proxy", "the proxy answers, if it is installed", proxy, (MANAGER, CONFIG)),
    Check("tailnet", "the box has the address that the proxy listens on", tailnet, (CONFIG,)),
    Check("disk", "there is room, and it can be written to", disk),
    Check("clock", "its clock is right", clock),
)  # fmt: skip
"""In the order in which faults bring each other about."""


class Checked(msgspec.Struct, frozen=True):
    """One check, and what it found. behind: checks that must be well first; it was not made."""

    check: Check
    findings: tuple[Finding, ...] = ()
    behind: tuple[str, ...] = ()

    @property
    def grade(self) -> Grade:
        """How it went, in a word."""
        return Grade.UNKNOWN if self.behind else worst(self.findings)


class Diagnosis(msgspec.Struct, frozen=True):
    """A box: all checks in their order."""

    host: str
    checked: tuple[Checked, ...]

    @property
    def is_sound(self) -> bool:
        """Nothing is wrong; there may be advice."""
        return all(one.grade is not Grade.WRONG for one in self.checked)


def examine(
    box: Box, *, ours: float | None, checks: Sequence[Check] = CHECKS, clock: Clock | None = None
) -> Diagnosis:
    """Make every check. ours: the time at the machine one types at, None if that is the box.

    HostError: the box cannot be reached at all.
    """
    box.host.environ()
    patient = Patient(box, clock=clock or SystemClock(), ours=ours)
    return Diagnosis(box.host.name, tuple(_examined(patient, checks)))


def from_another_machine(found: Diagnosis) -> Diagnosis:
    """The same with commands as they are typed at another machine than the box."""
    told = (
        msgspec.structs.replace(
            one, findings=tuple(from_elsewhere(each, found.host) for each in one.findings)
        )
        for one in found.checked
    )
    return Diagnosis(found.host, tuple(told))


def _examined(patient: Patient, checks: Sequence[Check]) -> Iterator[Checked]:
    ill: set[str] = set()
    for check in checks:
        behind = tuple(name for name in check.needs if name in ill)
        done = Checked(check, () if behind else _looked(check, patient), behind)
        if done.grade in (Grade.WRONG, Grade.UNKNOWN):
            ill.add(check.name)
        yield done


def _looked(check: Check, patient: Patient) -> tuple[Finding, ...]:
    found: list[Finding] = []
    try:
        found.extend(check.look(patient))
    except HostError as error:
        why = "So this was not looked at to its end."
        found.append(Finding(error.message, why, error.hint or "llmctl doctor -v", Grade.UNKNOWN))
    except LlmctlError as error:
        why = "llmctl cannot work with it."
        found.append(Finding(error.message, why, error.hint or "llmctl doctor -v"))
    return tuple(dict.fromkeys(found))
