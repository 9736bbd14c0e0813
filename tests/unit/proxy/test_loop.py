"""proxy/loop.py: asyncio's loop in all it does, and a short way for watched descriptors."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support import ends
from support.ends import is_at_rest, rounds

from llmctl.proxy.loop import READ, WRITE, Loop

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator


def run(test: Callable[[Loop], Awaitable[None]]) -> None:
    async def bounded() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, Loop)
        await test(loop)

    ends.run(Loop, bounded)


@pytest.fixture
def pairs() -> Iterator[list[tuple[socket.socket, socket.socket]]]:
    """Made as they are asked for: pairs.append(ends.unix())."""
    found = [ends.unix() for _ in range(100)]
    yield found
    for pair in found:
        for end in pair:
            end.close()


Pairs = list[tuple[socket.socket, socket.socket]]


# As asyncio's


def test_what_is_called_soon_comes_in_order() -> None:
    async def test(loop: Loop) -> None:
        found: list[object] = []
        loop.call_soon(found.append, 1)
        loop.call_soon(found.append, 2)
        loop.call_soon(found.append, 3).cancel()
        await rounds(1)
        assert found == [1, 2]

    run(test)


def test_timers_come_in_order_and_not_too_early() -> None:
    async def test(loop: Loop) -> None:
        found: list[tuple[int, float]] = []
        done = asyncio.Event()
        began = loop.time()

        def rang(ms: int) -> None:
            found.append((ms, loop.time() - began))

        for ms in (9, 3, 6, 0):
            loop.call_later(ms / 1000, rang, ms)
        loop.call_later(0.004, rang, 4).cancel()
        loop.call_later(0.010, done.set)
        await done.wait()
        assert [ms for ms, _ in found] == [0, 3, 6, 9]
        resolution = time.get_clock_info("monotonic").resolution
        assert all(took + resolution >= ms / 1000 for ms, took in found)

    run(test)


def test_a_timeout_cuts_a_wait_short() -> None:
    async def test(loop: Loop) -> None:
        del loop
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await asyncio.Event().wait()

    run(test)


def test_another_thread_wakes_it() -> None:
    async def test(loop: Loop) -> None:
        done = asyncio.Event()
        thread = threading.Thread(target=loop.call_soon_threadsafe, args=(done.set,))
        loop.call_soon(thread.start)
        await done.wait()
        thread.join()
        assert await asyncio.to_thread(threading.get_ident) != threading.get_ident()

    run(test)


def test_a_signal_wakes_it() -> None:
    async def test(loop: Loop) -> None:
        done = asyncio.Event()
        loop.add_signal_handler(signal.SIGUSR1, done.set)
        loop.call_soon(os.kill, os.getpid(), signal.SIGUSR1)
        await done.wait()
        assert loop.remove_signal_handler(signal.SIGUSR1)

    run(test)


def test_readers_and_writers(pairs: Pairs) -> None:
    async def test(loop: Loop) -> None:
        ours, theirs = pairs[0]
        can_read, can_write = asyncio.Event(), asyncio.Event()
        loop.add_reader(ours, can_read.set)
        await rounds()
        assert not can_read.is_set()
        loop.add_writer(ours, can_write.set)
        await can_write.wait()
        assert loop.remove_writer(ours)
        theirs.send(b"x")
        await can_read.wait()
        assert loop.remove_reader(ours)
        assert not loop.remove_reader(ours)
        assert is_at_rest()

    run(test)


def test_streams_and_servers_work() -> None:
    async def test(loop: Loop) -> None:
        del loop

        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(await reader.read())
            writer.close()
            await writer.wait_closed()

        async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"x" * (1 << 20))
            writer.write_eof()
            assert len(await reader.read()) == 1 << 20
            writer.close()
            await writer.wait_closed()

    run(test)


def test_it_may_be_in_debug_mode(pairs: Pairs) -> None:
    async def test(loop: Loop) -> None:
        loop.set_debug(True)
        ours, theirs = pairs[0]
        heard = asyncio.Event()
        loop.watch(ours.fileno(), READ, lambda _: heard.set())
        theirs.send(b"x")
        await heard.wait()
        loop.watch(ours.fileno(), 0, lambda _: None)

    run(test)


def test_it_gives_its_descriptors_back(pairs: Pairs) -> None:
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = descriptors()
    loop = Loop()
    loop.watch(pairs[0][0].fileno(), READ, lambda _: None)
    loop.add_reader(pairs[1][0], lambda: None)
    assert descriptors() > before
    loop.close()
    loop.close()
    assert descriptors() == before
    assert pairs[0][0].fileno() >= 0  # it is not the loop's


# Watched


def counted(calls: list[int], end: socket.socket) -> Callable[[int], None]:
    """Reads one byte."""

    def ready(events: int) -> None:
        calls.append(events)
        end.recv(1)

    return ready


def test_it_is_called_while_there_is_something(pairs: Pairs) -> None:
    async def test(loop: Loop) -> None:
        ours, theirs = pairs[0]
        calls: list[int] = []
        loop.watch(ours.fileno(), READ, counted(calls, ours))
        await rounds()
        assert calls == []
        theirs.send(b"123")
        await rounds()
        assert calls == [READ] * 3
        loop.watch(ours.fileno(), 0, counted(calls, ours))
        theirs.send(b"4")
        await rounds()
        assert calls == [READ] * 3
        loop.watch(ours.fileno(), 0, counted(calls, ours))  # nothing
        loop.watch(ours.fileno(), READ, counted(calls, ours))
        await rounds()
        assert calls == [READ] * 4
        loop.watch(ours.fileno(), 0, counted(calls, ours))

    run(test)


def test_what_is_watched_may_change(pairs: Pairs) -> None:
    async def test(loop: Loop) -> None:
        ours, theirs = pairs[0]
        first: list[int] = []
        second: list[int] = []
        loop.watch(ours.fileno(), READ, first.append)
        loop.watch(ours.fileno(), WRITE, second.append)
        theirs.send(b"x")
        await rounds(1)
        assert first == []
        assert second == [WRITE]
        loop.watch(ours.fileno(), READ | WRITE, second.append)
        await rounds(1)
        assert second[-1] == READ | WRITE
        theirs.close()
        loop.watch(ours.fileno(), READ, first.append)
        await rounds(1)
        assert first[-1] & READ
        loop.watch(ours.fileno(), 0, first.append)
        assert is_at_rest()

    run(test)


def test_one_may_end_all_others(pairs: Pairs) -> None:
    async def test(loop: Loop) -> None:
        calls: list[int] = []

        def ready(_: int) -> None:
            calls.append(1)
            for ours, _theirs in pairs:
                loop.watch(ours.fileno(), 0, ready)

        for ours, theirs in pairs:
            theirs.send(b"x")
            loop.watch(ours.fileno(), READ, ready)
        await rounds()
        assert calls == [1]

    run(test)


def test_a_number_that_is_watched_anew_within_a_round(pairs: Pairs) -> None:
    """What was found of the connection before is told to the one after it: it must bear that."""

    async def test(loop: Loop) -> None:
        found: list[str] = []
        (one, their), (other, his) = pairs[:2]

        def replace(_: int) -> None:
            found.append("old")
            victim = other if not found[1:] else one
            for end in (one, other):
                loop.watch(end.fileno(), 0, replace)
            number = victim.fileno()
            victim.close()
            again = pairs[2][0].dup()
            assert again.fileno() == number
            pairs.append((again, pairs[2][1]))
            loop.watch(number, READ, lambda _: found.append("new"))
            loop.call_soon(loop.watch, number, 0, replace)

        for end in (one, other):
            loop.watch(end.fileno(), READ, replace)
        his.send(b"x")
        their.send(b"x")
        await rounds()
        assert found[0] == "old"
        assert found.count("old") == 1
        assert is_at_rest()

    run(test)


def test_more_than_are_taken_at_once_are_all_served(pairs: Pairs) -> None:
    async def test(loop: Loop) -> None:
        calls: dict[int, list[int]] = {}
        for ours, theirs in pairs:
            theirs.send(b"xx")
            calls[ours.fileno()] = []
            loop.watch(ours.fileno(), READ, calls[ours.fileno()].append)  # always ready
        await rounds(8)
        served = [len(some) for some in calls.values()]
        assert min(served) >= 3  # each in its turn
        assert max(served) <= min(served) + 2
        for ours, _ in pairs:
            loop.watch(ours.fileno(), 0, lambda _: None)

    run(test)


def test_readers_timers_and_threads_come_beside_what_is_always_ready(pairs: Pairs) -> None:
    async def test(loop: Loop) -> None:
        for ours, theirs in pairs[:-1]:
            theirs.send(b"x")
            loop.watch(ours.fileno(), READ, lambda _: None)
        ours, theirs = pairs[-1]
        reader, timer, thread, signalled = (asyncio.Event() for _ in range(4))
        theirs.send(b"x")
        loop.add_reader(ours, reader.set)
        loop.add_signal_handler(signal.SIGUSR1, signalled.set)
        loop.call_later(0.001, timer.set)
        await reader.wait()
        await timer.wait()
        await asyncio.to_thread(loop.call_soon_threadsafe, thread.set)
        await thread.wait()
        os.kill(os.getpid(), signal.SIGUSR1)
        await signalled.wait()
        loop.remove_reader(ours)
        for ours, _ in pairs[:-1]:
            loop.watch(ours.fileno(), 0, lambda _: None)

    run(test)


def test_a_reader_and_what_is_watched_come_in_one_round(pairs: Pairs) -> None:
    async def test(loop: Loop) -> None:
        found: set[str] = set()
        (watched, one), (read, other) = pairs[:2]
        loop.watch(watched.fileno(), READ, lambda _: found.add("watched"))
        loop.add_reader(read, found.add, "reader")
        one.send(b"x")
        other.send(b"x")
        await rounds(2)  # the first wakes this task before the reader is called
        assert found == {"watched", "reader"}
        loop.watch(watched.fileno(), 0, lambda _: None)
        loop.remove_reader(read)

    run(test)


def test_what_it_calls_soon_comes_in_the_same_round(pairs: Pairs) -> None:
    async def test(loop: Loop) -> None:
        found: list[str] = []
        (watched, theirs), soon = pairs[0], asyncio.Event()

        def ready(_: int) -> None:
            found.append("ready")
            loop.call_soon(soon.set)
            loop.watch(watched.fileno(), 0, ready)

        loop.watch(watched.fileno(), READ, ready)
        loop.call_later(5, found.append, "too late")
        theirs.send(b"x")
        await soon.wait()
        assert found == ["ready"]

    run(test)


@pytest.mark.parametrize("is_first", [False, True])
def test_what_is_watched_may_replace_a_reader_that_is_ready(pairs: Pairs, is_first: bool) -> None:
    async def test(loop: Loop) -> None:
        found: list[str] = []
        (watched, theirs), (read, other) = pairs[:2]

        def ready(_: int) -> None:
            loop.watch(watched.fileno(), 0, ready)
            if is_first:
                loop.remove_reader(read)
            loop.add_reader(read, found.append, "new")

        loop.add_reader(read, found.append, "old")
        await rounds()  # asyncio's own descriptor is the first to be found
        other.send(b"x")
        loop.watch(watched.fileno(), READ, ready)
        theirs.send(b"x")
        await rounds()
        assert "new" in found
        assert "old" not in found
        loop.remove_reader(read)

    run(test)


def test_what_is_watched_may_stop_the_loop(pairs: Pairs) -> None:
    ours, theirs = pairs[0]
    loop = Loop()
    with contextlib.closing(loop):
        loop.watch(ours.fileno(), READ, lambda _: loop.stop())
        theirs.send(b"x")
        loop.run_forever()


def test_an_exit_goes_through_it(pairs: Pairs) -> None:
    def leave(_: int) -> None:
        raise SystemExit(3)

    ours, theirs = pairs[0]
    loop: Any = Loop()
    with contextlib.closing(loop):
        loop.watch(ours.fileno(), READ, leave)
        theirs.send(b"x")
        with pytest.raises(SystemExit):
            loop.run_forever()
        loop.watch(ours.fileno(), 0, leave)
        loop.run_until_complete(rounds())
