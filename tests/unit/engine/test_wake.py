"""engine/wake.py: who sends, how often, and when there is no hope."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.fakes import FakeClock, FakeHost, Output

from llmctl.core.hosts import HostEntry
from llmctl.core.wake import magic_packet
from llmctl.engine.wake import REFUSALS_S, SEND_EVERY_S, sender, wake
from llmctl.errors import HostError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmctl.core.progress import Event

MAC = "a8:a1:59:00:12:34"
ENTRY = HostEntry(ssh="llm@big", mac=MAC, broadcast="192.168.1.255")
OFF = UnreachableError("nobody answers at big:22.")
REFUSED = HostError("big takes none of your keys.")


class Scene:
    """A box that answers `reach` as `says` has it, by the time since the start."""

    def __init__(self, says: Callable[[float], HostError | None], *, connecting_s: float = 0.0):
        self.clock = FakeClock()
        self.sent: list[float] = []
        self.events: list[Event] = []
        self._says, self._connecting_s = says, connecting_s
        self._began = self.clock.now()

    @property
    def now(self) -> float:
        return self.clock.now() - self._began

    def _reach(self) -> None:
        self.clock.sleep(self._connecting_s)
        error = self._says(self.now)
        if error is not None:
            raise error

    def wake(self, *, timeout: float = 120) -> float:
        return wake(
            "big", send=lambda: self.sent.append(self.now), reach=self._reach, clock=self.clock,
            report=self.events.append, timeout=timeout,
        )  # fmt: skip


def test_a_box_that_is_awake_is_sent_one_packet() -> None:
    scene = Scene(lambda _: None)
    assert scene.wake() == 0
    assert scene.sent == [0]
    assert scene.events == []


def test_packets_go_on_until_it_answers() -> None:
    scene = Scene(lambda now: OFF if now < 12 else None)
    assert scene.wake() == 12
    assert scene.sent == [0, SEND_EVERY_S, 2 * SEND_EVERY_S]


def test_connecting_may_take_its_time() -> None:
    scene = Scene(lambda now: OFF if now < 30 else None, connecting_s=10)
    assert scene.wake() == 32
    assert scene.sent == [0, 11, 22]


def test_a_box_that_stays_asleep_is_told_with_what_to_look_at() -> None:
    scene = Scene(lambda _: OFF)
    with pytest.raises(HostError, match=r"big did not wake within 60 s: nobody answers") as caught:
        scene.wake(timeout=60)
    assert "ethtool" in (caught.value.hint or "")
    assert scene.now == 60


def test_a_box_that_will_not_have_us_is_not_waited_for() -> None:
    scene = Scene(lambda now: OFF if now < 10 else REFUSED)
    with pytest.raises(HostError, match="takes none of your keys"):
        scene.wake()
    assert scene.now == 10 + REFUSALS_S


def test_a_box_that_boots_refuses_for_a_while() -> None:
    def says(now: float) -> HostError | None:
        return OFF if now < 10 else REFUSED if now < 20 else None

    assert Scene(says).wake() == 20


def test_refusals_are_counted_from_the_last_time_it_was_gone() -> None:
    def says(now: float) -> HostError | None:
        return REFUSED if now % 20 < 10 else OFF

    scene = Scene(says)
    with pytest.raises(HostError, match="did not wake within 100 s"):
        scene.wake(timeout=100)


def test_without_an_address_there_is_nothing_to_send() -> None:
    with pytest.raises(HostError, match="which network card of big") as caught:
        sender("big", HostEntry(ssh="big"), via=None)
    assert caught.value.hint
    assert "llmctl host add big --mac" in caught.value.hint


@pytest.mark.parametrize(("there", "used"), [(("python3", "perl"), "python3"), (("perl",), "perl")])
def test_another_machine_sends_with_what_it_has(there: tuple[str, ...], used: str) -> None:
    via = FakeHost(name="raspi")
    for program in there:
        via.install(f"/usr/bin/{program}", lambda _: Output())
    sender("big", ENTRY, via=via)()
    (argv,) = via.calls
    assert argv[0] == used
    assert argv[-3:] == (magic_packet(MAC).hex(), "192.168.1.255", "9")


def test_another_machine_that_has_nothing_to_send_with() -> None:
    with pytest.raises(HostError, match="raspi cannot send a magic packet"):
        sender("big", ENTRY, via=FakeHost(name="raspi"))


def test_another_machine_that_fails_says_why() -> None:
    via = FakeHost(name="raspi")
    said = "Traceback ...\nOSError: [Errno 101] Network is unreachable\n"
    via.install("/usr/bin/python3", lambda _: Output(stderr=said, status=1))
    with pytest.raises(HostError, match=r"raspi could not send the magic packet: OSError"):
        sender("big", ENTRY, via=via)()
