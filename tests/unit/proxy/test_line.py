"""proxy/line.py: whose address it is that a client has."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from llmctl.proxy.access import is_loopback
from llmctl.proxy.line import Line

if TYPE_CHECKING:
    from collections.abc import Mapping


class Told(asyncio.Transport):
    """Knows of its socket what the kernel said; None: it is not connected any more."""

    def __init__(self, said: Mapping[str, object]) -> None:
        super().__init__()
        self._said = said

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._said.get(name, default)


@pytest.mark.parametrize(
    ("peername", "peer", "is_here"),
    [
        (("127.0.0.1", 40000), "127.0.0.1", True),
        (("fe80::1", 40000, 0, 2), "fe80::1", False),
        ("", "local", True),  # a socket file
        (None, "unknown", False),
    ],
)
def test_whoever_has_gone_is_not_taken_for_this_machine(
    peername: object, peer: str, is_here: bool
) -> None:
    line = Line()
    line.connection_made(Told({"peername": peername, "sockname": ("::1", 1234, 0, 0)}))
    assert (line.peer, is_loopback(line.peer), line.here) == (peer, is_here, "::1")


def test_it_may_be_told_anything_before_it_is_connected() -> None:
    line = Line()
    line.send(b"a")
    line.pause()
    line.resume()
    line.close()
    line.abort()
    assert line.writer is None
