"""How long a client is waited for: while it sends, while it reads, and between its requests."""

HEAD_TIMEOUT_S = 30.0
"""For a whole head, from its first byte."""
BODY_TIMEOUT_S = 60.0
"""Of silence in a body."""
LEAST_BYTES_PER_S = 500
"""Of a body, after the first BODY_TIMEOUT_S: a byte now and then does not keep a connection."""
STALL_TIMEOUT_S = 300.0
"""For a client that takes nothing of its answer: a stopped program, a sleeping laptop."""
LINGER_S = 30.0
LINGER_QUIET_S = 5.0
"""How long the rest of a refused request is read and thrown away, and how long it may pause."""


class Patience:
    """The times of one connection; all are the caller's. began_at: when a request began to come."""

    def __init__(self, now: float) -> None:
        self._heard = self.began_at = now
        self._full: float | None = None
        self._lingers: float | None = None

    def heard(self, now: float) -> None:
        """Something came, or a request has just been answered."""
        self._heard = now

    def began(self, now: float) -> None:
        """The first byte of a request has come."""
        self._heard = self.began_at = now

    def full(self, now: float) -> None:
        """The client does not take what is written."""
        self._full = now

    def drained(self) -> None:
        """It does again."""
        self._full = None

    def lingers(self, now: float) -> None:
        """It has had its answer, and may still be sending."""
        self._heard = self._lingers = now

    def is_slow(self, now: float, *, nbytes: int | None) -> bool:
        """Is it too slow in sending? nbytes: of its body that came; None: it still sends a head."""
        if nbytes is None:
            return now - self.began_at > HEAD_TIMEOUT_S
        allowed = BODY_TIMEOUT_S + nbytes / LEAST_BYTES_PER_S
        return now - self._heard > BODY_TIMEOUT_S or now - self.began_at > allowed

    def is_stalled(self, now: float) -> bool:
        """Has it taken nothing for too long?"""
        return self._full is not None and now - self._full > STALL_TIMEOUT_S

    def has_lingered(self, now: float) -> bool:
        """Has it had the time to read its answer?"""
        if self._lingers is None:
            return False
        return now - self._heard > LINGER_QUIET_S or now - self._lingers > LINGER_S

    def is_idle(self, now: float, within: float) -> bool:
        """Has nobody used it for so many seconds?"""
        return now - self._heard > within
