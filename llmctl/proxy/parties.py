"""Whom a Switchboard speaks to: requests that wait, and who wants to know of switches."""

from typing import Protocol

from llmctl.proxy.dialect import Trouble
from llmctl.proxy.routing import Served


class Waiting(Protocol):
    """A request, as far as its turn goes."""

    served: Served | None
    ticket: int
    is_waiting: bool

    def admitted(self) -> None:
        """It may go ahead."""
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
