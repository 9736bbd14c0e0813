"""core/aliases.py: what aliases run, and how they are written; tests/contract has real shells."""

from __future__ import annotations

import shlex

import pytest

from llmctl.core.aliases import (
    Shell,
    Ssh,
    is_open,
    proxy_url,
    render,
    taken,
    through_llmctl,
    through_ssh,
)
from llmctl.core.listening import parse_listen

PROFILES = ("coder", "gemma4")


def test_a_box_has_an_alias_for_each_profile_and_each_verb() -> None:
    assert through_llmctl(PROFILES, box="big") == {
        "llcoder": "llmctl switch coder --host big",
        "llgemma4": "llmctl switch gemma4 --host big",
        "lloff": "llmctl off --host big",
        "llstatus": "llmctl status --host big",
        "lllogs": "llmctl logs --host big",
        "llsleep": "llmctl sleep big",
        "llwake": "llmctl wake big",
    }


def test_this_machine_is_not_woken_by_itself() -> None:
    assert list(through_llmctl(PROFILES, box=None, program="/opt/my tools/llmctl").items()) == [
        ("llcoder", "'/opt/my tools/llmctl' switch coder"),
        ("llgemma4", "'/opt/my tools/llmctl' switch gemma4"),
        ("lloff", "'/opt/my tools/llmctl' off"),
        ("llstatus", "'/opt/my tools/llmctl' status"),
        ("lllogs", "'/opt/my tools/llmctl' logs"),
        ("llsleep", "'/opt/my tools/llmctl' sleep"),
    ]


def remote(command: str) -> list[str]:
    """The words that the box's shell sees, of `ssh -t DESTINATION LINE`."""
    ssh, t, destination, line = shlex.split(command)
    assert (ssh, t, destination) == ("ssh", "-t", "llm@big")
    return shlex.split(line)


def test_plain_aliases_name_llmctl_by_its_path() -> None:
    made = through_ssh(PROFILES, Ssh(destination="llm@big", program="/home/a b/.local/bin/llmctl"))
    program = "/home/a b/.local/bin/llmctl"
    assert {alias: remote(one) for alias, one in made.items()} == {
        "llcoder": [program, "switch", "coder"],
        "llgemma4": [program, "switch", "gemma4"],
        "lloff": [program, "off"],
        "llstatus": [program, "status"],
        "lllogs": [program, "logs"],
        "llsleep": [program, "sleep"],
    }


def test_without_llmctl_there_systemctl_has_to_do() -> None:
    made = through_ssh(PROFILES, Ssh(destination="llm@big"))
    units = ["llm-coder.service", "llm-gemma4.service"]
    manager = ["systemctl", "--user"]
    assert {alias: remote(one) for alias, one in made.items()} == {
        "llcoder": [*manager, "start", units[0]],
        "llgemma4": [*manager, "start", units[1]],
        "lloff": [*manager, "stop", *units],
        "llsleep": [*manager, "stop", *units, "&&", "systemctl", "suspend"],
        "llstatus": [*manager, "--no-pager", "list-units", "--all", "llm-*"],
        "lllogs": ["journalctl", "--user-unit=llm-*", "--lines=50"],
    }


def test_a_box_without_profiles_has_nothing_to_stop() -> None:
    assert list(through_ssh((), Ssh(destination="llm@big"))) == ["llstatus", "lllogs"]


def test_a_box_with_a_mac_can_be_woken() -> None:
    ssh = Ssh(destination="big", program="/x", mac="A8:a1:59-00:12:34", broadcast="10.0.0.255")
    perl, e, packet = shlex.split(through_ssh((), ssh)["llwake"])
    assert (perl, e) == ("perl", "-e")
    assert 'pack("H*", "A8a159001234") x 16' in packet
    assert 'inet_aton("10.0.0.255")' in packet


def test_a_box_elsewhere_is_woken_by_a_machine_on_its_lan() -> None:
    ssh = Ssh(destination="big", mac="001122334455", via="pi@raspi")
    alone = through_ssh((), Ssh(destination="big", mac="001122334455"))["llwake"]
    assert shlex.split(through_ssh((), ssh)["llwake"]) == ["ssh", "pi@raspi", alone]


def test_a_profile_named_as_a_verb_has_no_alias() -> None:
    assert taken(("coder", "status", "off")) == ["status", "off"]
    made = through_llmctl(("status",), box="big")
    assert made["llstatus"] == "llmctl status --host big"
    plain = through_ssh(("status",), Ssh(destination="llm@big"))
    assert remote(plain["llstatus"])[2] == "--no-pager"


def test_text_for_all_shells_and_for_fish() -> None:
    commands = {"llcoder": "ssh big 'a b'"}
    assert render(commands, url="http://x:1/v1") == (
        "export LLM_URL=http://x:1/v1\nalias llcoder='ssh big '\"'\"'a b'\"'\"''"
    )
    assert render(commands, url="http://x:1/v1", shell=Shell.FISH) == (
        "set -gx LLM_URL 'http://x:1/v1'\nalias llcoder 'ssh big \\'a b\\''"
    )
    assert render(commands, url="u", shell=Shell.ZSH) == render(commands, url="u")


@pytest.mark.parametrize(
    ("listen", "address", "url", "is_reached"),
    [
        (["127.0.0.1:1234"], None, "http://127.0.0.1:1234/v1", False),
        (["127.0.0.1:1234"], "big", "http://big:1234/v1", False),
        (["127.0.0.1:1234", "100.64.0.9:4321"], None, "http://127.0.0.1:1234/v1", True),
        (["127.0.0.1:1234", "100.64.0.9:4321"], "big", "http://100.64.0.9:4321/v1", True),
        (["0.0.0.0:1234"], "big", "http://big:1234/v1", True),
        (["0.0.0.0:1234"], None, "http://127.0.0.1:1234/v1", True),
        (["[::]:1234"], "fd7a::9", "http://[fd7a::9]:1234/v1", True),
        (["10.0.0.9:80"], None, "http://10.0.0.9:80/v1", True),
    ],
)
def test_the_url_is_where_the_proxy_is_reached(
    listen: list[str], address: str | None, url: str, is_reached: bool
) -> None:
    parsed = [parse_listen(one) for one in listen]
    assert proxy_url(parsed, address=address) == url
    assert is_open(parsed) is is_reached
