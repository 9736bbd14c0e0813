"""Whom a Switchboard speaks to: requests that wait, and who wants to know of switches."""

from typing import Protocol

from llmctl.core.gpu_reports import GpuReport
from llmctl.proxy.affinity import Keys
from llmctl.proxy.dialect import Endpoint, Trouble
from llmctl.proxy.routing import Served


class Waiting(Protocol):
    """A request, as far as its turn goes."""

    served: Served | None
    ticket: int
    is_waiting: bool
    endpoint: Endpoint

    def admitted(self) -> None:
        """It may go ahead."""
        ...

    def seated(self, served: Served) -> None:
        """This instance is to answer it."""
        ...

    def conversation(self) -> Keys:
        """What tells which conversation it belongs to."""
        ...

    def refuse(self, trouble: Trouble) -> None:
        """It cannot be served."""
        ...

    def lost(self, why: str) -> None:
        """Its server goes away."""
        ...


class Told(Protocol):
    """Who wants to know of switches."""

    def switching(self, model: str) -> None:
        """One of ours begins."""
        ...

    def switched(self, model: str, seconds: float, *, why: str | None = None) -> None:
        """It has ended. why: it failed."""
        ...

    def restarting(self, model: str, trouble: Trouble) -> None:
        """A server does not get on; what is told to whom it worked for."""
        ...

    def given_up(self, model: str, trouble: Trouble) -> None:
        """A server that did not get on is restarted no more; what is told to whom waits for it."""
        ...

    def gpu(self, report: GpuReport, model: str | None) -> None:
        """The kernel reports something of a GPU. model: it names a process of this one."""
        ...

    def instance(
        self, model: str, number: int, state: str, *, seconds: float = 0.0, why: str | None = None
    ) -> None:
        """A replica is starting, ready, stopping or stopped, or one of these failed. seconds: that
        its start took."""
        ...

    def unloading(
        self, model: str, state: str, *, why: str, room_for: str | None = None,
        idle_s: float = 0.0, total_s: float = 0.0,
    ) -> None:  # fmt: skip
        """A model is stopped by us. state: began, ok or failed. why: room or ttl. room_for: the
        model that needs it. idle_s: for how long it had nothing to do. total_s: that it took."""
        ...
