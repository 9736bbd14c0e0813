"""The instances of all models that may have several: who goes where, and what is started for it.

What each machine says (instances.py) is done here, in threads, through the Keeper. Which instances
there are is systemd's to say: the next look sees those of an earlier proxy like our own.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from llmctl.core.state import State
from llmctl.errors import LlmctlError
from llmctl.proxy.dialect import Trouble
from llmctl.proxy.instances import FIRST, Action, Instances, Seat, StartReplica, StopReplica
from llmctl.proxy.routing import Served
from llmctl.proxy.tasks import spawn

if TYPE_CHECKING:
    from llmctl.proxy.keeper import Keeper
    from llmctl.proxy.parties import Told, Waiting
    from llmctl.proxy.switchboard import Switchboard

_NO_SLOT = ("other", "count_tokens")
"""Endpoints that a server answers beside what its slots do: the first instance does."""


class Replicas:
    """Of one box. changes: a number that is another one whenever we began or ended something."""

    def __init__(
        self, board: "Switchboard", keeper: "Keeper", requests: "Mapping[int, Waiting]",
        now: Callable[[], float], told: "Told",
    ) -> None:  # fmt: skip
        self._board, self._keeper, self._requests = board, keeper, requests
        self._now, self._told = now, told
        self.changes, self._is_held = 0, False
        self.machines: dict[str, Instances] = {}
        self._served: dict[tuple[str, int], Served] = {}

    def __iter__(self) -> Iterator[Served]:
        """All replicas that were seen, however they are."""
        return iter(list(self._served.values()))

    def _machine(self, served: Served) -> Instances:
        """With the settings of now."""
        found = self.machines.setdefault(served.name, Instances())
        found.most, found.slots = served.most, served.slots
        found.idle_timeout, found.is_held = served.idle_timeout_s, self._is_held
        return found

    # Requests

    def seat(self, request: "Waiting", served: Served) -> None:
        """Its model is ready: it is seated now, or when there is an instance for it."""
        if served.most == 1 or request.endpoint.name in _NO_SLOT:
            request.seated(served)
            return
        keys = request.conversation()
        machine = self._machine(served)
        self._act(served.name, machine.arrive(request.ticket, keys, self._now()))

    def left(self, served: Served, ticket: int) -> None:
        """It needs no place any more."""
        machine = self.machines.get(served.name)
        if machine is not None:
            self._act(served.name, machine.leave(ticket, self._now()))

    def doubt(self, served: Served) -> None:
        """This one was to answer and did not."""
        machine = self.machines.get(served.name)
        if machine is not None:
            machine.doubt(served.number, self._now())

    # Instances

    def observe(self, first: Sequence[Served], replicas: Sequence[Served]) -> None:
        """What a look saw."""
        self._served = {(one.name, one.number): one for one in replicas}
        for served in first:
            mine = [one for one in replicas if one.name == served.name]
            if mine or served.name in self.machines:
                up = {one.number for one in mine if one.state is State.READY}
                coming = {one.number for one in mine if one.state is State.LOADING}
                machine = self._machine(served)
                self._act(served.name, machine.observed(up, coming, self._now()))

    def tick(self) -> None:
        """Time has passed."""
        for name, machine in list(self.machines.items()):
            self._act(name, machine.tick(self._now()))

    # Memory that a pool needs

    def hold(self, *, is_held: bool) -> None:
        """May none be started now?"""
        self._is_held = is_held
        for machine in self.machines.values():
            machine.is_held = is_held

    @property
    def is_changing(self) -> bool:
        """Does one start or end, so that what is free is about to change?"""
        machines = self.machines.values()
        return any(one.starting is not None or one.coming or one.stopping for one in machines)

    def spare(self, name: str) -> bool:
        """Has a model replicas with nothing to do?"""
        machine = self.machines.get(name)
        return machine is not None and bool(machine.spare)

    def trim(self, name: str) -> None:
        """Stop those."""
        self._act(name, self.machines[name].trim())

    def reset(self) -> None:
        """Somebody says that the configuration has changed."""
        for machine in self.machines.values():
            machine.reset()

    def restart(self, served: Served, trouble: Trouble, *, wait: float = 0.0) -> None:
        """A replica does not get on: what it works on is lost, and it is stopped. When there is
        need of it, one is started again, but not for so many seconds."""
        self.doubt(served)
        if served.name in self.machines:
            self.machines[served.name].rests(self._now() + wait)
        for request in list(self._requests.values()):
            if request.served is not None and request.served.label == served.label:
                request.refuse(trouble)
        spawn(self._stop(served.name, served.number), name=f"stop {served.label}")

    # Doing what the machines say

    def _act(self, name: str, actions: Sequence[Action]) -> None:
        for action in actions:
            match action:
                case Seat(ticket, number):
                    self._seat(ticket, number)
                case StartReplica(number):
                    spawn(self._start(name, number), name=f"start {name}@{number}")
                case StopReplica(number):
                    spawn(self._stop(name, number), name=f"stop {name}@{number}")

    def _seat(self, ticket: int, number: int) -> None:
        """A request that has ended meanwhile is not there any more."""
        request = self._requests.get(ticket)
        if request is not None and request.served is not None:
            first = request.served
            found = first if number == FIRST else self._served.get((first.name, number))
            request.seated(found or first)

    async def _start(self, name: str, number: int) -> None:
        began, why, port = self._now(), "it could not be started", 0
        self.changes += 1
        self._told.instance(name, number, "starting")
        try:
            port = await asyncio.to_thread(
                self._keeper.start_replica, name, number,
                timeout=self._board.settings.switch_timeout_s,
            )  # fmt: skip
        except LlmctlError as error:
            why = error.message
        finally:
            self.changes += 1
            self._board.sharing.changed()
            seconds = self._now() - began
            self._act(name, self._ended(name, number, port, seconds=seconds, why=why))
            self._board.wake()

    def _ended(
        self, name: str, number: int, port: int, *, seconds: float, why: str
    ) -> Sequence[Action]:
        """A start. port: 0, where it failed."""
        machine, first = self.machines[name], self._board.table.served.get(name)
        if not port or first is None:
            self._told.instance(name, number, "failed", seconds=seconds, why=why)
            return machine.failed(number, self._now())
        self._served[name, number] = msgspec.structs.replace(
            first, port=port, number=number, state=State.READY, pid=0
        )
        self._told.instance(name, number, "ready", seconds=seconds)
        return machine.started(number, self._now())

    async def _stop(self, name: str, number: int) -> None:
        self.changes += 1
        self._told.instance(name, number, "stopping")
        self._board.pools.close_idle(name, number)
        try:
            await asyncio.to_thread(self._keeper.stop_replica, name, number)
            self._told.instance(name, number, "stopped")
        except LlmctlError as error:
            self._told.instance(name, number, "failed", why=error.message)
        finally:
            self.changes += 1
            self.machines[name].stopped(number)
            self._board.sharing.changed()
            self._board.wake()

    # For who looks on

    def facts(self, name: str) -> list[dict[str, Any]]:
        """The replicas of a model, for /llmctl/status and /v1/models."""
        machine = self.machines.get(name)
        busy = machine.busy if machine is not None else {}
        return [
            {
                "instance": one.number, "state": one.state.value, "port": one.port,
                "pid": one.pid, "in_flight": busy.get(one.number, 0),
            }
            for one in self if one.name == name
        ]  # fmt: skip
