"""Does a busy server still generate? One may answer /health and be stuck: a GPU that fell off its
bus, a kernel that never ends, a lock that nobody gives back (llama.cpp#13281, #27330).

What tells is `/slots`: per slot the task, how much of its prompt is read and how many tokens are
written. A prompt of any length moves it with each batch. So it is looked at now and then while
requests are under way, and only then: asking wakes a server that sleeps. Two equal looks mean that
nothing moved in between; a look that gets no answer means no more than the one before, since a
server answers it between two batches, and one batch may take minutes.

Time counts only while there is work: what was seen before a pause says nothing of a stall.
"""

import hashlib

import msgspec

LOOKS = 8
"""How often a server is looked at within the limit."""
LONGEST_STEP_S = 5.0
"""Work is looked at once a second; a longer gap is the proxy's own, and no server's fault."""

Digest = bytes
SILENT: Digest = b"no answer"


class _Watched(msgspec.Struct):
    pid: int
    seen_at: float
    digest: Digest | None = None
    still_s: float = 0.0
    since_look_s: float = 0.0


class Stalls:
    """Servers that work. Times are the caller's, in seconds."""

    def __init__(self) -> None:
        self._watched: dict[str, _Watched] = {}

    def works(self, name: str, pid: int, now: float, *, limit: float) -> bool:
        """Requests are under way on this server: is it time to look at its slots? limit: for how
        long nothing may move."""
        one = self._watched.get(name)
        if one is None or one.pid != pid:
            one = self._watched[name] = _Watched(pid, now)
        step = min(max(now - one.seen_at, 0.0), LONGEST_STEP_S)
        one.seen_at = now
        one.since_look_s += step
        if one.digest is not None:
            one.still_s += step
        return one.since_look_s >= limit / LOOKS

    def rests(self, name: str, now: float) -> None:
        """Nothing is under way on it."""
        if name in self._watched:
            self._watched[name].seen_at = now

    def looked(self, name: str, digest: Digest | None, *, limit: float) -> bool:
        """What a look gave: has nothing moved for so long? None: it cannot tell."""
        one = self._watched.get(name)
        if one is None:
            return False
        one.since_look_s = 0.0
        is_same = digest == one.digest or (digest == SILENT and one.digest is not None)
        if digest is None or not is_same:
            one.digest, one.still_s = digest, 0.0
        return digest is not None and one.still_s >= limit

    def stands_still(self, name: str) -> bool:
        """Did the last look see what the one before had seen?"""
        one = self._watched.get(name)
        return one is not None and one.still_s > 0

    def forget(self, name: str) -> None:
        """It is being restarted."""
        self._watched.pop(name, None)


def digest_of(status: int, body: bytes) -> Digest | None:
    """What a look at `/slots` saw. status: 0 for no answer. None: the server does not tell, as one
    without `--slots` does not.

    All of the text counts, so nothing that moves can be missed; llama-server writes no clock into
    it.
    """
    if status == 0:
        return SILENT
    return hashlib.sha256(body).digest() if status == 200 and body.startswith(b"[") else None
