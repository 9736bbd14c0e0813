"""The proxy's units on each system: what its systemd does with sockets, signals and descriptors."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from kit.waiting import eventually
from usermgr import scenarios
from usermgr.site import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usermgr.site import BoxSite

TAILNET = "100.101.102.103"
ASK = """\
import json, sys, http.client
host, port = sys.argv[1:]
connection = http.client.HTTPConnection(host, int(port), timeout=20)
connection.request("GET", "/v1/models")
answer = connection.getresponse()
print(json.dumps([answer.status, json.loads(answer.read())]))
"""
BIND = """\
import socket, sys
socket.create_server((sys.argv[1], 0))
"""
NOT_THERE = "Cannot assign requested address"
KEPT = """\
import http.client, subprocess, sys
connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=60)
for turn in range(5):
    connection.request("GET", "/v1/models")
    answer = connection.getresponse()
    assert answer.status == 200, answer.status
    answer.read()
    port = connection.sock.getsockname()[1]
    subprocess.run(["systemctl", "--user", "restart", "llmctl-proxy.service"], check=True)
    assert connection.sock.getsockname()[1] == port
    print(port)
"""


@pytest.fixture
def port(site: BoxSite) -> Iterator[int]:
    yield free_port()
    site.llmctl("proxy", "uninstall", status=None)
    site.box.root("ip", "addr", "del", f"{TAILNET}/32", "dev", "host0", check=False)


def since(site: BoxSite) -> list[str]:
    """When the socket was opened, and the service started."""
    assert site.show("llmctl-proxy.socket", "ActiveState") == "active"
    units = ("llmctl-proxy.socket", "llmctl-proxy.service")
    return [site.show(unit, "ActiveEnterTimestampMonotonic") for unit in units]


def ask(site: BoxSite, host: str, port: int) -> tuple[int, Any]:
    status, facts = json.loads(site.run("python3", "-c", ASK, host, str(port)).stdout)
    return status, facts


def test_an_address_that_appears_later_is_served_then(site: BoxSite, port: int) -> None:
    site.profile("a")
    here, there = f"127.0.0.1:{port}", f"{TAILNET}:{port}"
    site.configure(proxy={"listen": [here, there], "allow_keyless": True})
    site.llmctl("apply")
    site.llmctl("proxy", "install")
    opened = since(site)
    assert ask(site, "127.0.0.1", port)[0] == 200
    assert NOT_THERE in site.run("python3", "-c", BIND, TAILNET, check=False).stderr
    site.box.root("ip", "addr", "add", f"{TAILNET}/32", "dev", "host0")
    status, facts = ask(site, TAILNET, port)
    assert status == 200
    assert [one["id"] for one in facts["data"]] == ["a"]
    assert since(site) == opened  # nothing was opened anew for it

    # The same, as an interface has it by now.
    site.configure(proxy={"listen": [here, f"tailscale:{port}"], "allow_keyless": True})
    assert "current" in site.llmctl("apply", "--check").stdout

    # And a word that is taken back holds at once, though the socket is open.
    site.configure(proxy={"listen": [here, there]})
    site.systemctl("reload", "llmctl-proxy.service")
    refused = eventually(lambda: ask(site, TAILNET, port)[0] == 403, why="it is refused")
    assert refused
    assert ask(site, "127.0.0.1", port)[0] == 200


def test_a_kept_connection_outlives_restarts(site: BoxSite, port: int) -> None:
    site.configure(proxy={"listen": [f"127.0.0.1:{port}"]})
    site.llmctl("proxy", "install")
    said = site.run("python3", "-c", KEPT, str(port)).stdout.split()
    assert len(said) == 5
    assert len(set(said)) == 1


def test_what_happens_to_a_model_is_heard(site: BoxSite) -> None:
    scenarios.what_happens_to_a_model_is_heard(site)


def test_it_listens_again_after_a_power_cut(site: BoxSite, port: int) -> None:
    site.configure(proxy={"listen": [f"127.0.0.1:{port}"]})
    site.llmctl("proxy", "install")
    site.cut_power()
    assert ask(site, "127.0.0.1", port)[0] == 200
