"""Machines of a tailnet, as `tailscale status --json` lists them.

Source: tailscale, ipn/ipnstate/ipnstate.go (Status, PeerStatus). What it promises of that output is
little, so whatever is missing has a default.
"""

from collections.abc import Mapping, Sequence

import msgspec


class Peer(msgspec.Struct, frozen=True):
    """One machine. name: the first label of its DNS name, which no other machine of the tailnet
    has. has_ssh: Tailscale SSH is on, so that no key is needed."""

    name: str
    destination: str
    address: str
    os: str
    online: bool
    has_ssh: bool


class _Tailnet(msgspec.Struct, rename="pascal"):
    magic_d_n_s_enabled: bool = msgspec.field(name="MagicDNSEnabled", default=False)


class _Machine(msgspec.Struct, rename="pascal"):
    """PeerStatus."""

    host_name: str = ""
    d_n_s_name: str = msgspec.field(name="DNSName", default="")
    o_s: str = msgspec.field(name="OS", default="")
    addresses: tuple[str, ...] | None = msgspec.field(name="TailscaleIPs", default=None)
    online: bool = False
    sharee_node: bool = False
    ssh_keys: tuple[str, ...] | None = msgspec.field(name="sshHostKeys", default=None)


class _Status(msgspec.Struct, rename="pascal"):
    current_tailnet: _Tailnet | None = None
    peer: Mapping[str, _Machine] | None = None


def parse_peers(text: str) -> tuple[Peer, ...]:
    """The other machines, those that may be boxes first: Linux, and awake. ValueError: it is no
    such output."""
    try:
        status = msgspec.json.decode(text, type=_Status)
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from None
    by_name = status.current_tailnet is not None and status.current_tailnet.magic_d_n_s_enabled
    machines = (status.peer or {}).values()
    # A sharee only may connect to us; `tailscale status` does not list it either.
    found = [_peer(one, by_name=by_name) for one in machines if not one.sharee_node]
    return tuple(sorted(found, key=lambda one: (one.os != "linux", not one.online, one.name)))


def _peer(machine: _Machine, *, by_name: bool) -> Peer:
    name = (machine.d_n_s_name.partition(".")[0] or machine.host_name).lower()
    address = next(iter(machine.addresses or ()), "")
    return Peer(
        name=name,
        # The short name, as one types it after `ssh`: so ~/.ssh/config and known_hosts apply.
        destination=name if by_name and machine.d_n_s_name else address or name,
        address=address,
        os=machine.o_s,
        online=machine.online,
        has_ssh=bool(machine.ssh_keys),
    )


def peer_named(name: str, peers: Sequence[Peer]) -> Peer | None:
    """The machine of that name."""
    return next((one for one in peers if one.name == name), None)
