"""Where the proxy listens: `listen` of config.yaml -> addresses, and what is wrong with them.

systemd binds what is written here before anything of llmctl runs, so only numbers can stand there
(systemd.socket(5), ListenStream=): names would have to be looked up by whoever renders the unit.
"""

import ipaddress
import re
from collections.abc import Iterator, Mapping, Sequence

import msgspec

DEFAULT_PORT = 1234
TAILSCALE = "tailscale"
_TAILNET = ipaddress.ip_network("100.64.0.0/10")
"""Tailscale gives its addresses out of the range for carrier-grade NAT (RFC 6598)."""
_LOCAL = re.compile(r"\|-- (\S+)\n\s+/32 host LOCAL")
_SYNTAX = "expected an address such as 127.0.0.1:1234, [::1]:1234 or tailscale:1234"


class Address(msgspec.Struct, frozen=True):
    """An address to listen on. host: a number, or TAILSCALE where that is not known yet."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Nobody but this machine can reach it."""
        return self.host != TAILSCALE and ipaddress.ip_address(self.host).is_loopback

    def on(self, tailnet: str) -> "Address":
        """The same with the machine's address in the tailnet, where that was asked for."""
        return Address(tailnet, self.port) if self.host == TAILSCALE else self


def parse_listen(text: str) -> Address:
    """An entry of `listen`; without a port it is 1234. ValueError: what is wrong with it."""
    host, port = _split(text)
    if host != TAILSCALE:
        try:
            host = str(ipaddress.ip_address(host))
        except ValueError:
            raise ValueError(f"{_SYNTAX}, got {text!r}") from None
    if not 0 < port < 65536:
        raise ValueError(f"{port} is no port: they go from 1 to 65535")
    return Address(host, port)


def _split(text: str) -> tuple[str, int]:
    if text.count(":") > 1 and not text.startswith("["):
        return text, DEFAULT_PORT
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:]+))(?::(\d{1,6}))?", text)
    if match is None:
        raise ValueError(f"{_SYNTAX}, got {text!r}")
    return match[1] or match[2], int(match[3] or DEFAULT_PORT)


def listen_complaints(
    listen: Sequence[str], ports: Mapping[int, str]
) -> Iterator[tuple[int | None, str]]:
    """What is wrong with `listen`: the number of the entry, and why. ports: those of groups."""
    if not listen:
        yield None, "expected at least one address"
    seen: set[Address] = set()
    for number, text in enumerate(listen):
        try:
            address = parse_listen(text)
        except ValueError as error:
            yield number, str(error)
            continue
        if address in seen:
            yield number, f"{text} stands there twice"
        if address.port in ports:
            yield number, f"port {address.port} is group {ports[address.port]}'s"
        seen.add(address)


def is_tailnet(host: str) -> bool:
    """Is it an address that Tailscale gives?"""
    try:
        return ipaddress.ip_address(host) in _TAILNET
    except ValueError:
        return False


def tailnet_address(fib_trie: str) -> str | None:
    """This machine's address in a tailnet, from /proc/net/fib_trie: its own addresses are there
    as `/32 host LOCAL` (net/ipv4/fib_trie.c, fib_trie_seq_show)."""
    return next((host for host in _LOCAL.findall(fib_trie) if is_tailnet(host)), None)


def exposure(addresses: Sequence[Address], *, has_keys: bool, allow_keyless: bool) -> str | None:
    """Why the proxy must not listen there, in a sentence; None: it may."""
    beyond = [str(one) for one in addresses if not one.is_loopback]
    if not beyond or has_keys or allow_keyless:
        return None
    return (
        f"{', '.join(beyond)} can be reached from other machines, and there are no API keys: "
        "whoever reaches it could use your models."
    )


KEYLESS_HINT = (
    "Set `proxy: {api_keys: FILE}` in config.yaml, or `allow_keyless: true` if everybody there may."
)
