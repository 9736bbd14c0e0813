"""affinity.py: which requests belong together."""

from __future__ import annotations

import json

import pytest

from llmctl.proxy.affinity import MOST_BODY, MOST_KEYS, Affinity, Keys, keys_of
from llmctl.proxy.head import Request


def request_of(header: str) -> Request:
    name, _, value = header.encode().partition(b": ")
    return Request(b"POST", b"/v1/chat/completions", b"", "1.1", ((name, value),))


def keys(*messages: str, header: str = "") -> Keys:
    said = [{"role": "user", "content": one} for one in messages]
    return keys_of(request_of(header), json.dumps({"messages": said}).encode())


def test_a_conversation_that_goes_on_begins_as_it_did() -> None:
    assert keys("a", "b", "c")[:2] == keys("a", "b")
    assert keys("a", "b")[-1] != keys("x", "b")[-1]


@pytest.mark.parametrize("name", ["X-Session-Id", "x-session-affinity", "X-Claude-Code-Session-Id"])
def test_a_session_is_believed(name: str) -> None:
    one, same = (keys(text, header=f"{name}: s1") for text in "ab")
    assert one == same != keys("a", header=f"{name}: s2")
    assert len(one) == 1


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"messages": 3}', b'{"prompt": "x"}', None])
def test_what_has_no_messages_belongs_to_nothing(body: bytes | None) -> None:
    assert keys_of(request_of(""), body) == ()


def test_what_is_looked_at_and_remembered_is_bounded() -> None:
    assert len(keys(*map(str, range(1000)))) == MOST_KEYS
    assert keys_of(request_of(""), b'{"messages": [' + b" " * MOST_BODY) == ()
    known = Affinity(most=10)
    for number in range(100):
        known.note((number, number + 1000), number)
    assert len(known) == 10
    assert known.find((99,)) == 99
    assert known.find((1,)) is None


def test_the_longest_prefix_wins() -> None:
    known = Affinity()
    known.note((1, 2), 7)
    known.note((1, 3), 8)
    assert known.find((1, 2, 9)) == 7
    assert known.find((1, 9)) == 8
    assert known.find((9,)) is None
