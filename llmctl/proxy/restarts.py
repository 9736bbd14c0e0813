"""How often a server that does not get on is restarted: not for ever.

A server that hangs again and again serves nobody, and each time its clients wait for as long as it
takes to be sure. So after some restarts within a while it is stopped, and who asks for it is told
why, until the first of these is long enough ago or a person starts it.
"""

from collections import deque

MOST = 3
WITHIN_S = 1800.0


class Restarts:
    """Of all servers, by label. Times are the caller's, in seconds."""

    def __init__(self, *, most: int = MOST, within: float = WITHIN_S) -> None:
        self._most, self._within = most, within
        self._known: dict[str, deque[float]] = {}

    def again_in(self, name: str, now: float) -> float:
        """One more is wanted; it counts if it may be. 0: it may; else seconds until one may."""
        past = self._known.setdefault(name, deque())
        while past and now - past[0] >= self._within:
            past.popleft()
        if len(past) >= self._most:
            return past[0] + self._within - now
        past.append(now)
        return 0.0

    def clear(self) -> None:
        """Somebody says that something has changed."""
        self._known.clear()
