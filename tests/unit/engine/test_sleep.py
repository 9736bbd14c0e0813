"""engine/sleep.py: who may suspend a box, what is stopped first, and how it is known to sleep."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace
from support.fakes import Output
from support.world import World

from llmctl.core.state import UnitStatus
from llmctl.engine.sleep import SETTLE_S, Asleep, network_cards, put_to_sleep, way_to_suspend
from llmctl.errors import HostError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Sequence

A, SERVICE = "llm-a.service", "llmctl-suspend.service"
SUDO = ("sudo", "-n", "/usr/bin/systemctl", "suspend")


class Sleeper(World):
    """A box that can suspend. can: logind's word. sudo: it may by sudo. fails: what suspending
    says when it fails; inhibited: nothing comes of it; gone: it is out of reach once it sleeps."""

    def __init__(self, *, can: str = "yes", sudo: bool = False) -> None:
        super().__init__()
        self.can, self.fails, self.inhibited, self.gone = can, "", False, False
        self.suspended: list[tuple[str, ...]] = []
        self.host.install("/usr/bin/busctl", lambda _: Output())
        self.host.install("/usr/bin/systemd-run", self._run)
        self.host.install("/usr/bin/sudo", lambda _: Output(status=0 if sudo else 1))
        for name in ("a", "b"):
            self.profile(name, "group: none\nport: 12400\n" if name == "b" else "")
        self.apply()

    def _run(self, argv: Sequence[str]) -> Output:
        words = tuple(argv[argv.index("--") + 1 :])
        if words[0] == "busctl":
            return Output(stdout=f's "{self.can}"\n' if self.can else "", status=0)
        assert f"--unit={SERVICE.removesuffix('.service')}" in argv
        assert not self.up()
        self.shows(SERVICE, UnitStatus(SERVICE, load="loaded"))
        if not self.inhibited:
            self.clock.after(1.0, lambda: self._suspend(words))
        return Output()

    def _suspend(self, words: tuple[str, ...]) -> None:
        if self.fails:
            self.journal[SERVICE] = ["Starting", self.fails]
            failed = UnitStatus(SERVICE, load="loaded", active="failed", sub="failed")
            self.shows(SERVICE, replace(failed, result="exit-code", invocation="7"))
            return
        self.suspended.append(words)
        self.shows(SERVICE, UnitStatus(SERVICE))
        if self.gone:
            self.host.install("/usr/bin/systemctl", self._nobody)

    def _nobody(self, argv: Sequence[str]) -> Output:
        del argv
        raise UnreachableError("the connection to box was lost.")

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
    box.gone = True
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
    box.fails = 'Operation inhibited by "ana" (PID 7 "apt"), reason is "upgrade".'
    with pytest.raises(HostError, match="box does not sleep: Operation inhibited by") as caught:
        box.put_to_sleep()
    assert caught.value.message.endswith("Its models are stopped.")
    assert "systemd-inhibit --list" in (caught.value.hint or "")


def test_a_box_of_which_nothing_is_heard_is_told() -> None:
    box = Sleeper()
    box.inhibited = True
    began = box.clock.now()
    with pytest.raises(HostError, match=f"nothing came of it within {SETTLE_S:g} s"):
        box.put_to_sleep()
    assert box.clock.now() - began >= SETTLE_S


def test_an_earlier_failure_does_not_keep_its_name() -> None:
    box = Sleeper()
    box.shows(SERVICE, UnitStatus(SERVICE, load="loaded", active="failed", sub="failed"))
    box.put_to_sleep()
    assert ("systemctl", "--user", "reset-failed", "--", SERVICE) in box.host.calls


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
