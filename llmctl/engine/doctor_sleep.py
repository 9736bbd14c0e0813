"""The check of models that ran while the box slept. It is the one that mends what it finds."""

from collections.abc import Iterator

from llmctl.core.finding import Finding, Grade
from llmctl.engine.alive import Life
from llmctl.engine.patient import Patient
from llmctl.engine.resume import look_after


def sleep(patient: Patient) -> Iterator[Finding]:
    """Do models that ran while the box slept still compute? Those that do not are restarted."""
    found = look_after(patient.box, clock=patient.clock, report=lambda _: None, slept=patient.slept)
    for one in found:
        if one.life is Life.DEAD:
            yield Finding(
                f"{one.name} did not survive the box's sleep: its GPU context was dead, and it is "
                "restarted",
                "It answered /health, and failed at the first token.",
                "llmctl status shows when it is ready",
            )
        elif one.life is Life.BUSY:
            yield Finding(
                f"{one.name} ran while the box slept, and is too busy to be asked",
                "If its GPU context is dead, its clients wait for nothing.",
                "llmctl doctor, again; or llmctl logs " + one.name.partition("@")[0],
                Grade.UNKNOWN,
            )
