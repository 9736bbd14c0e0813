"""cli/proxy.py: what `llmctl proxy status` says."""

from __future__ import annotations

import pytest

from llmctl.cli.proxy import _lines
from llmctl.engine.proxy_status import ProxyStatus
from llmctl.engine.proxy_told import Told


@pytest.mark.parametrize(
    ("connections", "in_flight", "said"),
    [(0, 0, "0 connections, 0 requests under way, 3 waiting"),
     (1, 1, "1 connection, 1 request under way, 3 waiting"),
     (2, 12, "2 connections, 12 requests under way, 3 waiting")],
)  # fmt: skip
def test_what_is_counted_is_told_in_words(connections: int, in_flight: int, said: str) -> None:
    told = Told(in_flight=in_flight, waiting=3, connections=connections)
    seen = ProxyStatus(installed=True, state="running", files={}, told=told)
    assert f"clients: {said}" in _lines(seen)
