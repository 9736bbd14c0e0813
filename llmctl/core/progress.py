"""What the engine reports while it works; the CLI turns it into lines or a live display."""

from collections.abc import Callable

import msgspec

from llmctl.core.plan import Step


class Began(msgspec.Struct, frozen=True):
    """A step is about to be done. back: it belongs to a rollback."""

    step: Step
    back: bool = False


class Waiting(msgspec.Struct, frozen=True):
    """What is being waited for, since when, and how much of the model is loaded (0 to 1)."""

    what: str
    elapsed_s: float
    fraction: float | None = None


class Note(msgspec.Struct, frozen=True):
    """Something a person should know, though the work goes on."""

    text: str


Event = Began | Waiting | Note
Report = Callable[[Event], None]
