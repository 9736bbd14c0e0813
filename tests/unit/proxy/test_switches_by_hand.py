"""proxy/switchboard.py: what it does when others start and stop models."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest
from support.alone import Alone
from support.asking import until
from support.untold import Untold

from llmctl.core.proxy_settings import ProxySettings
from llmctl.errors import DisplacedError, HostError, NothingRunsError, TakenDownError
from llmctl.proxy.dialect import endpoint_of
from llmctl.proxy.keeper import Progress, Seen
from llmctl.proxy.routing import Rules, Served, route
from llmctl.proxy.switchboard import Switchboard

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from llmctl.proxy.affinity import Keys
    from llmctl.proxy.dialect import Trouble
    from llmctl.proxy.parties import Waiting

A, B = (Served(name=name, group="gpu", port=12340) for name in "ab")


class Box(Alone):
    """A Keeper whose box is what the test says."""

    def __init__(self) -> None:
        self.seen = Seen((A, B), {}, {}, ProxySettings())
        self.blind: str | None = None
        self.switches: list[str] = []
        self.may_end = threading.Event()
        self.may_end.set()

    def look(self) -> Seen:
        if self.blind:
            raise HostError(self.blind)
        return self.seen

    def switch(self, name: str, *, timeout: float, progress: Progress) -> None:
        del timeout, progress
        self.switches.append(name)
        assert self.may_end.wait(20)

    def restart(self, name: str) -> None:
        raise AssertionError(f"{name} does not hang")

    def is_now(
        self, ready: str | None = None, coming: str | None = None, stopping: str | None = None,
        problems: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        self.seen = Seen(
            (A, B), {"gpu": ready} if ready else {}, {"gpu": coming} if coming else {},
            ProxySettings(), frozenset({stopping} if stopping else ()), problems,
        )  # fmt: skip


class Request:
    """What a Relay is to a Switchboard."""

    def __init__(self, ticket: int, served: Served) -> None:
        self.ticket = ticket
        self.served: Served | None = served
        self.is_waiting = True
        self.endpoint = endpoint_of(b"/v1/chat/completions")
        self.events: list[str] = []
        self.heard = asyncio.Event()

    def _hears(self, what: str) -> None:
        self.events.append(what)
        self.heard.set()

    def admitted(self) -> None:
        self.is_waiting = False
        self._hears("admitted")

    def seated(self, served: Served) -> None:
        raise AssertionError(served)

    def conversation(self) -> Keys:
        return ()

    def refuse(self, trouble: Trouble) -> None:
        self._hears(trouble.kind)

    def lost(self, why: str) -> None:
        self._hears(f"lost: {why}")


class Deaf(Untold):
    """Nobody wants to know of switches."""

    def switching(self, model: str) -> None:
        pass

    def switched(self, model: str, seconds: float, *, why: str | None = None) -> None:
        pass

    def restarting(self, model: str, trouble: Trouble) -> None:
        pass


class Scene:
    def __init__(self) -> None:
        self.box = Box()
        self.requests: dict[int, Waiting] = {}
        self.board = Switchboard(self.box, self.requests, lambda: 0.0, Deaf())

    def asks(self, served: Served) -> Request:
        made = Request(len(self.requests), served)
        self.requests[made.ticket] = made
        self.board.arrive(made, served, since=None)
        return made


def run(test: Callable[[Scene], Awaitable[None]]) -> None:
    async def bounded() -> None:
        await asyncio.wait_for(test(Scene()), 30)

    asyncio.run(bounded())


def test_a_stop_by_hand_parts_what_is_under_way() -> None:
    async def test(scene: Scene) -> None:
        scene.box.is_now(ready="a")
        await scene.board.look()
        under_way = scene.asks(A)
        scene.box.is_now(stopping="a")
        await scene.board.look()
        assert under_way.events == ["admitted", "lost: it was stopped"]

    run(test)


def test_what_stops_is_not_started_again_before_it_has_ended() -> None:
    async def test(scene: Scene) -> None:
        scene.box.is_now(stopping="a")
        await scene.board.look()
        waiting = scene.asks(A)
        await asyncio.sleep(0)
        assert (waiting.events, scene.box.switches) == ([], [])
        scene.box.is_now()
        await scene.board.look()
        await waiting.heard.wait()
        assert (waiting.events, scene.box.switches) == (["admitted"], ["a"])

    run(test)


def test_what_waited_when_a_model_was_stopped_by_hand_starts_nothing() -> None:
    async def test(scene: Scene) -> None:
        scene.box.is_now(ready="a")
        await scene.board.look()
        under_way = scene.asks(A)
        scene.box.is_now(stopping="a")
        await scene.board.look()
        scene.board.done(A, 0)
        waiting = scene.asks(B)
        scene.box.is_now()
        await scene.board.look()
        await waiting.heard.wait()
        assert under_way.events == ["admitted", "lost: it was stopped"]
        assert (waiting.events, scene.box.switches) == (["stopped"], [])
        after = scene.asks(B)
        await after.heard.wait()
        assert (after.events, scene.box.switches) == (["admitted"], ["b"])

    run(test)


@pytest.mark.parametrize("by_hand", [True, False])
def test_an_off_while_a_model_is_being_started_holds_for_all_that_wait(by_hand: bool) -> None:
    async def test(scene: Scene) -> None:
        class Failing(Box):
            def switch(self, name: str, *, timeout: float, progress: Progress) -> None:
                super().switch(name, timeout=timeout, progress=progress)
                if name == "a":
                    raise TakenDownError("no") if by_hand else NothingRunsError("no")

        scene.box = Failing()
        scene.box.may_end.clear()
        scene.board = Switchboard(scene.box, scene.requests, lambda: 0.0, Deaf())
        await scene.board.look()
        first, second = scene.asks(A), scene.asks(B)
        scene.box.may_end.set()
        await first.heard.wait()
        await second.heard.wait()
        assert first.events == (["stopped"] if by_hand else ["switch_failed"])
        expected = (["stopped"], ["a"]) if by_hand else (["admitted"], ["a", "b"])
        assert (second.events, scene.box.switches) == expected

    run(test)


def test_a_model_that_was_stopped_while_it_loaded_may_be_started_at_once() -> None:
    """Nothing is wrong with it, so nothing keeps the next request from it."""

    class Stopped(Box):
        def switch(self, name: str, *, timeout: float, progress: Progress) -> None:
            super().switch(name, timeout=timeout, progress=progress)
            if len(self.switches) == 1:
                raise TakenDownError("a is not running: it was stopped.")

    async def test(scene: Scene) -> None:
        scene.box = Stopped()
        scene.board = Switchboard(scene.box, scene.requests, lambda: 0.0, Deaf())
        await scene.board.look()
        first = scene.asks(A)
        await first.heard.wait()
        assert (first.events, scene.box.switches) == (["stopped"], ["a"])
        later = scene.asks(A)
        await later.heard.wait()
        assert (later.events, scene.box.switches) == (["admitted"], ["a", "a"])

    run(test)


def test_who_waits_for_the_model_that_somebody_starts_goes_ahead_with_it() -> None:
    """The engine joins that start: it knows how far it is, and what goes wrong."""

    async def test(scene: Scene) -> None:
        scene.box.may_end.clear()
        scene.box.is_now(coming="b", stopping="a")
        await scene.board.look()
        waiting = scene.asks(B)
        await asyncio.sleep(0)
        assert (waiting.events, scene.box.switches) == ([], [])
        scene.box.is_now(coming="b")
        await scene.board.look()
        assert waiting.events == []
        scene.box.may_end.set()
        await waiting.heard.wait()
        assert (waiting.events, scene.box.switches) == (["admitted"], ["b"])

    run(test)


def test_who_waits_for_a_model_that_had_to_make_way_goes_on_waiting() -> None:
    """Somebody switched to b by hand while a was loading: a has not failed."""

    class Contended(Box):
        def switch(self, name: str, *, timeout: float, progress: Progress) -> None:
            super().switch(name, timeout=timeout, progress=progress)
            if len(self.switches) == 1:
                self.is_now(coming="b")
                raise DisplacedError("a was displaced by b")

    async def test(scene: Scene) -> None:
        scene.box = Contended()
        scene.board = Switchboard(scene.box, scene.requests, lambda: 0.0, Deaf())
        await scene.board.look()
        first, later = scene.asks(A), scene.asks(B)
        await until(lambda: no_switch(scene))
        assert (scene.box.switches, first.events) == (["a"], [])
        scene.box.is_now(ready="b")
        await scene.board.look()
        assert (later.events, first.events) == (["admitted"], [])
        assert scene.asks(A).events == []  # and no refusal for what is no failure
        scene.board.done(B, 0)
        await first.heard.wait()
        assert (scene.box.switches, first.events) == (["a", "a"], ["admitted"])

    async def no_switch(scene: Scene) -> bool:
        return scene.board.queues["gpu"].switching is None

    run(test)


def test_what_made_way_for_no_model_of_ours_has_failed() -> None:
    """A unit that the proxy does not serve has the box: it would be stopped again at once."""

    class Displaced(Box):
        def switch(self, name: str, *, timeout: float, progress: Progress) -> None:
            super().switch(name, timeout=timeout, progress=progress)
            raise DisplacedError("a was displaced by ollama.service")

    async def test(scene: Scene) -> None:
        scene.board = Switchboard(Displaced(), scene.requests, lambda: 0.0, Deaf())
        await scene.board.look()
        waiting = scene.asks(A)
        await waiting.heard.wait()
        assert waiting.events == ["switch_failed"]

    run(test)


def test_who_names_no_model_waits_for_the_one_that_is_coming() -> None:
    async def test(scene: Scene) -> None:
        scene.box.is_now(coming="b")
        await scene.board.look()
        assert route(scene.board.table, model=None, forced=None, rules=Rules()) == B

    run(test)


def test_what_cannot_be_seen_stays_as_it_was_and_is_told_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def test(scene: Scene) -> None:
        scene.box.is_now(ready="a", problems=("b.yaml: wrong",))
        for _ in range(3):
            await scene.board.look()
        scene.box.blind = "systemd does not answer"
        for _ in range(3):
            await scene.board.look()
        assert scene.asks(A).events == ["admitted"]
        assert scene.board.problem == "systemd does not answer"
        assert scene.board.problems == ("b.yaml: wrong",)
        scene.box.blind = None
        scene.box.is_now(ready="a")
        await scene.board.look()

    run(test)
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if line.startswith("llmctl-proxy:")] == [
        "llmctl-proxy: b.yaml: wrong",
        "llmctl-proxy: systemd does not answer",
        "llmctl-proxy: All is well again.",
    ]


def test_a_reload_forgets_what_failed() -> None:
    async def test(scene: Scene) -> None:
        class Failing(Box):
            def switch(self, name: str, *, timeout: float, progress: Progress) -> None:
                super().switch(name, timeout=timeout, progress=progress)
                raise HostError("no")

        scene.box = Failing()
        scene.board = Switchboard(scene.box, scene.requests, lambda: 0.0, Deaf())
        await scene.board.look()
        first = scene.asks(A)
        await first.heard.wait()
        assert scene.asks(A).events == ["switch_failed"]
        assert scene.box.switches == ["a"]
        scene.board.reload()
        second = scene.asks(A)
        await second.heard.wait()
        assert scene.box.switches == ["a", "a"]

    run(test)
