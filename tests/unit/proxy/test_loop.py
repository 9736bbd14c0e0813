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

from llmctl.proxy.loop import READ, WRITE, Loop, at_leisure

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator


def run(test: Callable[[Loop], Awaitable[None]]) -> None:
    async def bounded() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, Loop)
        began = loop.time()
        await test(loop)
        assert loop.time() - began < 20, "it slept until it was to be given up"

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


# Put off


def test_what_is_put_off_a_little_comes_in_order_and_without_a_wait() -> None:
    async def test(loop: Loop) -> None:
        found: list[object] = []
        loop.soon(lambda: found.append(1))

        def second() -> None:
            found.append(2)
            loop.soon(lambda: found.append(4))

        loop.soon(second)
        loop.soon(lambda: found.append(3))
        loop.call_later(0.01, found.append, "later")
        began = loop.time()
        await rounds(1)
        assert found == [1, 2, 3, 4]
        await asyncio.sleep(0.02)
        assert found == [1, 2, 3, 4, "later"]
        assert loop.time() - began < 5

    run(test)


def test_what_is_called_may_put_something_off(pairs: Pairs) -> None:
    """It comes after all that is called with it, and wakes asyncio if it wants to."""

    async def test(loop: Loop) -> None:
        found: list[object] = []
        done = asyncio.Event()

        def heard(number: int) -> Callable[[int], None]:
            def ready(events: int) -> None:
                del events
                pairs[number][0].recv(9)
                found.append(number)
                loop.soon(lambda: found.append("soon"))
                if number == 2:
                    loop.soon(done.set)

            return ready

        for number in range(3):
            loop.watch(pairs[number][0].fileno(), READ, heard(number))
            pairs[number][1].send(b"x")
        await done.wait()
        assert found == [0, 1, 2, "soon", "soon", "soon"]

    run(test)


async def leisure(loop: Loop) -> None:
    """Until all that was put off until now has been done."""
    done = asyncio.Event()
    loop.at_leisure(done.set)
    await done.wait()


def test_at_leisure_is_when_nothing_has_come(pairs: Pairs) -> None:
    async def test(loop: Loop) -> None:
        found: list[object] = []

        def heard(events: int) -> None:
            del events
            pairs[0][0].recv(1)
            found.append("heard")

        pairs[0][1].send(b"xyz")
        loop.watch(pairs[0][0].fileno(), READ, heard)
        for word in ("one", "two"):
            loop.at_leisure(lambda word=word: found.append(word))  # type: ignore[misc]
        await leisure(loop)
        assert found == ["heard"] * 3 + ["one", "two"]

    run(test)


def test_what_comes_between_two_pieces_of_work_does_not_wait_for_the_second(pairs: Pairs) -> None:
    async def test(loop: Loop) -> None:
        found: list[object] = []

        def heard(events: int) -> None:
            del events
            found.append(pairs[0][0].recv(1))

        loop.watch(pairs[0][0].fileno(), READ, heard)
        loop.at_leisure(lambda: pairs[0][1].send(b"x"))
        loop.at_leisure(lambda: found.append("second"))
        await leisure(loop)
        assert found == [b"x", "second"]

    run(test)


def test_callbacks_of_asyncio_come_before_leisure() -> None:
    async def test(loop: Loop) -> None:
        found: list[object] = []
        loop.at_leisure(lambda: found.append("at leisure"))
        for number in range(3):
            await asyncio.sleep(0)
            found.append(number)
        await leisure(loop)
        assert found == [0, 1, 2, "at leisure"]

    run(test)


def test_what_work_calls_soon_comes_before_leisure() -> None:
    async def test(loop: Loop) -> None:
        found: list[object] = []
        loop.at_leisure(lambda: found.append("at leisure"))
        loop.soon(lambda: loop.call_soon(found.append, "called"))
        await leisure(loop)
        assert found == ["called", "at leisure"]

    run(test)


@pytest.mark.parametrize("each", [1, 3])
def test_work_does_not_wait_for_ever_where_there_is_no_leisure(pairs: Pairs, each: int) -> None:
    """Something is always there to be read: no more than 64 pieces of work wait."""

    async def test(loop: Loop) -> None:
        done: list[int] = []
        waiting: list[int] = []
        over = asyncio.Event()

        def heard(events: int) -> None:
            del events
            for _ in range(each):
                waiting.append(len(done) + len(waiting))
                loop.at_leisure(lambda: done.append(waiting.pop(0)))
            if len(done) + len(waiting) > 500:
                over.set()

        pairs[0][1].send(b"x")
        loop.watch(pairs[0][0].fileno(), READ, heard)
        await over.wait()
        loop.watch(pairs[0][0].fileno(), 0, heard)
        assert len(waiting) in range(60, 70)
        assert done == sorted(done)
        await leisure(loop)
        assert not waiting

    run(test)


@pytest.mark.parametrize("how", ["soon", "at_leisure"])
@pytest.mark.parametrize("error", [ValueError("no"), asyncio.CancelledError()])
def test_work_that_fails_fails_alone(how: str, error: BaseException) -> None:
    async def test(loop: Loop) -> None:
        told: list[object] = []
        done = asyncio.Event()
        loop.set_exception_handler(lambda _, context: told.append(context["exception"]))

        def fails() -> None:
            raise error

        for work in (fails, done.set):
            getattr(loop, how)(work)
        await done.wait()
        assert told == [error]

    run(test)


def test_in_another_loop_or_in_none_it_is_done_now() -> None:
    found: list[int] = []

    async def test() -> None:
        at_leisure(lambda: found.append(2))
        assert found == [1, 2]

    at_leisure(lambda: found.append(1))
    ends.run(asyncio.SelectorEventLoop, test)

    async def later(loop: Loop) -> None:
        at_leisure(lambda: found.append(3))
        assert found == [1, 2]
        await leisure(loop)
        assert found == [1, 2, 3]

    run(later)
