"""What is known of the shape of an answer's events, and of those of others like it."""

from llmctl.proxy.guard.event import Event
from llmctl.proxy.guard.shape import SPECIAL, Shape, learned

_NO_SHAPE = Shape(b"\0", b"")
"""No event begins with it."""


class Likely:
    """The shape that the events of some answers have, of which one was read last."""

    __slots__ = ("shape",)

    def __init__(self) -> None:
        self.shape: Shape | None = None


class Shaped:
    """One answer. likely: shared with the answers whose events are of one shape, as a rule."""

    def __init__(self, likely: Likely | None = None) -> None:
        self._shape, self.likely = _NO_SHAPE, likely or Likely()
        self._before, self._after = _NO_SHAPE.before, b""
        self._from = self._to = 0

    def _learn(self, event: Event, endpoint: str) -> None:
        """From an event that was parsed."""
        shape = learned(event, endpoint)
        if shape is None:
            self._forget_shape()
        else:
            self._takes(shape)

    def _takes(self, shape: Shape) -> None:
        """The next events have it, as a rule."""
        self._shape = self.likely.shape = shape
        self._before, self._after = shape.before, shape.after
        self._from, self._to = len(shape.before), -len(shape.after)

    def _forget_shape(self) -> None:
        self._before, self._after = _NO_SHAPE.before, b""

    def _renewed(self, raw: bytes) -> Shape | None:
        """The shape of an event that has the likely one, but for an id or a time, and a text that
        can be read as it stands there."""
        likely = self.likely.shape
        if likely is None or (raw.endswith(self._after) and raw.startswith(self._before)):
            return None  # or it has the shape that is known, and there is something else about it
        shape = likely.renewed(raw)
        if shape is None:
            return None
        piece = raw[len(shape.before) : -len(shape.after)]
        return shape if piece.translate(None, SPECIAL) == piece else None
