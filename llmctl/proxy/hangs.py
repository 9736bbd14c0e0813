"""Does a server still live? One that was ready and fell silent, in the same process, hangs.

llama-server answers /health from threads that have nothing to do with generating: it does so within
milliseconds while all slots are busy and while a prompt of any length is read, so silence says
something. Each stream takes one of these threads, so units give it many (`--threads-http`).
Restarted and crashed servers have another process and are not meant.
"""

import msgspec

from llmctl.core.state import State
from llmctl.proxy.dialect import Trouble
from llmctl.proxy.routing import Served


class Hangs(msgspec.Struct):
    """What was seen of the servers so far: the process that was ready, and since when it is not."""

    ready: dict[str, int] = {}
    silent_since: dict[str, float] = {}

    def see(self, served: Served, now: float) -> float:
        """For how many seconds this one has been silent; 0: it is well, or not up at all."""
        name = served.label
        if served.state is State.READY:
            self.ready[name] = served.pid
        if served.state is not State.LOADING or self.ready.get(name) != served.pid:
            self.silent_since.pop(name, None)
            return 0.0
        return now - self.silent_since.setdefault(name, now)

    def forget(self, name: str) -> None:
        """It is being restarted."""
        self.ready.pop(name, None)
        self.silent_since.pop(name, None)


def hung(name: str, limit: str) -> Trouble:
    """What its clients are told."""
    return Trouble(502, "hung", f"{name} has not answered for {limit} and is restarted.")


def stalled(name: str, limit: str) -> Trouble:
    """The same for one that answers, and does not get on (stalls.py)."""
    return Trouble(
        502, "stalled",
        f"{name} has not got on with what it works on for {limit} and is restarted.",
    )  # fmt: skip
