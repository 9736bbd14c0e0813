"""Compute buffers that are doubted more than their forms are: a start took more than they allow."""

import msgspec
from msgspec.structs import replace

from llmctl.core.memory.buffers import Buffer, Load
from llmctl.core.memory.compute import Graph
from llmctl.core.memory.context import Shape
from llmctl.core.memory.model import Model
from llmctl.core.memory.settings import Era, Padding, Settings
from llmctl.core.memory.widths import Borrowed, Widths


class Doubt(msgspec.Struct, frozen=True):
    """How far off buffers may be at least, as a share of themselves: on devices, on the host."""

    device: float = 0.0
    host: float = 0.0

    def at_least(self, share: float, *, host: bool) -> "Doubt":
        """The larger of what is known and `share`."""
        if host:
            return replace(self, host=max(self.host, share))
        return replace(self, device=max(self.device, share))


class DoubtedGraph(Graph):
    """A Graph whose buffers may be off by `doubt` at least."""

    def __init__(
        self, model: Model, widths: Widths, settings: Settings, shape: Shape, era: Era, doubt: Doubt
    ) -> None:
        super().__init__(model, widths, settings, shape, era)
        self._doubt = doubt

    def device(self, load: Load, borrowed: Borrowed, padding: Padding, *, piped: bool) -> Buffer:
        """See Graph."""
        return _wider(super().device(load, borrowed, padding, piped=piped), self._doubt.device)

    def host(self, *, piped: bool, lent: bool = False, partial: bool = False) -> Buffer:
        """See Graph."""
        found = super().host(piped=piped, lent=lent, partial=partial)
        return _wider(found, self._doubt.host)

    def alone(self) -> Buffer:
        """See Graph."""
        return _wider(super().alone(), self._doubt.host)


def _wider(one: Buffer, share: float) -> Buffer:
    return one if one.error >= share else replace(one, error=share)
