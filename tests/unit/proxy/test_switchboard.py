"""switchboard.py and relay.py: requests that wait, with a clock of the test's own."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from typing import TYPE_CHECKING, Any

import pytest
from support.alone import Alone
from support.asking import until

from llmctl.core.proxy_settings import ProxySettings
from llmctl.core.state import State
from llmctl.errors import HostError, LlmctlError, SwitchError
from llmctl.proxy.client import Client
from llmctl.proxy.fallback import there
from llmctl.proxy.keeper import Progress, Seen
from llmctl.proxy.routing import Far, Served
from llmctl.proxy.server import Proxy

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

EIGHT_MINUTES = 480


class Clock:
    """Time that passes when the test says so."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


class FakeKeeper(Alone):
    """A box with two models in one group, whose switches end when the test says so."""

    def __init__(self, **settings: Any) -> None:
        self.settings = ProxySettings(**settings)
        self.ready: str | None = None
        self.coming: str | None = None
        self.pid = 1
        self.blind: LlmctlError | None = None
        self.asked: list[str] = []
        self.restarted: list[str] = []
        self.may_end = threading.Event()
        self.fails: LlmctlError | None = None
        self.progress: Progress | None = None

    def look(self) -> Seen:
        if self.blind:
            raise self.blind
        states = {self.ready: State.READY, self.coming: State.LOADING}
        served = tuple(
            Served(name=n, group="gpu", port=1, state=states.get(n, State.STOPPED), pid=self.pid)
            for n in ("a", "b")
        )
        ready = {"gpu": self.ready} if self.ready else {}
        coming = {"gpu": self.coming} if self.coming else {}
        return Seen(served, ready, coming, self.settings)

    def switch(self, name: str, *, timeout: float, progress: Progress) -> None:
        del timeout
        self.asked.append(name)
        self.progress = progress
        assert self.may_end.wait(20)
        if self.fails:
            raise self.fails
        self.ready = name

    def restart(self, name: str) -> None:
        self.restarted.append(name)


class Wire(asyncio.Transport):
    """A client's connection, in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self.closed = False

    def write(self, data: Any) -> None:
        self.sent += bytes(data)

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def can_write_eof(self) -> bool:
        return False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return "" if name in ("peername", "sockname") else default  # as of a socket file


class Table:
    """A proxy, its box, and one client."""

    def __init__(self, keeper: FakeKeeper) -> None:
        self.keeper, self.clock = keeper, Clock()
        self.proxy = Proxy(keeper, now=self.clock)

    def client(self, *, model: str = "a", stream: bool = True) -> tuple[Client, Wire]:
        client, wire = Client(self.proxy), Wire()
        client.connection_made(wire)
        body = json.dumps({"model": model, "stream": stream, "messages": []}).encode()
        client.data_received(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        )
        return client, wire

    def pass_seconds(self, count: int) -> None:
        for _ in range(count):
            self.clock.seconds += 1
            self.proxy.pulse()

    async def until(self, predicate: Callable[[], object]) -> None:
        """Threads answer when they do."""

        async def holds() -> object:
            return predicate()

        await until(holds)


def on_a_table(play: Callable[[Table], Awaitable[None]], **settings: Any) -> FakeKeeper:
    """Runs a scene, and lets threads of the keeper end whatever comes."""
    keeper = FakeKeeper(**settings)

    async def scene() -> None:
        table = Table(keeper)
        await table.proxy.board.look()
        try:
            await play(table)
        finally:
            keeper.may_end.set()

    asyncio.run(scene())
    return keeper


def test_another_box_that_does_not_answer_gets_no_queue_here() -> None:
    async def play(table: Table) -> None:
        queues = set(table.proxy.board.queues)
        table.proxy.board.doubt(there(Far(box="attic", host="attic", port=1234, model="coder")))
        assert set(table.proxy.board.queues) == queues

    on_a_table(play)


def test_a_streaming_client_hears_something_each_ten_seconds_of_a_long_load() -> None:
    async def play(table: Table) -> None:
        _, wire = table.client()
        assert wire.sent.startswith(b"HTTP/1.1 200 OK\r\n")
        heard = [0]
        for second in range(1, EIGHT_MINUTES + 1):
            before = len(wire.sent)
            table.pass_seconds(1)
            if len(wire.sent) > before:
                heard.append(second)
        gaps = [b - a for a, b in zip(heard, [*heard[1:], EIGHT_MINUTES], strict=True)]
        assert max(gaps) <= 10
        assert set(re.findall(rb"(?:3\r\n:\n\n\r\n)+$", wire.sent)) != set()

    on_a_table(play)


def test_a_plain_client_just_waits() -> None:
    async def play(table: Table) -> None:
        _, wire = table.client(stream=False)
        table.pass_seconds(EIGHT_MINUTES)
        assert wire.sent == b""

    on_a_table(play)


def test_loading_messages_tell_how_far_it_is() -> None:
    async def play(table: Table) -> None:
        _, wire = table.client()
        await table.until(lambda: table.keeper.progress)
        assert table.keeper.progress is not None
        table.keeper.progress("loading", 0.41, 12.0)
        table.pass_seconds(1)
        assert b'"reasoning_content":"loading a, 41 %, 12 s\\n"' in wire.sent

    on_a_table(play, loading_messages=True)


def test_one_switch_at_a_time_serves_all_that_wait_for_it() -> None:
    async def play(table: Table) -> None:
        for _ in range(5):
            table.client()
        table.client(model="b")
        await table.until(lambda: table.keeper.asked)
        assert table.keeper.asked == ["a"]
        assert list(table.proxy.board.queues["gpu"].waiting) != []

    on_a_table(play)


def test_a_client_that_goes_while_it_waits_is_forgotten() -> None:
    async def play(table: Table) -> None:
        client, _ = table.client()
        assert len(table.proxy.relays) == 1
        client.connection_lost(None)
        assert not table.proxy.relays
        assert not table.proxy.board.queues["gpu"].waiting

    on_a_table(play)


@pytest.mark.parametrize("stream", [True, False])
def test_why_a_switch_failed_is_told(stream: bool) -> None:
    async def play(table: Table) -> None:
        table.keeper.fails = SwitchError("a did not start: out of memory.")
        _, wire = table.client(stream=stream)
        table.keeper.may_end.set()
        await table.until(lambda: b"out of memory" in wire.sent)
        status = b"HTTP/1.1 200 OK" if stream else b"HTTP/1.1 503 Service Unavailable"
        assert wire.sent.startswith(status)
        assert b'"type":"llmctl_switch_failed"' in wire.sent
        assert (b"Retry-After: 10" in wire.sent) != stream

    on_a_table(play)


def test_a_model_that_just_failed_is_not_tried_again_at_once() -> None:
    async def play(table: Table) -> None:
        table.keeper.fails = SwitchError("a did not start.")
        table.keeper.may_end.set()
        _, wire = table.client()
        await table.until(lambda: b"switch_failed" in wire.sent)
        _, second = table.client(stream=False)
        assert second.sent.startswith(b"HTTP/1.1 503 ")
        assert table.keeper.asked == ["a"]
        table.clock.seconds += 11
        table.client()
        await table.until(lambda: len(table.keeper.asked) == 2)

    on_a_table(play)


def test_without_autoswitch_the_command_to_type_is_told() -> None:
    async def play(table: Table) -> None:
        _, wire = table.client(stream=True)
        assert wire.sent.startswith(b"HTTP/1.1 409 Conflict\r\n")
        assert b"Type: llmctl switch a" in wire.sent
        assert not table.keeper.asked

    on_a_table(play, autoswitch=False)


def test_a_full_queue_says_so() -> None:
    async def play(table: Table) -> None:
        table.client()
        table.client(model="b")
        _, wire = table.client(model="b", stream=False)
        assert wire.sent.startswith(b"HTTP/1.1 503 ")
        assert b"llmctl_queue_full" in wire.sent

    on_a_table(play, max_queue=2)


def test_a_server_that_is_silent_in_the_same_process_is_restarted() -> None:
    async def play(table: Table) -> None:
        table.keeper.ready = "a"
        await table.proxy.board.look()
        table.keeper.ready, table.keeper.coming = None, "a"
        for _ in range(4):
            table.clock.seconds += 10
            await table.proxy.board.look()
        await table.until(lambda: table.keeper.restarted)

    assert on_a_table(play).restarted == ["a"]


def test_a_server_that_starts_anew_is_left_to_start() -> None:
    async def play(table: Table) -> None:
        table.keeper.ready = "a"
        await table.proxy.board.look()
        table.keeper.ready, table.keeper.coming, table.keeper.pid = None, "a", 2
        for _ in range(20):
            table.clock.seconds += 10
            await table.proxy.board.look()

    assert on_a_table(play).restarted == []


def test_a_box_that_cannot_be_seen_keeps_what_was_known() -> None:
    async def play(table: Table) -> None:
        table.keeper.ready = "a"
        await table.proxy.board.look()
        table.keeper.blind = HostError("systemd does not answer.")
        await table.proxy.board.look()
        assert table.proxy.board.problem == "systemd does not answer."
        assert table.proxy.table.active == {"gpu": "a"}

    on_a_table(play)
