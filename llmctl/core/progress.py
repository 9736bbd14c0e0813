"""What the engine reports while it works; the CLI turns it into lines or a live display."""

from collections.abc import Callable
from dataclasses import dataclass

from llmctl.core.plan import Step


@dataclass(frozen=True, slots=True)
class Began:
    """A step is about to be done. back: it belongs to a rollback."""

    step: Step
    back: bool = False


@dataclass(frozen=True, slots=True)
class Waiting:
    """What is being waited for, since when, and how much of the model is loaded (0 to 1)."""

    what: str
    elapsed_s: float
    fraction: float | None = None


@dataclass(frozen=True, slots=True)
class Note:
    """Something a person should know, though the work goes on."""

    text: str


Event = Began | Waiting | Note
Report = Callable[[Event], None]
