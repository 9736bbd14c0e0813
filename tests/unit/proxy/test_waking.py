"""proxy/waking.py: the machine woke up."""

from __future__ import annotations

import asyncio
import threading

import pytest

from llmctl.errors import HostError
from llmctl.proxy.waking import Waking


class Machine:
    """Sleeps when it is told to, and counts."""

    def __init__(self, *, dead: tuple[str, ...] = (), fault: str = "") -> None:
        self.slept: float | None = 100.0
        self.dead, self.fault, self.looks = dead, fault, 0

    def look_after(self) -> tuple[str, ...]:
        self.looks += 1
        if self.fault:
            raise HostError(self.fault)
        return self.dead

    def waking(self) -> Waking:
        return Waking(lambda: self.slept, self.look_after)


def test_each_sleep_is_noticed_once() -> None:
    machine = Machine()
    waking = machine.waking()
    assert not waking.has_slept()  # what was slept before it began is nothing new
    machine.slept = 160.0
    assert waking.has_slept()
    assert not waking.has_slept()
    machine.slept = 163.0
    assert not waking.has_slept()
    machine.slept = 166.0
    assert waking.has_slept()


def test_where_nobody_counts_nothing_is_noticed() -> None:
    machine = Machine()
    machine.slept = None
    waking = machine.waking()
    assert not waking.has_slept()


@pytest.mark.parametrize(
    ("machine", "said"),
    [
        (Machine(), ""),
        (Machine(dead=("a", "b@2")), "a did not survive the machine's sleep, and is restarted"),
        (Machine(fault="no bus."), "was not found out: no bus."),
    ],
)
def test_what_was_done_is_in_the_journal(
    machine: Machine, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    asyncio.run(machine.waking().see_to_it())
    assert machine.looks == 1
    told = capsys.readouterr().err
    assert said in told
    assert bool(said) == bool(told)


def test_a_machine_that_wakes_is_looked_after() -> None:
    machine = Machine()
    looked = threading.Event()

    def look_after() -> tuple[str, ...]:
        looked.set()
        return machine.look_after()

    async def scene() -> None:
        waking = Waking(lambda: machine.slept, look_after, look_s=0.0, settle_s=0.0)
        watch = asyncio.create_task(waking.watch())
        await asyncio.sleep(0)
        assert machine.looks == 0
        machine.slept = 200.0
        assert await asyncio.to_thread(looked.wait, 20)
        watch.cancel()

    asyncio.run(scene())
