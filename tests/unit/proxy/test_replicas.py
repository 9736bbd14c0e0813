"""replicas.py: what the machines say is done, in threads, and told."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

from msgspec.structs import replace
from support.alone import Alone
from support.asking import until
from support.untold import Untold

from llmctl.core.proxy_settings import ProxySettings
from llmctl.core.state import State
from llmctl.errors import DoesNotFitError
from llmctl.proxy.dialect import Endpoint, Trouble, endpoint_of
from llmctl.proxy.keeper import Progress, Seen
from llmctl.proxy.routing import Served
from llmctl.proxy.switchboard import Switchboard

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from llmctl.proxy.affinity import Keys
    from llmctl.proxy.parties import Waiting

A = Served(
    name="a", group="gpu", port=12340, state=State.READY, pid=1, most=2, idle_timeout_s=600.0
)
TWO = replace(A, port=12342, pid=2, number=2)
CHAT = endpoint_of(b"/v1/chat/completions")


class Box(Alone):
    """A Keeper whose starts end when the test says so."""

    def __init__(self) -> None:
        self.replicas: tuple[Served, ...] = ()
        self.calls: list[tuple[str, str, int]] = []
        self.may_end = threading.Event()
        self.fails: DoesNotFitError | None = None

    def look(self) -> Seen:
        return Seen((A,), {"gpu": "a"}, {}, ProxySettings(), replicas=self.replicas)

    def switch(self, name: str, *, timeout: float, progress: Progress) -> None:
        raise AssertionError((name, timeout, progress))

    def restart(self, name: str) -> None:
        raise AssertionError(name)

    def start_replica(self, name: str, number: int, *, timeout: float) -> int:
        assert timeout > 0
        self.calls.append(("start", name, number))
        assert self.may_end.wait(20)
        if self.fails:
            raise self.fails
        self.replicas = (TWO,)
        return TWO.port

    def stop_replica(self, name: str, number: int) -> None:
        self.calls.append(("stop", name, number))
        self.replicas = ()


class Request:
    def __init__(self, scene: Scene, endpoint: Endpoint) -> None:
        self.scene, self.endpoint = scene, endpoint
        self.ticket = len(scene.requests) + 1
        self.served: Served | None = A
        self.is_waiting = True
        self.seats: list[str] = []
        self.refused: list[str] = []
        scene.requests[self.ticket] = self

    def admitted(self) -> None:
        self.is_waiting = False
        assert self.served is not None
        self.scene.board.replicas.seat(self, self.served)

    def seated(self, served: Served) -> None:
        self.served = served
        self.seats.append(f"{served.label}:{served.port}")

    def conversation(self) -> Keys:
        return ()

    def refuse(self, trouble: Trouble) -> None:
        self.refused.append(trouble.kind)
        self.ends()

    def lost(self, why: str) -> None:
        raise AssertionError(why)

    def ends(self) -> None:
        del self.scene.requests[self.ticket]
        assert self.served is not None
        self.scene.board.done(self.served, self.ticket)


class Scene(Untold):
    """A board, its box, and what it told. `now` is the test's."""

    def __init__(self) -> None:
        self.box, self.now = Box(), 0.0
        self.requests: dict[int, Waiting] = {}
        self.told: list[tuple[int, str, str | None]] = []
        self.board = Switchboard(self.box, self.requests, lambda: self.now, self)

    def asks(self, endpoint: Endpoint = CHAT) -> Request:
        made = Request(self, endpoint)
        self.board.arrive(made, A, since=None)
        return made

    async def has_told(self, number: int, state: str) -> None:
        async def is_there() -> bool:
            return any(one[:2] == (number, state) for one in self.told)

        await until(is_there)

    def restarting(self, model: str, trouble: Trouble) -> None:
        self.told.append((0, f"restarting {model}", trouble.kind))

    def instance(
        self, model: str, number: int, state: str, *, seconds: float = 0.0, why: str | None = None
    ) -> None:
        assert model == "a"
        assert seconds >= 0
        self.told.append((number, state, why))


def run(play: Callable[[Scene], Awaitable[None]]) -> None:
    async def whole() -> None:
        scene = Scene()
        await scene.board.look()
        try:
            await play(scene)
        finally:
            scene.box.may_end.set()

    asyncio.run(whole())


def test_a_request_waits_for_the_instance_that_is_started_for_it() -> None:
    async def play(scene: Scene) -> None:
        first, second = scene.asks(), scene.asks()
        assert (first.seats, second.seats) == (["a:12340"], [])
        await scene.has_told(2, "starting")
        scene.box.may_end.set()
        await scene.has_told(2, "ready")
        assert second.seats == ["a@2:12342"]
        assert scene.box.calls == [("start", "a", 2)]
        await scene.board.look()
        assert [one["in_flight"] for one in scene.board.replicas.facts("a")] == [1]

    run(play)


def test_it_takes_what_becomes_free_first() -> None:
    async def play(scene: Scene) -> None:
        first, second = scene.asks(), scene.asks()
        first.ends()
        assert second.seats == ["a:12340"]

    run(play)


def test_where_there_is_no_room_the_first_one_answers() -> None:
    async def play(scene: Scene) -> None:
        scene.box.fails = DoesNotFitError("a does not fit once more.")
        scene.box.may_end.set()
        scene.asks()
        second = scene.asks()
        await scene.has_told(2, "failed")
        assert second.seats == ["a:12340"]
        assert scene.told[-1] == (2, "failed", "a does not fit once more.")
        assert scene.asks().seats == ["a:12340"]
        assert len(scene.box.calls) == 1

    run(play)


def test_none_is_started_while_a_pool_wants_the_memory() -> None:
    """Also of a model that nobody had asked until then."""

    async def play(scene: Scene) -> None:
        scene.board.replicas.hold(is_held=True)
        requests = [scene.asks(), scene.asks()]
        assert [one.seats for one in requests] == [["a:12340"], ["a:12340"]]
        scene.board.replicas.hold(is_held=False)
        scene.asks()
        await scene.has_told(2, "starting")

    run(play)


def test_what_generates_nothing_needs_no_instance_of_its_own() -> None:
    async def play(scene: Scene) -> None:
        scene.asks()
        for path in (b"/slots", b"/v1/messages/count_tokens", b"/v1/messages/other"):
            assert scene.asks(endpoint_of(path)).seats == ["a:12340"]
        assert scene.box.calls == []

    run(play)


def test_what_an_earlier_proxy_started_is_used_and_stopped() -> None:
    async def play(scene: Scene) -> None:
        scene.box.replicas = (TWO,)
        await scene.board.look()
        requests = [scene.asks(), scene.asks()]
        assert [one.seats for one in requests] == [["a:12340"], ["a@2:12342"]]
        requests[1].ends()
        scene.now = 599.0
        scene.board.tick()
        assert scene.box.calls == []
        scene.now = 600.0
        scene.board.tick()
        await scene.has_told(2, "stopped")
        assert scene.box.calls == [("stop", "a", 2)]

    run(play)


def test_a_look_from_before_a_stop_is_not_believed() -> None:
    async def play(scene: Scene) -> None:
        scene.box.replicas = (TWO,)
        await scene.board.look()
        scene.now = 600.0
        began = scene.board.replicas.changes
        scene.board.tick()
        await scene.has_told(2, "stopped")
        assert scene.board.replicas.changes > began
        scene.asks()
        assert scene.board.replicas.machines["a"].busy == {1: 1}

    run(play)


def test_a_replica_that_does_not_answer_is_left_out_and_its_model_is_not_doubted() -> None:
    async def play(scene: Scene) -> None:
        scene.box.replicas = (TWO,)
        await scene.board.look()
        scene.asks()
        second = scene.asks()
        assert second.served is not None
        scene.board.doubt(second.served)
        second.ends()
        assert scene.board.turns("gpu").ready == "a"
        assert scene.asks().seats == ["a:12340"]

    run(play)


def test_a_replica_that_hangs_is_stopped_and_the_others_go_on() -> None:
    async def play(scene: Scene) -> None:
        scene.box.replicas = (TWO,)
        await scene.board.look()
        first, second = scene.asks(), scene.asks()
        scene.board.recovery.restart(TWO, Trouble(502, "hung", "It hangs."))
        assert (first.refused, second.refused) == ([], ["hung"])
        await scene.has_told(2, "stopped")
        assert scene.box.calls == [("stop", "a", 2)]

    run(play)
