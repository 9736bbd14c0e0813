"""/llmctl/events: what happens, for whoever wants to watch (server-sent events).

A watcher that reads too slowly is dropped: what waits for it in memory is bounded by its
connection's buffer. Without watchers an event costs nothing.
"""

from collections.abc import Mapping
from typing import Any, Protocol

import msgspec

from llmctl.proxy.dialect import Trouble

MOST_WATCHERS = 32


class Ending(Protocol):
    """An answer. broken: its connection ends with it."""

    broken: bool


class Watcher(Protocol):
    """A request that gets events until it ends. is_full: its connection takes no more now."""

    is_full: bool

    @property
    def answer(self) -> Ending:
        """What it gets."""
        ...

    def client_gone(self) -> None:
        """Nobody is there to read it."""
        ...

    def progress(self, event: bytes) -> None:
        """Send an event."""
        ...

    def refuse(self, trouble: Trouble) -> None:
        """End it, and say why."""
        ...


class Events:
    """Who watches."""

    def __init__(self) -> None:
        self.watchers: list[Watcher] = []
        self.is_closed = False

    def __len__(self) -> int:
        return len(self.watchers)

    def add(self, watcher: Watcher) -> Trouble | None:
        """One more; or why not."""
        if self.is_closed or len(self.watchers) >= MOST_WATCHERS:
            return Trouble(503, "too_many_watchers", "Too many watch already.", retry_after_s=30)
        self.watchers.append(watcher)
        return None

    def remove(self, watcher: Watcher) -> None:
        """It has ended."""
        if watcher in self.watchers:
            self.watchers.remove(watcher)

    def tell(self, kind: str, facts: Mapping[str, Any]) -> None:
        """Something happened."""
        if not self.watchers:
            return
        event = b"event: %b\ndata: %b\n\n" % (kind.encode(), msgspec.json.encode(facts))
        for watcher in list(self.watchers):
            if watcher.is_full:
                self.remove(watcher)
                watcher.answer.broken = True
                watcher.client_gone()
            else:
                watcher.progress(event)

    def close(self) -> None:
        """The proxy stops; watching is no work that it waits for."""
        self.is_closed = True
        stopped = Trouble(503, "proxy_stopped", "The proxy was stopped.", retry_after_s=2)
        for watcher in list(self.watchers):
            self.remove(watcher)
            watcher.refuse(stopped)
