"""What earlier starts teach about later ones: the compute buffers, the one part that is estimated.

Two things are learned, and only from starts of the same binary, the same files and environment:

* What a start with exactly these settings on these devices allocated is what the next one will:
  llama.cpp lays the same graph out in the same way. It takes the place of the estimate.
* A start that took more than the estimate said it may shows that a form is wrong for this model:
  everything else that is planned for it is doubted as much.

Nothing is ever made smaller by likeness: from one context to another, or one split to another,
only a guess leads, and a guess must not make a plan claim to fit.
"""

from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from llmctl.core.buffers import HOST, NOTHING, Amount, Start, by_home, drafting, sums, target
from llmctl.core.memory.doubt import Doubt
from llmctl.core.memory.estimate import Estimator
from llmctl.core.memory.model import Model
from llmctl.core.memory.need import Estimate, Need
from llmctl.core.memory.observed import KINDS, Verdict, compared, in_bytes
from llmctl.core.memory.saying import normal
from llmctl.core.memory.settings import MIB, Device, Era, Settings
from llmctl.core.memory.wanted import Room
from llmctl.errors import ProfileError


class Seen(msgspec.Struct, frozen=True):
    """A start with these settings, and the buffers that it logged. seat: where the draft model was
    (see saying.seat_said)."""

    settings: Settings
    start: Start
    seat: str | None = None

    @property
    def devices(self) -> tuple[str, ...]:
        """Those that the model was divided over, in order."""
        return self.start.models[0].devices if self.start.models else ()


class Learned:
    """Corrects estimates of one model on these devices by what was seen. build: None: unknown."""

    def __init__(
        self, model: Model, rooms: Sequence[Room], seen: Sequence[Seen], *, build: int | None
    ) -> None:
        self._model, self._rooms = model, tuple(rooms)
        self._seen = [one for one in seen if build is None or one.start.build in (None, build)]
        self.doubt = _doubt(model, self._seen)

    def correct(self, settings: Settings, made: Estimate, seat: str | None = None) -> Estimate:
        """The estimate, with what was allocated in place of what was estimated, if it is known.
        seat: the device that the draft model is on, or HOST; None: there is none.

        Up to era A some of what is computed with is allocated later, and is in no line: there
        nothing gets smaller.
        """
        found = self._same(settings, seat)
        if found is None:
            return made
        parts = _Parts(found.start, most=made.era is Era.A)
        devices = tuple(parts.corrected(one) for one in made.devices)
        return replace(made, devices=devices, host=parts.corrected(made.host), is_seen=True)

    def _same(self, settings: Settings, seat: str | None) -> Seen | None:
        """The last start that allocated just this."""
        count = len(self._rooms)
        wanted = normal(settings, self._model, count)
        return next(
            (
                one for one in reversed(self._seen)
                if one.start.is_whole and one.seat == seat and self._same_devices(one)
                and normal(one.settings, self._model, count) == wanted
            ),
            None,
        )  # fmt: skip

    def _same_devices(self, one: Seen) -> bool:
        """The same names in the same order, and of the same size: not another card by now."""
        totals = {card.name: card.total_mib for card in one.start.cards}
        ours = [(room.name, room.total_bytes // MIB) for room in self._rooms]
        return [(name, totals.get(name)) for name in one.devices] == ours


class _Parts:
    """The buffers of a start. most: nothing gets smaller by them."""

    def __init__(self, start: Start, *, most: bool) -> None:
        weights, context = target(start)
        self._own, self._drafts = sums((*weights, *context)), by_home(drafting(start))
        self._most = most

    def corrected(self, need: Need) -> Need:
        """A device as it was. mmproj stays: what it computes with grows with the images that
        come. So do weights on the host: a log may call a span of the file their size."""
        compute = self._own.get((need.name, "compute"), NOTHING)
        output = self._own.get((need.name, "output"), NOTHING)
        draft = self._drafts.get(need.name, NOTHING)
        lacking = (need.compute_bytes and not compute.lines) or (
            need.draft_bytes and not draft.lines
        )
        if lacking:
            return need  # a line that the log lacks is no proof that there is nothing
        error = int((compute + output + draft).tolerance_mib * MIB)
        if self._most or need.mmproj_bytes:
            error = max(error, need.compute_error_bytes)
        return replace(
            need, compute_bytes=self._known(need.compute_bytes, compute),
            output_bytes=max(need.output_bytes, in_bytes(output)),
            draft_bytes=self._known(need.draft_bytes, draft), compute_error_bytes=error,
            weights_bytes=need.weights_bytes if need.name == HOST else self._least(need, "weights"),
            kv_bytes=self._least(need, "kv"), state_bytes=self._least(need, "state"),
        )  # fmt: skip

    def _known(self, predicted: int, amount: Amount) -> int:
        return max(predicted, in_bytes(amount)) if self._most else in_bytes(amount)

    def _least(self, need: Need, part: str) -> int:
        """What is computed exactly, unless more was allocated: then a rule is wrong."""
        predicted: int = getattr(need, f"{part}_bytes")
        amount = self._own.get((need.name, KINDS[part]), NOTHING)
        more = in_bytes(amount) - predicted > amount.tolerance_mib * MIB
        return in_bytes(amount) if more else predicted


def _doubt(model: Model, seen: Sequence[Seen]) -> Doubt:
    """How far beyond its bounds an estimate was at worst, on a device and on the host."""
    worst = Doubt()
    for one in seen:
        devices = [Device(name) for name in one.devices]
        try:
            made = Estimator(model, devices, build=one.start.build).estimate(one.settings)
        except ProfileError:  # words that no rule here can price
            continue
        for row in compared(made, one.start):
            beyond = row.verdict is Verdict.BEYOND and row.difference_bytes > 0
            if beyond and row.part == "compute" and row.predicted_bytes:
                share = row.difference_bytes / row.predicted_bytes
                worst = worst.at_least(share, host=row.device == HOST)
    return worst
