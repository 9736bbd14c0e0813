"""Wrong keys: who sends many is told to wait, and no longer noted down one by one.

A right key is never kept out, not even from the same address: a proxy or a NAT has one for many
people. What slows a guesser down is then that each guess costs a connection; what keeps a key from
being guessed is its length (keys.py).
"""

import ipaddress
import math
from collections import OrderedDict

from llmctl.proxy.dialect import Trouble

BURST = 10
"""Wrong keys that an address may send at once."""
EVERY_S = 6.0
"""After that, one in so many seconds."""
MOST_PEERS = 1024
"""Addresses that are remembered; the one that was heard last stays longest."""
KIND = "too_many_wrong_keys"


class Guesses:
    """Per address, the time at which its wrong keys will be forgotten. Times are the caller's."""

    def __init__(self) -> None:
        self._until: OrderedDict[str, float] = OrderedDict()

    def wrong(self, peer: str, now: float) -> Trouble | None:
        """One more; is it one too many?"""
        circle = _circle(peer)
        until = max(self._until.pop(circle, now), now) + EVERY_S
        too_many = until - now > BURST * EVERY_S
        self._until[circle] = min(until, now + BURST * EVERY_S)
        while len(self._until) > MOST_PEERS:
            self._until.popitem(last=False)
        if not too_many:
            return None
        return Trouble(
            429, KIND, "Too many wrong API keys came from this address.",
            retry_after_s=math.ceil(EVERY_S),
        )  # fmt: skip


def _circle(peer: str) -> str:
    """Whoever has one address of IPv6 has 2^64 of them."""
    try:
        address = ipaddress.IPv6Address(peer.partition("%")[0])
    except ValueError:
        return peer
    return str(address.ipv4_mapped or ipaddress.IPv6Network((address, 64), strict=False))
