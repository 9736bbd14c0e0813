"""Does a server still live? One that was ready and fell silent, in the same process, hangs.

llama-server answers /health from threads that have nothing to do with generating: it does so within
milliseconds while all slots are busy and while a prompt of any length is read, so silence says
something. Each stream takes one of these threads, so units give it many (`--threads-http`).
Restarted and crashed servers have another process and are not meant.
"""

from collections.abc import Mapping

import msgspec

from llmctl.core.state import State
from llmctl.proxy.dialect import Trouble
from llmctl.proxy.routing import Served


class Hangs(msgspec.Struct):
    """What was seen of the servers so far: the process that was ready, and since when it is not."""

    ready: dict[str, int] = {}
    silent_since: dict[str, float] = {}
    known: dict[str, int] = {}
    """The processes that a start of ours left, as it was told last."""

    def made(self, processes: Mapping[str, int]) -> None:
        """These answered when a start of ours ended, be it that no look has seen them answer: one
        that fell silent since then hangs as well. What was told before says nothing new."""
        for name, pid in processes.items():
            if pid and self.known.get(name) != pid:
                self.known[name] = self.ready[name] = pid

    def is_odd(self, served: Served) -> bool:
        """Has one that was ready fallen silent, or has it died since the last look? To be asked
        before `see`."""
        pid = self.ready.get(served.label)
        if pid is None or (pid == served.pid and served.state is State.READY):
            return False
        if pid != served.pid:
            del self.ready[served.label]
        return served.state is not State.STOPPED

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


def given_up(name: str, trouble: Trouble, times: int, again_s: float) -> Trouble:
    """What is told when it is restarted no more. trouble: why it would have been."""
    why = trouble.message.replace(" and is restarted.", ".")
    return Trouble(
        503, "given_up",
        f"{why} After {times} restarts it is stopped, and no request starts it for "
        f"{again_s / 60:.0f} min. Type: llmctl switch {name}",
        retry_after_s=int(again_s),
    )  # fmt: skip


def with_report(trouble: Trouble, report: str) -> Trouble:
    """The same, and what the kernel says of its GPU."""
    more = f"{trouble.message} The kernel reports of its GPU: {report}."
    return msgspec.structs.replace(trouble, message=more)
