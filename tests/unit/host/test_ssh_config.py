"""The user's own ssh configuration, by OpenSSH's client and by paramiko's parser."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from llmctl.host.ssh_config import CONNECT_TIMEOUT_S, Destination, resolve

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = """\
Include more
Host gpu
  HostName 100.64.0.7
  User llm
  Port 2222
  IdentityFile ~/.ssh/id_gpu
  IdentitiesOnly yes
  UserKnownHostsFile ~/.ssh/known_gpu
  HostKeyAlias gpu-key
  ConnectTimeout 3
Host behind
  ProxyJump jump@first:2022,second
Host jumpy
  ProxyJump %r@first:2022,[fd7a::1]:2022,ssh://a@b:3
Host paths
  HostName 10.0.0.3
  IdentityFile ~/.ssh/id_%h
  IdentityFile %d/.ssh/%n-%p-%r
  IdentityFile ${KEYS}/%k
  IdentityFile ${HOME}/k
  UserKnownHostsFile "~/.ssh/known two" /var/known-%k
Host bycommand
  Port 2022
  ProxyCommand nc -x %n %h %p %r %%
Host *
  User everyone
"""


@pytest.fixture(params=["ssh", "paramiko"])
def environ(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    ssh = tmp_path / ".ssh"
    ssh.mkdir()
    text = CONFIG
    if request.param == "paramiko":
        text = text.replace("Include more\n", "")  # which it does not know
    (ssh / "config").write_text(text.replace("more", str(ssh / "more")), "utf-8")
    (ssh / "more").write_text("Host included\n  HostName 10.0.0.9\n", "utf-8")
    path = "/usr/bin:/bin" if request.param == "ssh" else str(tmp_path)
    return {"HOME": str(tmp_path), "USER": "ana", "PATH": path}


def test_an_alias_leads_where_the_configuration_says(environ: dict[str, str]) -> None:
    found, home = resolve("gpu", environ), environ["HOME"]
    assert found.identities == (f"{home}/.ssh/id_gpu",)
    assert found.known_hosts[0] == f"{home}/.ssh/known_gpu"
    assert found.key_name == "gpu-key"
    assert (found.address, found.port, found.user) == ("100.64.0.7", 2222, "llm")
    assert (found.identities_only, found.timeout) == (True, 3.0)


def test_a_plain_name_is_its_own_address(environ: dict[str, str]) -> None:
    found = resolve("box.example.net", environ)
    assert (found.address, found.port, found.user) == ("box.example.net", 22, "everyone")
    assert (found.key_name, found.timeout) == ("box.example.net", CONNECT_TIMEOUT_S)
    assert f"{environ['HOME']}/.ssh/id_ed25519" in found.identities
    assert found.known_hosts[0] == f"{environ['HOME']}/.ssh/known_hosts"
    assert (found.jumps, found.command, found.agent) == ((), None, None)


def test_a_user_before_the_address_counts_more(environ: dict[str, str]) -> None:
    assert resolve("ana@gpu", environ).user == "ana"
    assert resolve("ana@gpu", environ).address == "100.64.0.7"


def test_jumps_come_in_their_order(environ: dict[str, str]) -> None:
    assert resolve("behind", environ).jumps == ("ssh://jump@first:2022", "second")


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("ssh://jump@first:2022", ("first", 2022, "jump")),
        ("ssh://gpu:2022", ("100.64.0.7", 2022, "llm")),
        ("ssh://first", ("first", 22, "everyone")),
        ("ssh://ana@[fd7a::1]:2022", ("fd7a::1", 2022, "ana")),
        ("fd7a::1", ("fd7a::1", 22, "everyone")),
    ],
)
def test_a_uri_says_user_address_and_port(
    environ: dict[str, str], name: str, where: tuple[str, int, str]
) -> None:
    found = resolve(name, environ)
    assert (found.address, found.port, found.user) == where


def test_jumps_have_their_words_filled_in_and_lead_to_their_ports(environ: dict[str, str]) -> None:
    jumps = resolve("jumpy", environ).jumps
    assert jumps == ("ssh://everyone@first:2022", "ssh://[fd7a::1]:2022", "ssh://a@b:3")
    first = resolve(jumps[0], environ)
    assert (first.address, first.port, first.user) == ("first", 2022, "everyone")


def test_paths_have_their_words_filled_in(environ: dict[str, str]) -> None:
    found, home = resolve("paths", environ | {"KEYS": "/keys"}), environ["HOME"]
    assert found.identities == (
        f"{home}/.ssh/id_10.0.0.3", f"{home}/.ssh/paths-22-everyone", "/keys/paths", f"{home}/k"
    )  # fmt: skip
    assert found.known_hosts[:2] == (f"{home}/.ssh/known two", "/var/known-paths")


def test_a_proxy_command_has_its_words_filled_in(environ: dict[str, str]) -> None:
    command = "nc -x bycommand bycommand 2022 everyone %"
    assert resolve("bycommand", environ).command == command


def test_other_files_are_included(environ: dict[str, str]) -> None:
    wanted = "10.0.0.9" if environ["PATH"].startswith("/usr") else "included"
    assert resolve("included", environ).address == wanted


def test_the_agent_is_the_one_of_the_environment(environ: dict[str, str]) -> None:
    found = resolve("gpu", environ | {"SSH_AUTH_SOCK": "/run/agent"})
    assert found.agent == "/run/agent"


def test_a_port_that_is_not_22_is_part_of_the_keys_name() -> None:
    assert Destination("x", "10.0.0.1", port=2222).key_name == "[10.0.0.1]:2222"
