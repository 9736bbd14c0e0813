"""port.py: the kernel's own word on who listens."""

from __future__ import annotations

import itertools
import socket
import sys
from typing import TYPE_CHECKING

import pytest

from llmctl.proxy import port as port_module
from llmctl.proxy.port import holder, is_shared

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def door() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


def number(door: socket.socket) -> int:
    return int(door.getsockname()[1])


def test_it_is_the_same_as_long_as_the_same_one_listens(door: socket.socket) -> None:
    first = holder(number(door))
    assert first is not None
    for _ in range(3):
        with socket.create_connection(door.getsockname()):
            assert holder(number(door)) == first


def test_another_one_on_the_same_port_is_another(door: socket.socket) -> None:
    at = door.getsockname()
    found = {holder(number(door))}
    for _ in range(4):
        door.close()
        assert holder(at[1]) is None
        door = socket.create_server(at)
        found.add(holder(at[1]))
    door.close()
    assert len(found) == 5
    assert None not in found


def test_other_ports_have_others(door: socket.socket) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        assert holder(number(door)) != holder(number(other))


@pytest.mark.parametrize("where", ["0.0.0.0", "::"])
def test_one_that_listens_everywhere_listens_here(where: str) -> None:
    family = socket.AF_INET6 if ":" in where else socket.AF_INET
    is_dual = family == socket.AF_INET6
    with socket.create_server((where, 0), family=family, dualstack_ipv6=is_dual) as door:
        first = holder(number(door))
        assert first is not None
        with socket.create_connection(("127.0.0.1", number(door))):
            assert holder(number(door)) == first


def test_one_that_listens_elsewhere_does_not() -> None:
    with socket.create_server(("127.0.0.2", 0)) as elsewhere:
        assert holder(number(elsewhere)) is None
        with socket.create_server(("127.0.0.1", number(elsewhere))) as here:
            assert holder(number(here)) is not None


def test_a_port_that_is_bound_but_not_listened_on() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        assert holder(number(bound)) is None


def test_an_answer_to_an_earlier_question_is_none_to_this(door: socket.socket) -> None:
    port_module._diag().send(port_module._question(1, 0xFFFFFFFF))
    assert holder(number(door)) == holder(number(door)) is not None


class Kernel:
    """Gives one answer to all questions. numbers: which they had."""

    def __init__(self, kind: int, state: int) -> None:
        self._kind, self._state = kind, state
        self.numbers: list[int] = []

    def send(self, question: bytes) -> None:
        self.numbers.append(int.from_bytes(question[8:12], sys.byteorder))

    def recv(self, most: int) -> bytes:
        header = port_module._HEADER.pack(most, self._kind, 0, self.numbers[-1], 0)
        return header + bytes([socket.AF_INET, self._state]) + bytes(range(70))


@pytest.mark.parametrize(
    ("kind", "state", "found"), [(20, 10, bytes(range(42, 50))), (20, 1, None), (2, 10, None)],
    ids=["one that listens", "a connection", "an error"],
)  # fmt: skip
def test_what_counts_is_a_socket_that_listens(
    kind: int, state: int, found: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = Kernel(kind, state)
    monkeypatch.setattr(port_module, "_diag", lambda: kernel)
    monkeypatch.setattr(port_module, "_numbers", itertools.count((1 << 32) - 1))
    assert holder(1) == holder(1) == found
    assert kernel.numbers == [(1 << 32) - 1, 0], "each has its own, of 32 bits"


def test_where_the_kernel_may_not_be_asked_it_is_not_known(
    door: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused() -> socket.socket:
        raise PermissionError

    monkeypatch.setattr(port_module, "_diag", refused)
    assert holder(number(door)) is None


EVERYWHERE = [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")]


@pytest.mark.parametrize("asks", [False, True])
@pytest.mark.parametrize(("family", "where"), EVERYWHERE)
def test_a_port_is_shared_where_its_socket_asks_for_that(
    family: socket.AddressFamily, where: str, *, asks: bool
) -> None:
    is_dual = family == socket.AF_INET6
    with socket.create_server(
        (where, 0), family=family, dualstack_ipv6=is_dual, reuse_port=asks
    ) as door:
        before = holder(number(door))
        assert is_shared(number(door)) == asks
        assert holder(number(door)) == before


def test_which_of_those_that_share_a_port_is_reached_cannot_be_told() -> None:
    """So the one that is named is not to be trusted."""
    with (
        socket.create_server(("127.0.0.1", 0), reuse_port=True) as one,
        socket.create_server(one.getsockname(), reuse_port=True) as other,
    ):
        assert len({holder(number(one)) for _ in range(8)}) == 1
        for door in (one, other):
            door.setblocking(False)
        made = [socket.create_connection(one.getsockname()) for _ in range(64)]
        accepted = [door.accept()[0] for door in (one, other)]
        for connection in (*made, *accepted):
            connection.close()


def test_where_it_cannot_be_tried_it_may_be_shared(
    door: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Refused(socket.socket):
        def bind(self, at: object) -> None:
            raise PermissionError(1, f"no {at}")

    monkeypatch.setattr(socket, "socket", Refused)
    assert is_shared(number(door))
