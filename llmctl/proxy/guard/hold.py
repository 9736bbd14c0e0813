"""Events that are held back, in the order in which they came."""

from collections import deque
from collections.abc import Iterator

import msgspec

from llmctl.proxy.guard.event import Event
from llmctl.proxy.guard.texts import Text

MOST_HELD = 8 << 20
"""Bytes. A detector decides long before; where it does not, what is held goes out."""


class Held(msgspec.Struct, frozen=True):
    """An event. marks: the texts that it has pieces of, and how long each was with them."""

    event: Event
    marks: tuple[tuple[Text, int], ...] = ()

    @property
    def is_safe(self) -> bool:
        """May it go out?"""
        return all(not text.is_watched or text.detector.safe >= end for text, end in self.marks)


class Hold:
    """The queue. nbytes: of its events."""

    def __init__(self) -> None:
        self._queue: deque[Held] = deque()
        self.nbytes = 0

    def __bool__(self) -> bool:
        return bool(self._queue)

    def put(self, event: Event, marks: tuple[tuple[Text, int], ...]) -> None:
        """Hold one more."""
        self._queue.append(Held(event, marks))
        self.nbytes += len(event.raw)

    @property
    def is_full(self) -> bool:
        """Is it more than may be held?"""
        return self.nbytes > MOST_HELD

    def safe(self, *, every: bool = False) -> Iterator[Event]:
        """Let go of those that may go out, up to the first that may not; or of all."""
        while self._queue and (every or self._queue[0].is_safe):
            held = self._queue.popleft()
            self.nbytes -= len(held.event.raw)
            for text, end in held.marks:
                text.sent = max(text.sent, end)
            yield held.event

    def drop(self, only: Text | None = None) -> int:
        """Throw away what is held, or what is held of one text; how many bytes of text that was."""
        kept: list[Held] = []
        dropped = 0
        for held in self._queue:
            if only is not None and any(text is not only for text, _ in held.marks):
                kept.append(held)
            else:
                dropped += sum(len(delta.text) for delta in held.event.deltas)
        self._queue = deque(kept)
        self.nbytes = sum(len(held.event.raw) for held in kept)
        return dropped
