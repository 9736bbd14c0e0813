"""stalls.py: a server that answers and gets nowhere, with a clock of the test's own."""

from __future__ import annotations

import pytest

from llmctl.proxy.stalls import LOOKS, SILENT, Stalls, digest_of

LIMIT = 600.0
EVERY = LIMIT / LOOKS


class Server:
    """One that is busy. slots: what its /slots say; looks: when it was looked at."""

    def __init__(self, *, limit: float = LIMIT) -> None:
        self.stalls, self.limit = Stalls(), limit
        self.now, self.pid = 0.0, 1
        self.slots: bytes | None = b"[1]"
        self.looks: list[float] = []

    def works(self, seconds: float) -> float | None:
        """When it was found to be stalled, if it was."""
        end = self.now + seconds
        while self.now < end:
            self.now += 1
            if self.stalls.works("a", self.pid, self.now, limit=self.limit):
                self.looks.append(self.now)
                if self.stalls.looked("a", self.slots, limit=self.limit):
                    return self.now
        return None

    def rests(self, seconds: float) -> None:
        for _ in range(int(seconds)):
            self.now += 1
            self.stalls.rests("a", self.now)


def test_one_that_does_not_move_is_found_within_the_limit_and_two_looks() -> None:
    found = Server().works(9999)
    assert found is not None
    assert LIMIT <= found <= LIMIT + 2 * EVERY


def test_it_is_looked_at_seldom() -> None:
    server = Server()
    server.works(LIMIT)
    assert len(server.looks) in (LOOKS - 1, LOOKS)
    assert min(b - a for a, b in zip(server.looks, server.looks[1:], strict=False)) >= EVERY


def test_a_long_prompt_that_moves_is_left_alone() -> None:
    """Each batch takes almost as long as anything may."""
    server = Server()
    for batch in range(9):
        server.slots = b"[%d]" % batch
        assert server.works(LIMIT - 2 * EVERY) is None


def test_silence_is_no_movement_and_no_stall_before_its_time() -> None:
    """/slots is answered between two batches: one that takes minutes is silent, and then moves."""
    server = Server()
    server.works(EVERY)
    server.slots = SILENT
    assert server.works(LIMIT - 2 * EVERY) is None
    server.slots = b"[2]"
    assert server.works(LIMIT - 2 * EVERY) is None


@pytest.mark.parametrize("begins", [b"[1]", SILENT])
def test_one_that_says_nothing_at_all_is_stalled(begins: bytes) -> None:
    server = Server()
    server.slots = begins
    server.works(EVERY)
    server.slots = SILENT
    found = server.works(9999)
    assert found is not None
    assert found <= LIMIT + 2 * EVERY


def test_one_that_was_silent_and_is_where_it_was_has_not_moved() -> None:
    server = Server()
    server.works(2 * EVERY)
    server.slots = SILENT
    server.works(2 * EVERY)
    server.slots = b"[1]"
    assert server.works(LIMIT - 2 * EVERY) is not None


def test_one_that_does_not_tell_is_left_alone() -> None:
    server = Server()
    server.slots = None
    assert server.works(9 * LIMIT) is None


def test_pauses_do_not_count() -> None:
    """A silent look, an idle day, a silent look."""
    server = Server()
    server.slots = SILENT
    server.works(2 * EVERY)
    server.rests(86400)
    assert server.works(2 * EVERY) is None


def test_clients_that_come_and_go_do_not_hide_a_stall() -> None:
    server = Server()
    for _ in range(20):
        server.rests(2)
        if server.works(60) is not None:
            return
    pytest.fail("nobody noticed")


def test_a_proxy_that_was_stopped_itself_blames_nobody() -> None:
    server = Server()
    server.works(2 * EVERY)
    server.now += 10 * LIMIT
    assert server.works(2 * EVERY) is None


def test_a_new_process_begins_anew() -> None:
    server = Server()
    server.works(LIMIT - EVERY)
    server.pid = 2
    assert server.works(LIMIT - EVERY) is None


def test_what_is_restarted_is_forgotten() -> None:
    server = Server()
    server.works(LIMIT)
    server.stalls.forget("a")
    assert server.works(LIMIT - EVERY) is None
    assert not Stalls().looked("b", b"[1]", limit=LIMIT)


def test_what_a_look_says() -> None:
    assert digest_of(0, b"") == SILENT
    assert digest_of(200, b"[1]") == digest_of(200, b"[1]") != digest_of(200, b"[2]")
    assert {digest_of(501, b"{}"), digest_of(401, b"[]"), digest_of(200, b"<html>")} == {None}
