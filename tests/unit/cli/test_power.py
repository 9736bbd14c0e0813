"""cli/power.py: `llmctl wake` and `llmctl sleep`, as people and scripts read them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from llmctl.cli.power import _facts
from llmctl.engine.sleep import Asleep, Card

if TYPE_CHECKING:
    from support.commandline import CommandLine

CARD = Card("eth0", "a8:a1:59:00:12:34", "disabled")


@pytest.fixture
def sleepy(llmctl: CommandLine) -> CommandLine:
    """This machine may suspend; its systemctl is a stub that knows no unit."""
    llmctl.program("busctl", "echo 's \"yes\"'")
    return llmctl


def test_a_machine_that_goes_to_sleep_says_so(sleepy: CommandLine) -> None:
    said = sleepy("sleep")
    assert said.status == 0
    assert said.stdout == "local goes to sleep\n"


def test_sleep_as_json(sleepy: CommandLine) -> None:
    said = sleepy("sleep", "--json")
    assert said.status == 0
    assert said.json["stopped"] == []
    assert set(said.json) == {"box", "stopped", "can_be_woken", "cards"}


def test_cards_are_told_without_what_sysfs_calls_them() -> None:
    assert _facts("big", Asleep(("a",), (CARD,))) == {
        "box": "big", "stopped": ["a"], "can_be_woken": False,
        "cards": [{"name": "eth0", "mac": "a8:a1:59:00:12:34"}],
    }  # fmt: skip


def test_who_may_not_suspend_is_told_what_to_type(llmctl: CommandLine) -> None:
    llmctl.program("busctl", "exit 1")
    llmctl.program("sudo", "exit 1")
    said = llmctl("sleep")
    assert said.status == 5
    assert "error: ana may not suspend local." in said.stderr
    assert "ana ALL=(root) NOPASSWD: " in said.stderr


def test_only_a_box_of_hosts_yaml_can_be_woken(llmctl: CommandLine) -> None:
    said = llmctl("wake", "big")
    assert said.status == 2
    assert "there is no box big" in said.stderr
    assert "llmctl host add big [USER@]HOST --mac ADDRESS" in said.stderr


def test_a_box_without_a_card_address_cannot_be_woken(llmctl: CommandLine) -> None:
    llmctl("host", "add", "big", "llm@127.0.0.1:1")
    said = llmctl("wake", "big")
    assert said.status == 5
    assert "hosts.yaml does not say which network card of big wakes it." in said.stderr


def test_a_box_that_does_not_wake_ends_with_status_5(llmctl: CommandLine) -> None:
    llmctl("host", "add", "big", "llm@127.0.0.1:1", "--mac", CARD.mac, "--broadcast", "127.0.0.1")
    said = llmctl("wake", "big", "--timeout", "1", "--json")
    assert said.status == 5
    assert said.json["error"]["message"].startswith("big did not wake within 1 s: ")
