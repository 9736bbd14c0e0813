"""recovery.py and gpu_watch.py: servers that do not get on, and what the kernel says of GPUs."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace
from support.alone import Alone
from support.asking import until
from support.untold import Untold

from llmctl.core.gpu_reports import GpuReport, dump_report
from llmctl.core.proxy_settings import ProxySettings
from llmctl.core.state import State
from llmctl.errors import HostError, LlmctlError, TakenDownError
from llmctl.proxy.dialect import Trouble, endpoint_of
from llmctl.proxy.hangs import stalled
from llmctl.proxy.keeper import Progress, Seen
from llmctl.proxy.routing import Served
from llmctl.proxy.switchboard import Switchboard

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from llmctl.proxy.affinity import Keys
    from llmctl.proxy.parties import Waiting

A = Served(name="a", group="gpu", port=12340, state=State.READY, pid=7)
B = Served(name="b", group="gpu", port=12340)
SILENT = replace(A, state=State.LOADING)
XID = GpuReport("xid", "NVIDIA Xid 79 (it has fallen off the bus)", "0000:01:00", at=100.0)
DUMP = dump_report("devcd3", "amdgpu", "0000:03:00.0")
HUNG = Trouble(502, "hung", "a has not answered for 30s and is restarted.")


class Box(Alone):
    """A Keeper. seen: what a look sees; log: what the kernel has said; done: what it was told."""

    def __init__(self) -> None:
        self.seen = Seen((A, B), {"gpu": "a"}, {}, ProxySettings())
        self.log: list[GpuReport] = []
        self.reads = 0
        self.done: list[str] = []
        self.fails = False
        self.may_end = threading.Event()
        self.ends_with: LlmctlError | None = None

    def look(self) -> Seen:
        return self.seen

    def switch(self, name: str, *, timeout: float, progress: Progress) -> None:
        del timeout, progress
        self._does(f"switch {name}")
        assert self.may_end.wait(20)
        if self.ends_with is not None:
            raise self.ends_with

    def _does(self, what: str) -> None:
        self.done.append(what)
        if self.fails:
            raise HostError(f"{what} failed.")

    def restart(self, name: str) -> None:
        self._does(f"restart {name}")

    def unload(self, names: tuple[str, ...]) -> None:
        self._does(f"unload {','.join(names)}")

    def gpu_reports(self) -> tuple[GpuReport, ...]:
        self.reads += 1
        return tuple(self.log)

    def has(self, ready: Served, **more: Any) -> None:
        """What the next look sees of a."""
        active = {"gpu": "a"} if ready.state is State.READY else {}
        coming = {"gpu": "a"} if ready.state is State.LOADING else {}
        self.seen = Seen((ready, B), active, coming, ProxySettings(), **more)


class Request:
    """One that a works on, or that waits for it."""

    endpoint = endpoint_of(b"/v1/chat/completions")

    def __init__(self, scene: Scene, *, waits: bool) -> None:
        self.scene, self.is_waiting = scene, waits
        self.ticket = len(scene.requests) + 1
        self.served: Served | None = A
        self.refused: list[Trouble] = []
        scene.requests[self.ticket] = self

    def admitted(self) -> None:
        self.is_waiting = False

    def seated(self, served: Served) -> None:
        self.served = served

    def conversation(self) -> Keys:
        return ()

    def refuse(self, trouble: Trouble) -> None:
        self.refused.append(trouble)
        del self.scene.requests[self.ticket]

    def lost(self, why: str) -> None:
        raise AssertionError(why)


class Scene(Untold):
    """A board, its box, and what it told. `now` is the test's."""

    def __init__(self) -> None:
        self.box, self.now = Box(), 100.0
        self.requests: dict[int, Waiting] = {}
        self.told: list[str] = []
        self.board = Switchboard(self.box, self.requests, lambda: self.now, self)

    def switching(self, model: str) -> None:
        self.told.append(f"switching {model}")

    def switched(self, model: str, seconds: float, *, why: str | None = None) -> None:
        assert seconds >= 0
        self.told.append(f"switched {model}: {why}")

    def restarting(self, model: str, trouble: Trouble) -> None:
        self.told.append(f"restarting {model}: {trouble.message}")

    def given_up(self, model: str, trouble: Trouble) -> None:
        self.told.append(f"given up {model}: {trouble.message}")

    def gpu(self, report: GpuReport, model: str | None) -> None:
        self.told.append(f"gpu {report.kind} {model}")

    async def looks(self, after: float = 0.0) -> None:
        self.now += after
        await self.board.look()

    async def has_done(self, *what: str) -> None:
        async def is_done() -> bool:
            return self.box.done == list(what)

        await until(is_done)

    async def has_told(self, *what: str) -> None:
        async def is_told() -> bool:
            return self.told == list(what)

        await until(is_told)

    async def has_read(self, times: int) -> None:
        async def is_read() -> bool:
            return self.box.reads == times and not self.board.recovery.gpus._is_reading

        await until(is_read)


def run(play: Callable[[Scene], Awaitable[None]]) -> None:
    async def whole() -> None:
        scene = Scene()
        await scene.looks()
        await asyncio.wait_for(play(scene), 60)

    asyncio.run(whole())


def test_one_that_hangs_again_and_again_is_stopped() -> None:
    """Three restarts within half an hour, then the end; who asks for it is told so."""

    async def play(scene: Scene) -> None:
        for number in range(3):
            scene.board.recovery.restart(A, HUNG)
            await scene.has_done(*["restart a"] * (number + 1))
            await scene.looks(60.0)
        restarted = ["restart a"] * 3
        works, waits = Request(scene, waits=False), Request(scene, waits=True)
        scene.box.has(SILENT)
        await scene.looks()
        scene.board.arrive(waits, A, since=None)
        await scene.has_done(*restarted, "switch a")
        scene.board.recovery.restart(A, HUNG)
        await scene.has_done(*restarted, "switch a", "unload a")
        assert [trouble.kind for trouble in works.refused] == ["given_up"]
        scene.box.has(replace(A, state=State.STOPPED, pid=0))
        scene.box.ends_with = TakenDownError("a was stopped.")
        scene.box.may_end.set()

        async def is_refused() -> object:
            return waits.refused

        await until(is_refused)
        assert [trouble.kind for trouble in waits.refused] == ["given_up"]
        assert scene.told[-2] == (
            "given up a: a has not answered for 30s. After 3 restarts it is stopped, and no "
            "request starts it for 27 min. Type: llmctl switch a"
        )
        await scene.looks()
        late = Request(scene, waits=True)
        scene.board.arrive(late, A, since=None)
        assert [trouble.kind for trouble in late.refused] == ["given_up"]
        scene.now, scene.box.ends_with = scene.now + 1700, None
        again = Request(scene, waits=True)
        scene.board.arrive(again, A, since=None)
        assert again.refused == []
        await scene.has_told(*scene.told[:6], "switching a", "switched a: None")

    run(play)


def test_a_change_of_the_configuration_starts_anew() -> None:
    async def play(scene: Scene) -> None:
        for _ in range(3):
            scene.board.recovery.restart(A, HUNG)
        scene.board.reload()
        scene.board.recovery.restart(A, HUNG)
        await scene.has_done(*["restart a"] * 4)

    run(play)


def test_a_restart_that_fails_is_a_problem() -> None:
    async def play(scene: Scene) -> None:
        scene.box.fails = True
        scene.board.recovery.restart(A, HUNG)
        await scene.has_done("restart a")

        async def is_said() -> bool:
            return scene.board.problem == "restart a failed."

        await until(is_said)

    run(play)


def test_one_that_fell_silent_before_a_look_saw_it_answer() -> None:
    """Its start was ours, so which process answered is known."""

    async def play(scene: Scene) -> None:
        scene.box.has(replace(SILENT, pid=9), made={"a": 9})
        await scene.looks(1.0)
        await scene.looks(29.0)
        assert scene.box.done == []
        await scene.looks(1.5)
        await scene.has_done("restart a")

    run(play)


# GPUs


def test_a_dump_is_told_once_and_the_log_is_read() -> None:
    async def play(scene: Scene) -> None:
        scene.box.log = [replace(XID, at=99.0), replace(XID, at=104.0, pid=7)]
        scene.box.has(A, dumps=(DUMP,))
        await scene.looks(5.0)
        await scene.has_told("gpu dump None", "gpu xid a")
        await scene.looks(5.0)
        await scene.looks(5.0)
        assert scene.told == ["gpu dump None", "gpu xid a"]
        assert scene.box.reads == 1
        facts = scene.board.recovery.gpus.facts()
        assert [(one["kind"], one["pid"], one["age_s"]) for one in facts] == [
            ("xid", 7, 11.0), ("dump", None, 10.0),
        ]  # fmt: skip
        (dump, xid) = scene.board.recovery.gpus.problems()
        assert "amdgpu gave up a job and left a dump (devcd3) on 0000:03:00.0" in dump
        assert "NVIDIA Xid 79" in xid
        scene.now += 600.0
        assert scene.board.recovery.gpus.problems() == []

    run(play)


def test_what_lay_there_before_is_no_news() -> None:
    async def play(scene: Scene) -> None:
        scene.board.recovery.gpus._dumps = None  # as at the first look
        scene.box.has(A, dumps=(DUMP,))
        await scene.looks()
        await scene.looks(5.0)
        assert scene.told == []

    run(play)


@pytest.mark.parametrize("then", [SILENT, replace(A, pid=8), replace(A, state=State.FAILED, pid=0)])
def test_a_server_that_dies_or_falls_silent_is_reason_to_read_the_log(then: Served) -> None:
    async def play(scene: Scene) -> None:
        scene.box.log = [replace(XID, at=103.0)]
        scene.box.has(then)
        await scene.looks(5.0)
        await scene.has_told("gpu xid None")
        await scene.has_read(1)

    run(play)


def test_the_log_is_not_read_all_the_time() -> None:
    async def play(scene: Scene) -> None:
        gpus = scene.board.recovery.gpus
        gpus.suspect()
        gpus.suspect()
        await scene.has_read(1)
        scene.now += 4.0
        gpus.suspect()
        gpus.works()
        assert scene.box.reads == 1
        scene.now += 2.0
        gpus.suspect()
        await scene.has_read(2)
        scene.now += 59.0
        gpus.works()
        assert scene.box.reads == 2
        scene.now += 2.0
        gpus.works()
        await scene.has_read(3)

    run(play)


@pytest.mark.parametrize(
    ("report", "limit"),
    [
        (replace(XID, at=101.0, pid=7), 30.0),
        (replace(XID, at=101.0), 30.0),
        (replace(XID, at=101.0, pid=8), 600.0),
    ],
)
def test_a_gpu_that_failed_makes_a_stall_certain_sooner(report: GpuReport, limit: float) -> None:
    async def play(scene: Scene) -> None:
        recovery = scene.board.recovery
        assert recovery.stall_limit(A) == (600.0, "10m")
        scene.now, scene.box.log = 102.0, [report]
        recovery.gpus.suspect()
        await scene.has_read(1)
        assert recovery.stall_limit(A)[0] == limit
        scene.now += 600.0
        assert recovery.stall_limit(A)[0] == 600.0

    run(play)


def test_what_the_process_before_suffered_says_nothing_of_this_one() -> None:
    async def play(scene: Scene) -> None:
        recovery = scene.board.recovery
        scene.now, scene.box.log = 102.0, [replace(XID, at=101.0)]
        recovery.gpus.suspect()
        await scene.has_read(1)
        new = replace(A, pid=8)
        assert recovery.stall_limit(new)[0] == 600.0, "it was not seen yet"
        scene.box.has(new)
        await scene.looks(5.0)
        assert recovery.stall_limit(new)[0] == 600.0

    run(play)


def test_clients_are_told_what_the_kernel_says() -> None:
    async def play(scene: Scene) -> None:
        scene.now, scene.box.log = 102.0, [replace(XID, at=101.0, pid=7, process="llama-server")]
        scene.board.recovery.gpus.suspect()
        await scene.has_read(1)
        works = Request(scene, waits=False)
        scene.board.recovery.restart(A, stalled("a", "30s"))
        (trouble,) = works.refused
        assert trouble.message == (
            "a has not got on with what it works on for 30s and is restarted. The kernel reports "
            "of its GPU: NVIDIA Xid 79 (it has fallen off the bus) on 0000:01:00, at work for "
            "llama-server 7."
        )
        await scene.has_done("restart a")

    run(play)
