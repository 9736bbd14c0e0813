"""Tokens that one request may use: what a server says of itself, or said when it ran last."""

import itertools
from typing import TYPE_CHECKING

import msgspec

from llmctl.core.slot_ctx import slot_ctx
from llmctl.core.words import unit_name
from llmctl.engine.box import Box
from llmctl.engine.status import Instance

if TYPE_CHECKING:
    from llmctl.core.profile import Profile


class _Told(msgspec.Struct, frozen=True):
    """What a server said of itself: tokens that one request may use. words: those of its profile
    when it was first seen."""

    pid: int
    words: tuple[str, ...]
    ctx: int


class Contexts:
    """Of the models of a box."""

    def __init__(self) -> None:
        self._told: dict[str, _Told] = {}

    def of(self, box: Box, profile: "Profile", instance: Instance | None) -> int | None:
        """As the server says, or said the last time it was started with the same words: it knows
        what the model was trained for."""
        words, told = _words(box, profile), self._told.get(profile.name)
        if instance is not None and instance.ctx is not None:
            if told is None or told.pid != instance.pid:  # later words are not what it runs with
                self._told[profile.name] = _Told(instance.pid, words, instance.ctx)
            return instance.ctx
        computed = slot_ctx(words)
        if told is None or told.words != words:
            return computed
        return min(told.ctx, computed or told.ctx)


def _words(box: Box, profile: "Profile") -> tuple[str, ...]:
    """What the next start says of the context; what is planned stands in the installed unit."""
    ctx: tuple[str, ...] = ("-c", str(profile.ctx))
    if profile.ctx == "auto":
        unit = (box.store.unit_text(unit_name(profile.name)) or "").replace('"', "").split()
        ctx = next((pair for pair in itertools.pairwise(unit) if pair[0] == "-c"), ())
    return (*ctx, "-np", str(profile.parallel), *(str(word) for word in profile.args))
