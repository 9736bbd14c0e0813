"""core/listening.py: where the proxy listens."""

from __future__ import annotations

import pytest

from llmctl.core.config import Config, parse_config
from llmctl.core.document import parse_yaml
from llmctl.core.listening import (
    TAILSCALE,
    Address,
    exposure,
    is_tailnet,
    parse_listen,
    tailnet_address,
)
from llmctl.errors import ProfileError


@pytest.mark.parametrize(
    ("text", "host", "port", "shown"),
    [
        ("127.0.0.1:1234", "127.0.0.1", 1234, "127.0.0.1:1234"),
        ("127.0.0.1", "127.0.0.1", 1234, "127.0.0.1:1234"),
        ("0.0.0.0:80", "0.0.0.0", 80, "0.0.0.0:80"),
        ("::1", "::1", 1234, "[::1]:1234"),
        ("[::1]", "::1", 1234, "[::1]:1234"),
        ("[::]:65535", "::", 65535, "[::]:65535"),
        ("[FD7A:115C::0001]:8080", "fd7a:115c::1", 8080, "[fd7a:115c::1]:8080"),
        ("tailscale", TAILSCALE, 1234, "tailscale:1234"),
        ("tailscale:9", TAILSCALE, 9, "tailscale:9"),
    ],
)
def test_an_address_is_read(text: str, host: str, port: int, shown: str) -> None:
    assert parse_listen(text) == Address(host, port)
    assert str(parse_listen(text)) == shown


@pytest.mark.parametrize(
    "text",
    ["", "1234", ":1234", "localhost:1234", "*:1234", "127.0.0.1:", "127.0.0.1:0", "1.2.3:1",
     "127.0.0.1:70000", "[::1]:x", "[127.0.0.1", "::1:1234:", "[fe80::1%eth0]:1", "1.2.3.4:-1",
     "http://127.0.0.1:1234", "127.0.0.1:1234\nExec=x", "127.0.0.01:1", "[tailscale]:1"],
)  # fmt: skip
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected an address|no port"):
        parse_listen(text)


def complaint(text: str) -> str:
    with pytest.raises(ProfileError) as told:
        parse_config(parse_yaml(text, file="c"), file="c")
    return told.value.message


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ("{listen: []}", "c: proxy.listen: expected at least one address"),
        ("{listen: [localhost]}", "c: proxy.listen[0]: expected an address such as"),
        ("{listen: ['127.0.0.1:1', '[::1]', '::1']}", "c: proxy.listen[2]: ::1 stands there twice"),
        ("{listen: ['127.0.0.1:12340']}", "c: proxy.listen[0]: port 12340 is group gpu's"),
        ("{max_body: 3GB}", "c: proxy.max_body: expected a size"),
        ("{max_body: 0}", "c: proxy.max_body: expected more than nothing"),
        ("{max_wait: 3}", "c: proxy.max_wait:"),
        ("{max_queue: 0}", "c: proxy.max_queue:"),
        ("{lisen: []}", "c: proxy.lisen: unknown key"),
    ],
)
def test_a_wrong_section_names_the_key(section: str, told: str) -> None:
    assert told in complaint(f"proxy: {section}\n")


def test_the_default_port_may_not_be_a_groups_either() -> None:
    said = complaint("groups: {gpu: {port: 1234}}\n")
    assert said == "c: proxy.listen[0]: port 1234 is group gpu's"


def test_without_a_section_the_proxy_listens_on_loopback() -> None:
    assert [str(parse_listen(one)) for one in Config().proxy.listen] == ["127.0.0.1:1234"]


@pytest.mark.parametrize(
    ("host", "given"),
    [("100.64.0.1", True), ("100.127.255.254", True), ("100.63.255.255", False),
     ("100.128.0.1", False), ("fd7a:115c:a1e0::1", False), ("tailscale", False)],
)  # fmt: skip
def test_a_tailnets_addresses_are_known_by_their_range(host: str, given: bool) -> None:
    assert is_tailnet(host) is given


FIB_TRIE = """\
Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     |-- 100.64.0.0
        /10 link UNICAST
     |-- 100.101.102.103
        /32 host LOCAL
Local:
     |-- 127.0.0.1
        /32 host LOCAL
     |-- 192.0.2.3
        /32 host LOCAL
"""


def test_the_kernel_tells_this_machines_own_addresses() -> None:
    assert tailnet_address(FIB_TRIE) == "100.101.102.103"
    assert tailnet_address(FIB_TRIE.replace("100.101.102.103", "100.20.1.1")) is None
    assert tailnet_address("") is None


def test_tailscale_stands_for_the_tailnets_address() -> None:
    assert parse_listen("tailscale:9").on("100.64.0.7") == Address("100.64.0.7", 9)
    assert parse_listen("127.0.0.1:9").on("100.64.0.7") == Address("127.0.0.1", 9)


BEYOND = (Address("127.0.0.1", 1234), Address("100.64.0.7", 1234))


def test_nothing_but_loopback_without_a_key_or_a_word() -> None:
    told = exposure(BEYOND, has_keys=False, allow_keyless=False)
    assert told is not None
    assert told.startswith("100.64.0.7:1234 can be reached from other machines")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "fd7a::1", TAILSCALE])
def test_every_address_but_loopback_is_beyond(host: str) -> None:
    assert exposure([Address(host, 1)], has_keys=False, allow_keyless=False)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.3.2.1", "::1"])
def test_loopback_needs_no_key(host: str) -> None:
    assert exposure([Address(host, 1)], has_keys=False, allow_keyless=False) is None


@pytest.mark.parametrize(("keys", "word"), [(True, False), (False, True)])
def test_a_key_or_a_word_is_enough(keys: bool, word: bool) -> None:
    assert exposure(BEYOND, has_keys=keys, allow_keyless=word) is None
