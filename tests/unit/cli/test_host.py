"""cli/host.py: `llmctl host add`, `list`, `remove`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from support.fakes import FakeHost

from llmctl.cli.host import offer
from llmctl.errors import HostError, ProfileError, UsageError
from llmctl.store.hosts import HostsFile

if TYPE_CHECKING:
    from support.commandline import CommandLine

PEERS = json.dumps({
    "CurrentTailnet": {"MagicDNSEnabled": True},
    "Peer": {
        "a": {"DNSName": "big.ts.net.", "OS": "linux", "TailscaleIPs": ["100.64.0.9"],
              "Online": True, "sshHostKeys": ["ssh-ed25519 AAAA"]},
        "b": {"DNSName": "phone.ts.net.", "OS": "iOS", "TailscaleIPs": ["100.64.0.8"]},
    },
})  # fmt: skip


def tailscale(llmctl: CommandLine, told: str = PEERS) -> None:
    llmctl.program("tailscale", f"cat <<'END'\n{told}\nEND")


def boxes(llmctl: CommandLine) -> list[dict[str, object]]:
    found: list[dict[str, object]] = llmctl("host", "list", "--json").json
    return found


def test_a_box_is_added_listed_and_removed(llmctl: CommandLine) -> None:
    said = llmctl("host", "add", "big", "llm@10.0.0.9", "--mac", "00:11:22:33:44:55")
    path = llmctl.config_dir / "hosts.yaml"
    assert said.stdout == f"big is llm@10.0.0.9, in {path}\n"
    assert said.stderr == "hint: llmctl host check big\n"
    assert boxes(llmctl) == [
        {"name": "big", "ssh": "llm@10.0.0.9", "mac": "00:11:22:33:44:55", "via": None,
         "broadcast": None, "notes": ""}
    ]  # fmt: skip
    assert llmctl("host", "list").stdout.splitlines()[1].split() == [
        "big", "llm@10.0.0.9", "00:11:22:33:44:55", "-", "-",
    ]  # fmt: skip
    assert llmctl("host", "remove", "big").stdout == f"removed big from {path}\n"
    assert boxes(llmctl) == []


def test_a_name_alone_is_what_ssh_knows(llmctl: CommandLine) -> None:
    assert llmctl("host", "add", "closet", "--json").json["ssh"] == "closet"


def test_a_name_alone_may_be_a_machine_of_the_tailnet(llmctl: CommandLine) -> None:
    tailscale(llmctl, PEERS.replace("true", "false", 1))  # without MagicDNS
    assert llmctl("host", "add", "big", "--json").json["ssh"] == "100.64.0.9"


def test_a_tailscale_that_fails_is_no_reason_to_refuse_a_box(llmctl: CommandLine) -> None:
    tailscale(llmctl, "stopped")
    assert llmctl("host", "add", "big", "--json").json["ssh"] == "big"


def test_adding_a_box_again_changes_what_is_said_and_keeps_the_rest(llmctl: CommandLine) -> None:
    llmctl("host", "add", "big", "llm@big", "--notes", "two cards")
    said = llmctl("host", "add", "big", "--via", "raspi", "--json").json
    assert said == boxes(llmctl)[0]
    assert (said["ssh"], said["via"], said["notes"]) == ("llm@big", "raspi", "two cards")


def test_the_machines_of_the_tailnet_are_offered(llmctl: CommandLine) -> None:
    tailscale(llmctl)
    said = llmctl("host", "add")
    assert [row.split() for row in said.stdout.splitlines()] == [
        ["NAME", "ADDRESS", "OS", "ONLINE", "SSH", "BOX"],
        ["big", "100.64.0.9", "linux", "yes", "tailscale", "-"],
        ["phone", "100.64.0.8", "iOS", "no", "-", "-"],
    ]
    assert said.stderr == "hint: llmctl host add big\n"


@pytest.mark.parametrize("destination", ["llm@big", "100.64.0.9"])
def test_a_machine_that_is_a_box_already_is_told_as_such(
    llmctl: CommandLine, destination: str
) -> None:
    tailscale(llmctl)
    llmctl("host", "add", "closet", destination)
    assert [one["box"] for one in llmctl("host", "add", "--json").json] == ["closet", None]
    assert llmctl("host", "add").stderr == "hint: llmctl host add phone\n"


def test_without_tailscale_a_box_must_be_named() -> None:
    with pytest.raises(UsageError) as caught:
        offer(HostsFile(FakeHost()), None, as_json=False)
    assert caught.value.hint == "llmctl host add BOX [USER@]HOST"


def test_a_tailscale_that_fails_says_why(llmctl: CommandLine) -> None:
    llmctl.program("tailscale", "echo 'not logged in' >&2; exit 1")
    said = llmctl("host", "add")
    assert said.status == HostError.exit_status
    assert "tailscale lists no machines: not logged in" in said.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["local", "x"], "boxes.local: local is the machine"),
        (["Big", "x"], "boxes.Big: expected a name of small letters"),
        (["big", "--mac", "12"], "boxes.big.mac: expected six pairs"),
    ],
)
def test_what_is_wrong_is_refused_and_nothing_written(
    llmctl: CommandLine, words: list[str], told: str
) -> None:
    said = llmctl("host", "add", *words)
    assert said.status == ProfileError.exit_status
    assert told in said.stderr
    assert not (llmctl.config_dir / "hosts.yaml").exists()


def test_a_box_that_is_not_there_cannot_be_removed(llmctl: CommandLine) -> None:
    llmctl("host", "add", "big")
    said = llmctl("host", "remove", "small")
    assert said.status == UsageError.exit_status
    assert "hint: There is big." in said.stderr


def test_no_boxes_say_how_to_add_one(llmctl: CommandLine) -> None:
    assert "hint: llmctl host add BOX" in llmctl("host", "list").stderr


def test_a_box_that_cannot_be_reached_is_not_checked(llmctl: CommandLine) -> None:
    llmctl("host", "add", "big", "ssh://127.0.0.1:1")  # nobody listens on tcpmux
    said = llmctl("host", "check", "big")
    assert said.status == HostError.exit_status
    assert "refuses connections on 127.0.0.1:1" in said.stderr


def test_this_machine_is_for_the_doctor(llmctl: CommandLine) -> None:
    said = llmctl("host", "check", "local")
    assert said.status == UsageError.exit_status
    assert "hint: llmctl doctor" in said.stderr
