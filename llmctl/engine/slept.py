"""What a box's sleep means for the models that ran meanwhile, and what was found of them."""

from collections.abc import Iterator, Mapping

import msgspec

from llmctl.core.slept import NOTICEABLE_S, slept_before
from llmctl.core.state import UnitStatus
from llmctl.engine.box import Box
from llmctl.engine.clock import slept_s
from llmctl.errors import HostError

DEAD = "dead"
"""Of `Looked.life`: the model was restarted."""
_AT_ONCE_S = 120.0
"""A run that began so soon after it was found is the one that it was restarted to."""


class Looked(msgspec.Struct, frozen=True):
    """What was found of a run after a sleep. life: engine/alive.py has the words. slept_s: how long
    the box had slept in all by then. at_s: when, by the clock that stands still meanwhile."""

    invocation: str
    life: str
    slept_s: float
    at_s: float


def looked(box: Box) -> Mapping[str, Looked]:
    """What was found last, by unit."""
    try:
        return msgspec.json.decode(box.host.read(_path(box)), type=dict[str, Looked])
    except (FileNotFoundError, HostError, msgspec.MsgspecError):
        return {}


def note(box: Box, unit: str, found: Looked) -> None:
    """Keep it. HostError: it cannot be written."""
    names = box.store.names
    kept = {one: its for one, its in looked(box).items() if _profile(one) in names}
    box.store.write_private(_path(box), msgspec.json.encode({**kept, unit: found}).decode())


def _profile(unit: str) -> str:
    return unit.removeprefix("llm-").removesuffix(".service").partition("@")[0]


def _path(box: Box) -> str:
    return f"{box.store.state_dir}/resumed.json"


def lived_through(box: Box, status: UnitStatus, slept: float, known: Looked | None) -> bool:
    """Did the box sleep while this runs, and did nobody ask it since? slept: in all, seconds."""
    if slept < NOTICEABLE_S:
        return False
    before = slept_before(box.read_proc(status.pid, "stat").decode(errors="replace"),
                          status.started_us)  # fmt: skip
    if before is None:
        return False
    if known is not None and known.invocation == status.invocation:
        before = max(before, known.slept_s)
    return slept - before >= NOTICEABLE_S


def slept_here(box: Box) -> float | None:
    """How long the box has slept in all, if it is this machine: to know that of another costs a
    command there."""
    return slept_s() if box.host.name == "local" else None


def sleep_notes(box: Box, status: UnitStatus, *, slept: float | None) -> Iterator[str]:
    """What `status` tells of a model and the box's sleep. slept: in all, None where that is not
    known; then only what was found is told."""
    if not status.pid or (slept is not None and slept < NOTICEABLE_S):
        return
    known = looked(box).get(status.unit)
    if known is not None and _is_after(status, known):
        yield "restarted after the box had slept: its GPU context was dead"
    if slept is not None and lived_through(box, status, slept, known):
        yield "the box has slept since it was started: llmctl doctor asks whether it still works"


def _is_after(status: UnitStatus, known: Looked) -> bool:
    """Was it restarted since it was found dead, and not once more?"""
    if known.life != DEAD or known.invocation == status.invocation:
        return False
    return 0 <= status.started_us / 1e6 - known.at_s <= _AT_ONCE_S
