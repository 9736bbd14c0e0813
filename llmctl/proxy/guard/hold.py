"""Events that are held back, in the order in which they came."""

from collections import deque

from llmctl.proxy.guard.event import Event
from llmctl.proxy.guard.texts import Text

MOST_HELD = 8 << 20
"""Bytes. A detector decides long before; where it does not, what is held goes out."""

Marks = tuple[tuple[Text, int], ...]
"""The texts that an event has pieces of, and how long each was with them."""


class Hold:
    """The queue. nbytes: of its events. An event of the common shape, which nobody has parsed, is
    its bytes."""

    def __init__(self) -> None:
        self._queue: deque[tuple[bytes | Event, Marks, int]] = deque()
        self.nbytes = 0

    def __bool__(self) -> bool:
        return bool(self._queue)

    def put(self, event: Event, marks: Marks) -> None:
        """Hold one more."""
        self._queue.append((event, marks, sum(len(delta.text) for delta in event.deltas)))
        self.nbytes += len(event.raw)

    def add(self, events: list[bytes], text: Text, sizes: list[int]) -> None:
        """The same for the last events of the common shape. sizes: of their pieces of text."""
        end = text.total - sum(sizes)
        for raw, size in zip(events, sizes, strict=True):
            end += size
            self._queue.append((raw, ((text, end),), size))
            self.nbytes += len(raw)

    @property
    def is_full(self) -> bool:
        """Is it more than may be held?"""
        return self.nbytes > MOST_HELD

    def safe(self, *, every: bool = False) -> list[bytes | Event]:
        """Let go of those that may go out, up to the first that may not; or of all."""
        queue = self._queue
        found: list[bytes | Event] = []
        while queue:
            event, marks, _ = queue[0]
            for text, end in marks:
                if text.detector.safe < end and text.is_watched and not every:
                    return found
            queue.popleft()
            for text, end in marks:
                text.sent = max(text.sent, end)
            self.nbytes -= len(event if isinstance(event, bytes) else event.raw)
            found.append(event)
        return found

    def drop(self, only: Text | None = None) -> int:
        """Throw away what is held, or what is held of one text; how many bytes of text that was."""
        kept = [one for one in self._queue if only is not None and _has_other(one[1], only)]
        dropped = sum(one[2] for one in self._queue) - sum(one[2] for one in kept)
        self._queue = deque(kept)
        events = [event for event, _, _ in kept]
        self.nbytes = sum(len(one if isinstance(one, bytes) else one.raw) for one in events)
        return dropped


def _has_other(marks: Marks, only: Text) -> bool:
    return any(text is not only for text, _ in marks)
