"""core/tailnet.py: machines of a tailnet."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llmctl.core.tailnet import Peer, parse_peers, peer_named


def machine(name: str, **other: Any) -> dict[str, Any]:
    return {
        "HostName": name.upper(), "DNSName": f"{name}.tail1234.ts.net.", "OS": "linux",
        "TailscaleIPs": ["100.64.0.9", "fd7a::9"], "Online": True, **other,
    }  # fmt: skip


def status(*machines: dict[str, Any], magic: bool = True) -> str:
    return json.dumps({
        "BackendState": "Running",
        "CurrentTailnet": {"Name": "x", "MagicDNSEnabled": magic},
        "Self": machine("me"),
        "Peer": {f"nodekey:{n}": one for n, one in enumerate(machines)},
    })  # fmt: skip


def test_a_machine_is_named_by_its_dns_name() -> None:
    (peer,) = parse_peers(status(machine("big", sshHostKeys=["ssh-ed25519 AAAA"])))
    assert peer == Peer("big", "big", "100.64.0.9", "linux", online=True, has_ssh=True)


def test_without_magic_dns_a_machine_is_its_address() -> None:
    (peer,) = parse_peers(status(machine("big"), magic=False))
    assert (peer.name, peer.destination) == ("big", "100.64.0.9")


def test_what_may_be_a_box_comes_first() -> None:
    seen = parse_peers(
        status(machine("mac", OS="macOS"), machine("off", Online=False), machine("up"))
    )
    assert [one.name for one in seen] == ["up", "off", "mac"]


def test_who_only_shares_with_us_is_no_machine_of_ours() -> None:
    assert parse_peers(status(machine("theirs", ShareeNode=True))) == ()


@pytest.mark.parametrize("text", ['{"Peer": null}', "{}"])
def test_nobody_else_is_no_error(text: str) -> None:
    assert parse_peers(text) == ()


def test_a_machine_that_tells_little_is_still_one() -> None:
    (peer,) = parse_peers('{"Peer": {"k": {"HostName": "Odd"}}}')
    assert peer == Peer("odd", "odd", "", "", online=False, has_ssh=False)


@pytest.mark.parametrize("text", ["", "Tailscale is stopped.", "[]"])
def test_what_is_no_status_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse_peers(text)


def test_a_machine_is_found_by_its_name() -> None:
    peers = parse_peers(status(machine("a"), machine("b")))
    assert peer_named("b", peers) == peers[1]
    assert peer_named("c", peers) is None
