"""engine/sleep.py: who may suspend a box, what is stopped first, and how it is known to sleep."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.fakes import Output
from support.world import World

from llmctl.engine.sleep import Asleep, network_cards, put_to_sleep, way_to_suspend
from llmctl.errors import HostError

if TYPE_CHECKING:
    from collections.abc import Sequence

A = "llm-a.service"
SUDO = ("sudo", "-n", "/usr/bin/systemctl", "suspend")


class Sleeper(World):
    """A box that can suspend. can: logind's word. sudo: it may by sudo. says: what suspending it
    comes to; `Output(takes_s=1e9)`: the answer is lost with the network."""

    def __init__(self, *, can: str = "yes", sudo: bool = False) -> None:
        super().__init__()
        self.says = Output()
        self.suspended: list[tuple[str, ...]] = []
        systemctl = self.host.programs["/usr/bin/systemctl"]

        def suspending(argv: Sequence[str]) -> Output:
            return self._suspend(argv) if argv[-1] == "suspend" else systemctl(argv)

        def by_sudo(argv: Sequence[str]) -> Output:
            return Output(status=0 if sudo else 1) if "-l" in argv else self._suspend(argv)

        self.host.install("/usr/bin/systemctl", suspending)
        self.host.install("/usr/bin/sudo", by_sudo)
        told = f's "{can}"\n' if can else ""
        self.host.install("/usr/bin/busctl", lambda _: Output(told, status=0 if can else 1))
        for name in ("a", "b"):
            self.profile(name, "group: none\nport: 12400\n" if name == "b" else "")
        self.apply()

    def _suspend(self, argv: Sequence[str]) -> Output:
        assert not self.up()
        self.suspended.append(tuple(argv))
        return self.says

    def put_to_sleep(self) -> Asleep:
        return put_to_sleep(self.box, clock=self.clock, report=lambda _: None)


def test_models_are_stopped_before_it_sleeps_residents_too() -> None:
    box = Sleeper()
    box.start(A)
    box.start("llm-b.service")
    assert box.put_to_sleep().stopped == ("a", "b")
    assert box.suspended == [("systemctl", "suspend")]


def test_nothing_need_run() -> None:
    box = Sleeper()
    assert box.put_to_sleep().stopped == ()
    assert box.suspended


def test_a_connection_that_goes_with_the_network_is_what_was_wanted() -> None:
    box = Sleeper()
    box.says = Output(takes_s=1e9)
    box.put_to_sleep()
    assert box.suspended


@pytest.mark.parametrize("can", ["challenge", "no", ""])
def test_who_may_not_ask_logind_takes_sudo(can: str) -> None:
    box = Sleeper(can=can, sudo=True)
    box.put_to_sleep()
    assert box.suspended == [SUDO]


@pytest.mark.parametrize("can", ["challenge", ""])
def test_who_may_not_at_all_is_told_what_to_type_and_nothing_is_stopped(can: str) -> None:
    box = Sleeper(can=can)
    box.start(A)
    with pytest.raises(HostError, match="ana may not suspend box") as caught:
        box.put_to_sleep()
    rule = "echo 'ana ALL=(root) NOPASSWD: /usr/bin/systemctl suspend' | sudo tee /etc/sudoers.d/"
    assert rule in (caught.value.hint or "")
    assert box.up() == [A]


def test_a_box_that_cannot_suspend_keeps_its_models() -> None:
    box = Sleeper(can="na")
    box.start(A)
    with pytest.raises(HostError, match="box cannot suspend"):
        box.put_to_sleep()
    assert box.up() == [A]


def test_without_busctl_and_sudo_it_is_the_same_as_not_being_allowed() -> None:
    box = Sleeper()
    box.host.remove("/usr/bin/busctl")
    box.host.remove("/usr/bin/sudo")
    with pytest.raises(HostError, match="may not suspend"):
        way_to_suspend(box.box)


def test_a_box_that_refuses_says_why() -> None:
    box = Sleeper()
    said = 'Operation inhibited by "ana" (PID 7 "apt"), reason is "upgrade".\n'
    box.says = Output(stderr=said, status=1)
    with pytest.raises(HostError, match="box does not sleep: Operation inhibited by") as caught:
        box.put_to_sleep()
    assert caught.value.message.endswith("Its models are stopped.")
    assert "systemd-inhibit --list" in (caught.value.hint or "")


@pytest.mark.parametrize(("wakeup", "can"), [("enabled", True), ("disabled", False), (None, None)])
def test_cards_that_are_armed(wakeup: str | None, can: bool | None) -> None:
    box = Sleeper()
    net = "/sys/class/net"
    box.host.put(f"{net}/lo/address", "00:00:00:00:00:00\n")
    box.host.put(f"{net}/eth0/address", "a8:a1:59:00:12:34\n")
    box.host.put(f"{net}/eth0/device/vendor", "0x8086\n")
    if wakeup:
        box.host.put(f"{net}/eth0/device/power/wakeup", f"{wakeup}\n")
    cards = network_cards(box.box)
    assert [(card.name, card.mac) for card in cards] == [("eth0", "a8:a1:59:00:12:34")]
    assert Asleep((), cards).can_be_woken is can
