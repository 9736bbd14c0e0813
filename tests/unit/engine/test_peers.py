"""engine/peers.py: the machines of this machine's tailnet."""

from __future__ import annotations

import pytest
from support.fakes import FakeHost, Output

from llmctl.engine.peers import PROGRAMS, peers_of
from llmctl.errors import HostError

ONE = '{"Peer": {"k": {"DNSName": "big.ts.net.", "OS": "linux"}}}'


def test_without_tailscale_there_is_nothing_to_offer() -> None:
    assert peers_of(FakeHost()) is None


@pytest.mark.parametrize("program", ["/usr/bin/tailscale", PROGRAMS[1]])
def test_tailscale_is_asked_wherever_it_is(program: str) -> None:
    host = FakeHost()
    host.install(program, lambda _: Output(stdout=ONE))
    peers = peers_of(host)
    assert peers
    assert [one.name for one in peers] == ["big"]
    assert host.calls == [(program, "status", "--json")]


def test_what_tailscale_says_is_told() -> None:
    host = FakeHost()
    host.install("/usr/bin/tailscale", lambda _: Output(stderr="no tailscaled\n", status=1))
    with pytest.raises(HostError, match="tailscale lists no machines: no tailscaled"):
        peers_of(host)
