"""Clients that send a head and then its body: the two are one request like any other's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.wire import MemoryTransport, Wire, requests_in
from unit.proxy.test_again import KEY, OK, VARIANTS, ask, connected, keyring, seen, short, wire

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["short", "wire"]

BODY = b'{"model":"coder"}'
HEAD = ask().removesuffix(BODY)


class Clock:
    """Time that passes when it is told to."""

    def __init__(self, wire: Wire) -> None:
        self.now = wire.proxy.now()
        wire.proxy.now = lambda: self.now

    def passes(self, wire: Wire, seconds: float = 1) -> None:
        """And the proxy looks what it brings about."""
        self.now += seconds
        wire.client.look(self.now)


def split(data: bytes) -> int:
    """Where its head ends."""
    return data.index(b"\r\n\r\n") + 4


def test_both_pieces_together_go_the_short_way(wire: Wire, short: list[bytes]) -> None:
    client = wire.connect()
    for _ in range(3):
        client.sends(ask(), sizes=[len(HEAD)])
        wire.server().says(OK)
    assert short == [ask(), ask()]
    assert client.heard.count(b"HTTP/1.1 200 OK") == 3
    assert [body for _, body in requests_in(bytes(wire.server().heard))] == [BODY] * 3


def test_on_a_new_connection_too(wire: Wire, short: list[bytes]) -> None:
    connected(wire)
    wire.connect().sends(ask(), sizes=[len(HEAD)])
    assert short == [ask()]


@pytest.mark.parametrize("is_known", [False, True], ids=["first", "further"])
@pytest.mark.parametrize("how", VARIANTS)
def test_nobody_can_tell_the_pieces_apart(how: str, is_known: bool) -> None:
    """What comes in two reads is served like what comes in one."""
    found = []
    for sizes in ((), (split(VARIANTS[how]),)):
        with Wire() as wire:
            wire.proxy.board.keys = keyring(KEY, b"another-key-of-twenty")
            connected(wire)
            client = connected(wire) if is_known else wire.connect()
            clock = Clock(wire)
            found.append(seen(wire, client, VARIANTS[how], sizes=sizes))
            clock.passes(wire)
            assert len(wire.proxy.relays) == 0
    assert found[0] == found[1]


def test_a_head_whose_body_is_late_is_read_by_itself(wire: Wire, short: list[bytes]) -> None:
    client = connected(wire)
    clock = Clock(wire)
    client.sends(HEAD)
    assert not wire.proxy.relays
    clock.passes(wire)
    assert len(wire.proxy.relays) == 1
    client.sends(BODY)
    assert len(requests_in(bytes(wire.server().heard))) == 1
    wire.server().says(OK)
    assert client.heard.startswith(b"HTTP/1.1 200 OK")
    assert not short


def test_one_that_never_comes_is_waited_for_as_ever(wire: Wire) -> None:
    client = connected(wire)
    clock = Clock(wire)
    client.sends(HEAD)
    for _ in range(60):
        clock.passes(wire)
    assert not client.heard
    for _ in range(2):
        clock.passes(wire)
    assert client.heard.startswith(b"HTTP/1.1 408 ")
    assert not wire.proxy.relays


def test_a_head_that_came_late_in_a_quiet_connection_is_no_quiet_one(wire: Wire) -> None:
    """It would be closed for having been idle, with the request in it."""
    client = connected(wire)
    clock = Clock(wire)
    clock.now += 119.5
    client.sends(HEAD)
    clock.passes(wire)
    client.sends(BODY)
    wire.server().says(OK)
    assert client.heard.startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize("goes", [MemoryTransport.ends, MemoryTransport.dies])
def test_whoever_goes_without_the_body_leaves_nothing(
    wire: Wire, goes: Callable[[MemoryTransport], None]
) -> None:
    client = connected(wire)
    clock = Clock(wire)
    client.sends(HEAD)
    goes(client)
    clock.passes(wire)
    client.settle()
    assert client.is_shut
    assert not wire.server().heard
    assert not wire.proxy.relays
    assert not wire.proxy.clients


def test_a_key_that_is_taken_back_between_them(wire: Wire) -> None:
    client = connected(wire)
    client.sends(HEAD)
    wire.proxy.board.keys = keyring(b"another-key-of-twenty")
    client.sends(BODY)
    assert client.heard.startswith(b"HTTP/1.1 401 ")
    assert not wire.server().heard


def test_what_was_let_in_before_a_key_was_taken_back_says_nothing_of_later(wire: Wire) -> None:
    """The first of its kind is read head by head: it was let in, and the next is not."""
    client = wire.connect()
    client.sends(HEAD)
    wire.proxy.board.keys = keyring(b"another-key-of-twenty")
    client.sends(BODY)
    wire.server().says(OK)
    assert client.heard.startswith(b"HTTP/1.1 200 OK")
    client.heard.clear()
    client.sends(ask())
    assert client.heard.startswith(b"HTTP/1.1 401 ")


def test_a_head_is_not_taken_for_that_of_a_later_request(wire: Wire) -> None:
    """The first, without a key, is refused at once; the second's body comes later."""
    keyless = ask(b"", length=b"0").replace(b"Authorization: Bearer %b\r\n" % KEY, b"")
    client = wire.connect()
    client.sends(keyless + HEAD)
    client.sends(BODY)
    wire.server().says(OK)
    assert client.heard.startswith(b"HTTP/1.1 401 ")
    assert client.heard.count(b"HTTP/1.1 200 OK") == 1
    stranger = wire.connect()
    stranger.sends(keyless.replace(b"length: 0", b"length: %d" % len(BODY)) + BODY)
    assert stranger.heard.startswith(b"HTTP/1.1 401 ")


def test_one_that_is_too_large_is_refused_without_its_body(wire: Wire) -> None:
    client = connected(wire)
    client.sends(ask(b"", length=b"999999999"))
    assert client.heard.startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    "head",
    [
        ask(b"", key=b"another-key-of-twenty", length=b"17"), ask(b"", length=b"0"),
        ask(b"", length=b"9" * 5000),
    ],
    ids=["another's", "no body", "a length beyond reason"],
)  # fmt: skip
def test_what_is_no_known_head_before_its_body_is_read_at_once(wire: Wire, head: bytes) -> None:
    client = connected(wire)
    client.sends(head)
    assert wire.proxy.relays or client.heard


@pytest.mark.parametrize("is_new", [False, True])
def test_a_body_that_looks_like_a_request_is_none(
    wire: Wire, short: list[bytes], *, is_new: bool
) -> None:
    """Its second piece is one, byte for byte. is_new: no such head has come before."""
    whole = ask(b"x" + ask(), more=b"X-New: 1\r\n" * is_new)
    client = connected(wire)
    if is_new:
        client = wire.connect()
    client.sends(whole, sizes=[split(whole) + 1])
    assert not short
    assert not wire.server().heard
    assert client.heard.startswith(b"HTTP/1.1 400 ")


def test_whoever_does_not_take_an_answer_does_not_stay_for_a_further_head(wire: Wire) -> None:
    client = connected(wire)
    clock = Clock(wire)
    client.fills()
    client.sends(HEAD)
    is_shut = []
    for seconds in (119, 2):
        clock.passes(wire, seconds)
        is_shut.append(client.is_shut)
    assert is_shut == [False, True]
    assert not wire.proxy.relays


def test_nothing_is_kept_of_a_request_that_has_come(wire: Wire) -> None:
    client = wire.connect()
    client.sends(ask(), sizes=[len(HEAD)])
    assert wire.client._began is None


def test_a_large_body_comes_as_ever(wire: Wire, short: list[bytes]) -> None:
    body = b'{"x":"%b"}' % (b"y" * 200_000)
    client = connected(wire)
    client.sends(ask(body), sizes=[split(ask(body))])
    ((_, heard),) = requests_in(bytes(wire.server().heard))
    assert heard == body
    assert not short


def test_one_that_came_early_waits_for_its_turn(wire: Wire) -> None:
    """A further head while an answer is under way, and its body after that."""
    client = connected(wire)
    client.sends(ask() + HEAD)
    wire.server().says(OK)
    client.sends(BODY)
    assert [body for _, body in requests_in(bytes(wire.server().heard))] == [BODY] * 2
    wire.server().says(OK)
    assert client.heard.count(b"HTTP/1.1 200 OK") == 2
    assert len(wire.pool.opened) == 1
