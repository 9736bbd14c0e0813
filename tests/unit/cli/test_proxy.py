"""cli/proxy.py: what `llmctl proxy status` says."""

from __future__ import annotations

import pytest

from llmctl.cli.proxy import _lines
from llmctl.core.proxy_unit import SERVICE, SOCKET, UNITS
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


@pytest.mark.parametrize(
    ("word", "remedy"),
    [
        ("stale", "llmctl apply"), ("missing", "llmctl apply"),
        ("edited", "llmctl proxy install --overwrite"),
        ("broken", "correct config.yaml, then llmctl apply"),
        ("foreign", "not llmctl's; move it away, then llmctl proxy install"),
    ],
)  # fmt: skip
def test_what_is_odd_about_a_unit_is_told_with_what_helps(word: str, remedy: str) -> None:
    seen = ProxyStatus(installed=True, state="running", files={SOCKET: "current", SERVICE: word})
    assert f"units:   {SERVICE} is {word}: {remedy}" in _lines(seen)
    both = ProxyStatus(installed=True, state="running", files={SOCKET: word, SERVICE: word})
    assert f"units:   {SOCKET} is {word}, {SERVICE} is {word}: {remedy}" in _lines(both)


def test_units_that_are_as_they_should_be_are_not_spoken_of() -> None:
    seen = ProxyStatus(installed=True, state="running", files=dict.fromkeys(UNITS, "current"))
    assert not [line for line in _lines(seen) if line.startswith("units:")]
