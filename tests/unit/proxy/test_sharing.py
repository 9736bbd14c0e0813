"""sharing.py and unloading.py: what pools say is done, in threads, and told."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

from msgspec.structs import replace
from support.alone import Alone
from support.asking import until
from support.untold import Untold

from llmctl.core.eviction import Ledger
from llmctl.core.proxy_settings import ProxySettings
from llmctl.core.state import State
from llmctl.errors import HostError, LlmctlError
from llmctl.proxy.dialect import Trouble, endpoint_of
from llmctl.proxy.keeper import Progress, Seen
from llmctl.proxy.routing import Served
from llmctl.proxy.switchboard import Switchboard
from llmctl.proxy.unloading import Unloaded

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from llmctl.proxy.affinity import Keys
    from llmctl.proxy.parties import Waiting

CHAT = endpoint_of(b"/v1/chat/completions")


class Box(Alone):
    """Three models of one pool, of which two fit, and one of another group. What is asked of it
    ends when the test says so."""

    def __init__(self) -> None:
        self.running: set[str] = set()
        self.calls: list[str] = []
        self.may_end = threading.Event()
        self.blind: LlmctlError | None = None
        self.stuck: LlmctlError | None = None
        self.mode = True
        self.ttl_s: float | None = None
        self.replica, self.whole = False, 2

    def served(self, name: str) -> Served:
        return Served(
            name=name, group="gpu" if name in "abc" else "other", port=12350 + ord(name),
            state=State.READY if name in self.running else State.STOPPED, pid=ord(name),
            most=2 if name == "a" and self.replica else 1,
            is_shared=self.mode and name in "abc", ttl_s=self.ttl_s,
        )  # fmt: skip

    def look(self) -> Seen:
        found = tuple(map(self.served, "abcx"))
        ready = {one.queue: one.name for one in found if one.name in self.running}
        two = replace(self.served("a"), number=2, pid=2)
        settings = ProxySettings(max_wait="30s", drain_timeout="60s")
        return Seen(found, ready, {}, settings, replicas=(two,) if self.replica else ())

    def stop_replica(self, name: str, number: int) -> None:
        self.calls.append(f"stop {name}@{number}")
        assert self.may_end.wait(20)
        self.replica = False

    def switch(self, name: str, *, timeout: float, progress: Progress) -> None:
        del timeout, progress
        self.calls.append(f"start {name}")
        assert self.may_end.wait(20)
        self.running.add(name)

    def restart(self, name: str) -> None:
        raise AssertionError(name)

    def ledger(self, name: str) -> Ledger:
        assert name in "abc"
        if self.blind:
            raise self.blind
        mine = {one for one in self.running if one in "abc"}
        holds = {one: {"gpu": 2 if one == "a" and self.replica else 1} for one in mine}
        used = sum(one["gpu"] for one in holds.values())
        return Ledger({"gpu": 1}, {"gpu": self.whole - used}, holds)

    def unload(self, names: tuple[str, ...]) -> None:
        self.calls.append(f"stop {','.join(names)}")
        assert self.may_end.wait(20)
        if self.stuck:
            raise self.stuck
        self.running -= set(names)


class Request:
    def __init__(self, scene: Scene, model: str) -> None:
        self.scene, self.endpoint = scene, CHAT
        self.ticket = len(scene.requests) + 1 + scene.ended
        self.served: Served | None = scene.board.table.served[model]
        self.is_waiting = True
        self.refused: list[str] = []
        scene.requests[self.ticket] = self

    def admitted(self) -> None:
        self.is_waiting = False

    def seated(self, served: Served) -> None:
        raise AssertionError(served)

    def conversation(self) -> Keys:
        return ()

    def refuse(self, trouble: Trouble) -> None:
        self.refused.append(trouble.message)
        self.scene.forgets(self)

    def lost(self, why: str) -> None:
        raise AssertionError(why)

    def ends(self) -> None:
        self.scene.forgets(self)
        assert self.served is not None
        self.scene.board.done(self.served, self.ticket)


class Scene(Untold):
    """A board, its box, and what it told. `now` is the test's."""

    def __init__(self) -> None:
        self.box, self.now, self.ended = Box(), 0.0, 0
        self.requests: dict[int, Waiting] = {}
        self.told: list[str] = []
        self.board = Switchboard(self.box, self.requests, lambda: self.now, self)

    def forgets(self, request: Request) -> None:
        self.ended += 1
        del self.requests[request.ticket]

    def asks(self, model: str) -> Request:
        made = Request(self, model)
        assert made.served is not None
        self.board.arrive(made, made.served, since=None)
        return made

    async def runs(self, *models: str) -> None:
        """Each is asked for, and has nothing more to do."""
        for name in models:
            one = self.asks(name)
            await self.admits(one)
            one.ends()

    async def admits(self, one: Request) -> None:
        async def is_there() -> bool:
            return not one.is_waiting

        await until(is_there)

    async def calls(self, *calls: str) -> None:
        """These, and no others, have been asked of the box since the last time."""

        async def are_there() -> bool:
            return len(self.box.calls) >= len(calls)

        await until(are_there)
        assert self.box.calls == list(calls)
        self.box.calls.clear()

    async def tells(self, what: str) -> None:
        async def is_told() -> bool:
            return what in self.told

        await until(is_told)

    def switching(self, model: str) -> None:
        self.told.append(f"switching {model}")

    def switched(self, model: str, seconds: float, *, why: str | None = None) -> None:
        del seconds
        assert why is None
        self.told.append(f"switched {model}")

    def instance(
        self, model: str, number: int, state: str, *, seconds: float = 0.0, why: str | None = None
    ) -> None:
        assert (model, number, seconds, why) == ("a", 2, 0, None)
        self.told.append(f"{state} {model}@{number}")

    def unloading(
        self, model: str, state: str, *, why: str, room_for: str | None = None,
        idle_s: float = 0.0, total_s: float = 0.0,
    ) -> None:  # fmt: skip
        assert total_s == 0
        self.told.append(f"{state} {model} {why} {room_for} {idle_s:.0f}")


def run(play: Callable[[Scene], Awaitable[None]], ttl_s: float | None = None) -> None:
    async def whole() -> None:
        scene = Scene()
        scene.box.ttl_s = ttl_s
        scene.box.may_end.set()
        await scene.board.look()
        try:
            await play(scene)
        finally:
            scene.box.may_end.set()

    asyncio.run(whole())


def test_two_run_beside_each_other_and_the_third_makes_one_go() -> None:
    async def play(scene: Scene) -> None:
        await scene.runs("a", "b")
        await scene.calls("start a", "start b")
        scene.now = 20.0
        await scene.runs("a", "c")
        await scene.calls("stop b", "start c")
        assert scene.box.running == {"a", "c"}
        assert "began b room c 20" in scene.told
        assert "ok b room c 0" in scene.told
        (gone,) = scene.board.unloading.last.items()
        assert gone == ("b", Unloaded("room", "c", 20.0))
        facts = scene.board.sharing.facts()["gpu"]
        assert facts["evictions"] == 1
        assert facts["members"]["a"]["idle_s"] == 0.0
        assert facts["members"]["b"]["idle_s"] is None
        assert facts["members"]["a"]["holds_bytes"] == {"gpu": 1}

    run(play)


def test_who_asks_for_one_that_goes_waits_and_gets_it_again() -> None:
    """Also where a look sees it stopped: it was not stopped by hand."""

    async def play(scene: Scene) -> None:
        await scene.runs("a", "b")
        scene.now = 20.0
        await scene.runs("b")
        scene.box.may_end.clear()
        scene.box.calls.clear()
        third = scene.asks("c")
        await scene.calls("stop a")
        assert "a" not in scene.board.table.active.values()
        late = scene.asks("a")
        await scene.board.look()
        assert late.is_waiting
        assert not late.refused
        scene.box.may_end.set()
        await scene.admits(third)
        await scene.board.look()
        scene.now = 60.0
        third.ends()
        scene.board.tick()
        await scene.admits(late)
        assert not late.refused

    run(play)


def test_one_that_runs_answers_while_another_starts() -> None:
    async def play(scene: Scene) -> None:
        await scene.runs("a")
        scene.box.may_end.clear()
        scene.box.calls.clear()
        waits = scene.asks("b")
        also = scene.asks("c")
        await scene.calls("start b")
        assert not scene.asks("a").is_waiting
        assert waits.is_waiting
        assert also.is_waiting
        assert scene.board.sharing.facts()["gpu"]["starting"] == "b"
        scene.box.may_end.set()
        await scene.admits(waits)

    run(play)


def test_the_switch_of_another_group_is_not_theirs() -> None:
    async def play(scene: Scene) -> None:
        scene.box.may_end.clear()
        scene.asks("a")
        await scene.calls("start a")
        scene.asks("x")
        await scene.calls("start x")

    run(play)


def test_who_cannot_be_weighed_is_told_why() -> None:
    async def play(scene: Scene) -> None:
        scene.box.blind = HostError("Nobody says how much memory is free.")
        one = scene.asks("a")

        async def is_told() -> object:
            return one.refused

        await until(is_told)
        assert one.refused == ["a could not be started. Nobody says how much memory is free."]
        assert scene.asks("a").refused == one.refused
        assert scene.box.calls == []
        scene.box.blind = None
        await scene.runs("b")

    run(play)


def test_one_that_somebody_starts_meanwhile_is_not_refused() -> None:
    async def play(scene: Scene) -> None:
        scene.box.blind = HostError("Nobody says how much memory is free.")
        one = scene.asks("a")
        scene.board.turns("gpu/a").observed(None, "a", scene.now)

        async def is_weighed() -> bool:
            return scene.board.sharing.facts()["gpu"]["starting"] is None

        await until(is_weighed)
        assert one.is_waiting
        assert not one.refused
        scene.box.running.add("a")
        await scene.board.look()
        assert not one.is_waiting

    run(play)


def test_who_goes_while_it_is_weighed_starts_nothing() -> None:
    async def play(scene: Scene) -> None:
        one = scene.asks("a")
        assert one.served is not None
        scene.forgets(one)
        scene.board.leave(one, one.served)
        await scene.runs("b")
        await scene.calls("start b")

    run(play)


def test_one_that_does_not_go_makes_no_room() -> None:
    """What is free is looked at anew after each end, so nothing is started into nothing."""

    async def play(scene: Scene) -> None:
        await scene.runs("a", "b")
        scene.now = 20.0
        await scene.runs("b")
        scene.box.stuck = HostError("llm-a.service did not stop within 600 s.")
        scene.box.calls.clear()
        third = scene.asks("c")
        await scene.tells("failed a room c 0")
        await scene.board.look()
        assert scene.board.problem is None or "did not stop" in scene.board.problem
        assert third.is_waiting
        assert scene.board.turns("gpu/a").ready == "a"
        assert "start c" not in scene.box.calls

    run(play)


def test_ttl_unloads_what_had_nothing_to_do() -> None:
    async def play(scene: Scene) -> None:
        await scene.runs("a", "x")
        works = scene.asks("a")
        scene.box.calls.clear()
        scene.now = 59.0
        scene.board.tick()
        scene.now = 61.0
        scene.board.tick()
        await scene.calls("stop x")
        await scene.tells("ok x ttl None 0")
        works.ends()
        scene.now = 120.0
        scene.board.tick()
        assert scene.box.calls == []
        scene.now = 121.0
        scene.board.tick()
        await scene.calls("stop a")
        await scene.tells("ok a ttl None 0")
        await scene.board.look()
        assert set(scene.board.unloading.last) == {"a", "x"}
        await scene.runs("a", "x")
        await scene.calls("start a", "start x")
        assert scene.board.unloading.last == {}

    run(play, ttl_s=60.0)


def test_a_pool_that_becomes_exclusive_is_one_group_again() -> None:
    async def play(scene: Scene) -> None:
        await scene.runs("a", "b")
        scene.box.mode = False
        scene.box.running = {"a"}
        await scene.board.look()
        assert scene.board.sharing.facts() == {}
        one = scene.asks("b")
        assert one.served is not None
        assert one.served.queue == "gpu"
        await scene.admits(one)

    run(play)


def test_requests_go_along_when_a_group_becomes_a_pool() -> None:
    """What is under way keeps its model from being stopped, and who waits starts his only into
    room."""

    async def play(scene: Scene) -> None:
        scene.box.mode, scene.box.running, scene.box.whole = False, {"a"}, 1
        await scene.board.look()
        works, waits = scene.asks("a"), scene.asks("b")
        assert not works.is_waiting
        scene.now, scene.box.mode = 5.0, True
        await scene.board.look()
        facts = scene.board.sharing.facts()["gpu"]["members"]
        assert (facts["a"]["in_flight"], facts["b"]["waiting"]) == (1, 1)
        assert scene.board.turns("gpu").busy == {}
        scene.now = 10.0
        works.ends()
        assert scene.board.turns("gpu/a").busy == {}
        await scene.calls("stop a", "start b")
        await scene.admits(waits)
        waits.ends()
        assert scene.board.turns("gpu/b").busy == {}

    run(play)


def test_requests_go_along_when_a_pool_becomes_exclusive() -> None:
    """They do not make a model start beside those of the group."""

    async def play(scene: Scene) -> None:
        scene.box.running, scene.box.whole = {"a"}, 1
        await scene.board.look()
        works, first = scene.asks("a"), scene.asks("b")
        scene.now = 1.0
        second = scene.asks("c")
        scene.box.mode = False
        await scene.board.look()
        gpu = scene.board.turns("gpu")
        assert gpu.busy == {"a": 1}
        assert [one.model for one in gpu.waiting.values()] == ["b", "c"]
        assert scene.box.calls == []
        works.ends()
        await scene.calls("start b")
        await scene.admits(first)
        assert second.is_waiting
        assert gpu.busy == {"b": 1}

    run(play)


def test_a_spare_replica_goes_first_and_none_is_started_meanwhile() -> None:
    async def play(scene: Scene) -> None:
        box = scene.box
        await scene.runs("a", "b")
        box.replica, box.whole = True, 3
        await scene.board.look()
        box.calls.clear()
        box.may_end.clear()
        third = scene.asks("c")
        await scene.calls("stop a@2")
        assert scene.board.replicas.machines["a"].is_held
        assert scene.board.sharing.facts()["gpu"]["evictions"] == 0
        box.may_end.set()
        await scene.tells("stopped a@2")
        await scene.board.look()
        await scene.admits(third)
        await scene.calls("start c")
        assert not scene.board.replicas.machines["a"].is_held

    run(play)


def test_of_several_the_one_used_last_is_for_requests_that_name_none() -> None:
    async def play(scene: Scene) -> None:
        scene.box.running = {"a", "b", "x"}
        await scene.board.look()
        for number, name in enumerate("bab"):
            scene.now = float(number + 1)
            await scene.runs(name)
            await scene.board.look()
            assert scene.board.table.default == name
        scene.box.running = {"x"}
        await scene.board.look()
        assert scene.board.table.default == "x"

    run(play)


def test_while_the_only_one_makes_room_requests_that_name_none_are_for_the_next() -> None:
    async def play(scene: Scene) -> None:
        box, board = scene.box, scene.board
        box.whole = 1
        await scene.runs("a")
        assert board.routes.default == "a"
        box.calls.clear()
        box.may_end.clear()
        waits = scene.asks("b")
        await scene.calls("stop a")
        assert (board.table.default, board.routes.default) == (None, "b")
        box.may_end.set()
        await scene.admits(waits)
        assert board.routes.default == "b"
        box.running = set()
        await board.look()
        assert board.routes.default is None

    run(play)


def test_what_an_earlier_proxy_left_is_known() -> None:
    """Who answers, who is idle since when this one began, and what is to be weighed."""

    async def play(scene: Scene) -> None:
        scene.box.running = {"a", "b"}
        scene.now = 1000.0
        await scene.board.look()
        assert not scene.asks("a").is_waiting
        scene.now = 1060.0
        await scene.runs("c")
        await scene.calls("stop b", "start c")
        assert "began b room c 60" in scene.told

    run(play)


def test_queues() -> None:
    alone = replace(Box().served("x"), group=None)
    assert (alone.queue, alone.pool) == ("none:x", None)
    assert (Box().served("a").queue, Box().served("a").pool) == ("gpu/a", "gpu")
