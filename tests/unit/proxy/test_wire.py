"""proxy/wire.py: one contract, which asyncio's own transport fulfils, too."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support import ends
from support.ends import MORE, Ear, is_at_rest, joined, read, rounds, run

from llmctl.proxy.connecting import connected
from llmctl.proxy.loop import Loop
from llmctl.proxy.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Iterator

Factory = type[asyncio.SelectorEventLoop]
Ends = tuple[socket.socket, socket.socket]

LONG = bytes(range(256)) * (MORE >> 8)


@pytest.fixture(params=[asyncio.SelectorEventLoop, Loop], ids=["asyncio", "wire"])
def loop(request: pytest.FixtureRequest) -> Factory:
    found: Factory = request.param
    return found


@pytest.fixture(params=[ends.unix, ends.tcp], ids=["unix", "tcp"])
def pair(request: pytest.FixtureRequest) -> Iterator[Ends]:
    found: Ends = request.param()
    yield found
    for end in found:
        end.close()


def told() -> list[dict[str, Any]]:
    """What the loop's exception handler is told from now on."""
    found: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: found.append(context))
    return found


def reset(end: socket.socket) -> None:
    """Close it as a process does that dies."""
    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    end.close()


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


# Bytes


def test_bytes_go_both_ways_in_order(loop: Factory, pair: Ends) -> None:
    async def test() -> None:
        one, other = await joined(pair[0]), await joined(pair[1])
        for number in range(100):
            one.transport.write(b"%d " % number)
            other.transport.write(bytearray(b"%d." % number))
            other.transport.write(memoryview(b"-"))
            other.transport.write(b"")
        one.transport.writelines([b"a", b"b"])
        await other.hears(b"".join(b"%d " % number for number in range(100)) + b"ab")
        await one.hears(b"".join(b"%d.-" % number for number in range(100)))
        one.transport.close()
        assert await one.ends() is await other.ends() is None
        assert one.said == ["made", "data", "lost"]
        assert other.said == ["made", "data", "eof", "lost"]

    run(loop, test)


def test_a_slow_reader_gets_all_and_the_writer_is_told(loop: Factory, pair: Ends) -> None:
    async def test() -> None:
        ear, theirs = await joined(pair[0]), pair[1]
        ear.transport.set_write_buffer_limits(high=1000, low=10)
        ear.transport.write(LONG)
        waiting = ear.transport.get_write_buffer_size()
        ear.transport.write(LONG)
        assert ear.transport.get_write_buffer_size() == waiting + MORE > 1000
        assert ear.said == ["made", "full"]
        assert await read(theirs, len(LONG)) == LONG
        assert ear.said == ["made", "full"]
        assert await read(theirs, len(LONG)) == LONG
        await ear.until(lambda: "drained" in ear.said)
        assert ear.transport.get_write_buffer_size() <= 10
        ear.transport.write(b"end")
        assert await read(theirs, 3) == b"end"
        assert ear.said == ["made", "full", "drained"]
        ear.transport.abort()
        await ear.ends()

    run(loop, test)


def test_pieces_go_out_in_order_whatever_the_kernel_takes(loop: Factory, pair: Ends) -> None:
    async def test() -> None:
        ear, theirs = await joined(pair[0]), pair[1]
        ear.transport.writelines([b"head", memoryview(LONG), LONG])
        assert ear.transport.get_write_buffer_size() > 0, "the kernel took all of it"
        ear.transport.writelines([b"more", LONG])
        ear.transport.writelines(one for one in (b"en", b"d"))
        sent = b"head" + 2 * LONG + b"more" + LONG + b"end"
        assert await read(theirs, len(sent)) == sent
        await ear.until(lambda: ear.transport.get_write_buffer_size() == 0)
        theirs.close()
        await ear.ends()
        ear.transport.writelines([b"to", b"nobody"])

    run(loop, test)


def test_the_limits_hold_at_once(loop: Factory, pair: Ends) -> None:
    async def test() -> None:
        ear = await joined(pair[0])
        ear.transport.set_write_buffer_limits(high=2 * MORE)
        ear.transport.write(LONG)
        assert ear.said == ["made"]
        ear.transport.set_write_buffer_limits(high=1000)
        assert ear.said == ["made", "full"]
        assert ear.transport.get_write_buffer_size() > 0
        ear.transport.abort()
        await ear.ends()

    run(loop, test)


def test_what_is_written_when_it_is_drained_comes_after(loop: Factory, pair: Ends) -> None:
    class Pump(Ear):
        left = 3

        def resume_writing(self) -> None:
            super().resume_writing()
            if self.left:
                self.left -= 1
                self.transport.write(LONG)
            if not self.left:
                self.transport.close()

    async def test() -> None:
        ear, theirs = await joined(pair[0], Pump()), pair[1]
        ear.transport.write(LONG)
        assert await read(theirs, 5 * MORE) == 4 * LONG
        assert await ear.ends() is None
        assert ear.said == ["made", *["full", "drained"] * 4, "lost"]

    run(loop, test)


@pytest.mark.parametrize("end", ["close", "abort", "write_eof"])
def test_it_may_end_when_it_is_drained(loop: Factory, pair: Ends, end: str) -> None:
    class Brief(Ear):
        def resume_writing(self) -> None:
            super().resume_writing()
            getattr(self.transport, end)()

    async def test() -> None:
        told()  # asyncio's own is lost twice, and fails at it
        ear, theirs = await joined(pair[0], Brief()), pair[1]
        ear.transport.set_write_buffer_limits(high=1000, low=0)
        ear.transport.write(LONG)
        assert await read(theirs, 2 * MORE) == LONG
        theirs.close()
        assert await ear.ends() is None
        await rounds()
        assert ear.said.count("lost") == ear.said.count("drained") == 1

    run(loop, test)


def test_nothing_is_read_while_it_is_paused(loop: Factory, pair: Ends) -> None:
    async def test() -> None:
        ear, theirs = await joined(pair[0]), pair[1]
        assert ear.transport.is_reading()
        ear.transport.pause_reading()
        ear.transport.pause_reading()
        theirs.send(b"later")
        await rounds()
        assert ear.said == ["made"]
        assert not ear.transport.is_reading()
        assert is_at_rest()
        ear.transport.resume_reading()
        ear.transport.resume_reading()
        await ear.hears(b"later")
        ear.transport.close()
        ear.transport.resume_reading()  # too late
        assert await ear.ends() is None

    run(loop, test)


def test_a_protocol_that_pauses_itself_hears_no_more(loop: Factory, pair: Ends) -> None:
    async def test() -> None:
        ear = Ear(does=lambda _: ear.transport.pause_reading())
        await joined(pair[0], ear)
        pair[1].send(b"x" * 100_000)  # more than one read takes
        await ear.until(lambda: ear.heard)
        await rounds()
        assert len(ear.heard) == 64 << 10
        ear.transport.resume_reading()
        await ear.hears(b"x" * 100_000)
        ear.transport.abort()
        await ear.ends()

    run(loop, test)


# Ends


def test_an_end_may_leave_the_other_direction_open(loop: Factory, pair: Ends) -> None:
    async def test() -> None:
        ear, theirs = await joined(pair[0], Ear(stays=True)), pair[1]
        theirs.send(b"question")
        theirs.shutdown(socket.SHUT_WR)
        await ear.until(lambda: "eof" in ear.said)
        ear.transport.resume_reading()  # it was not paused
        await rounds()
        assert is_at_rest()
        ear.transport.write(LONG)
        assert await read(theirs, MORE) == LONG
        ear.transport.close()
        assert await read(theirs, 1) == b""
        assert await ear.ends() is None
        assert [one for one in ear.said if one not in ("full", "drained")] == [
            "made", "data", "eof", "lost",
        ]  # fmt: skip

    run(loop, test)


def test_an_end_closes_when_what_was_written_is_out(loop: Factory, pair: Ends) -> None:
    async def test() -> None:
        ear, theirs = await joined(pair[0]), pair[1]
        ear.transport.write(LONG)
        theirs.shutdown(socket.SHUT_WR)
        await ear.until(lambda: "eof" in ear.said)
        assert ear.transport.is_closing()
        await rounds()
        assert not ear.errors
        assert await read(theirs, 2 * MORE) == LONG
        assert await ear.ends() is None
        assert ear.said == ["made", "full", "eof", "drained", "lost"]

    run(loop, test)


@pytest.mark.parametrize("data", [b"", b"short", LONG], ids=["nothing", "little", "much"])
def test_the_other_side_sees_an_end_after_the_last_byte(
    loop: Factory, pair: Ends, data: bytes
) -> None:
    async def test() -> None:
        ear, theirs = await joined(pair[0]), pair[1]
        assert ear.transport.can_write_eof()
        ear.transport.write(data)
        ear.transport.write_eof()
        ear.transport.write_eof()
        assert await read(theirs, 2 * MORE) == data
        theirs.send(b"answer")
        await ear.hears(b"answer")
        theirs.close()
        assert await ear.ends() is None
        assert ear.said[-3:] == ["data", "eof", "lost"]

    run(loop, test)


def test_what_is_written_after_the_end_is_not_sent(loop: Factory, pair: Ends) -> None:
    async def test() -> None:
        ear, theirs = await joined(pair[0]), pair[1]
        ear.transport.write(LONG)
        ear.transport.write_eof()
        with contextlib.suppress(RuntimeError):  # asyncio's own says that it is a mistake
            ear.transport.write(b"late")
        assert await read(theirs, 2 * MORE) == LONG
        ear.transport.close()
        assert await ear.ends() is None

    run(loop, test)


def test_close_sends_what_waits_and_ends_once(loop: Factory, pair: Ends) -> None:
    async def test() -> None:
        ear, theirs = await joined(pair[0]), pair[1]
        ear.transport.write(LONG)
        ear.transport.close()
        ear.transport.close()
        ear.transport.write_eof()  # nothing
        assert ear.transport.is_closing()
        assert not ear.transport.is_reading()
        assert await read(theirs, 2 * MORE) == LONG
        assert await ear.ends() is None
        await rounds()
        assert ear.said == ["made", "full", "drained", "lost"]

    run(loop, test)


def test_what_comes_after_close_is_not_heard(loop: Factory, pair: Ends) -> None:
    async def test() -> None:
        ear, theirs = await joined(pair[0]), pair[1]
        ear.transport.write(LONG)
        theirs.send(b"late")
        ear.transport.close()
        ear.transport.resume_reading()
        await rounds()
        assert ear.said == ["made", "full"]
        assert is_at_rest()
        ear.transport.abort()
        await ear.ends()

    run(loop, test)


def test_an_empty_connection_is_closed_in_the_next_round(loop: Factory, pair: Ends) -> None:
    async def test() -> None:
        ear, theirs = await joined(pair[0]), pair[1]
        ear.transport.close()
        assert ear.said == ["made"]
        await rounds(1)
        assert ear.said == ["made", "lost"]
        assert theirs.recv(1) == b""

    run(loop, test)


def test_abort_ends_it_at_once(loop: Factory, pair: Ends) -> None:
    async def test() -> None:
        ear, theirs = await joined(pair[0]), pair[1]
        ear.transport.write(LONG)
        ear.transport.abort()
        ear.transport.abort()
        ear.transport.close()
        assert ear.transport.get_write_buffer_size() == 0
        assert ear.transport.is_closing()
        await rounds(1)
        assert ear.errors == [None]
        assert len(await read(theirs, MORE)) < MORE
        await rounds()
        assert ear.errors == [None]

    run(loop, test)


def test_abort_does_not_wait_for_what_close_sends(loop: Factory, pair: Ends) -> None:
    async def test() -> None:
        ear = await joined(pair[0])
        ear.transport.write(LONG)
        ear.transport.close()
        await rounds()
        assert not ear.errors
        ear.transport.abort()
        await rounds()
        assert ear.errors == [None]

    run(loop, test)


def test_a_write_after_the_end_is_nothing(loop: Factory, pair: Ends) -> None:
    async def test() -> None:
        ear, theirs = await joined(pair[0]), pair[1]
        ear.transport.close()
        ear.transport.write(b"closed")
        await ear.ends()
        ear.transport.write(b"lost")
        assert await read(theirs, 100) == b""
        assert ear.said == ["made", "lost"]

    run(loop, test)


def test_a_reset_is_told_once(loop: Factory) -> None:
    async def test() -> None:
        ours, theirs = ends.tcp()
        ear = await joined(ours)
        reset(theirs)
        assert isinstance(await ear.ends(), ConnectionResetError)
        ear.transport.write(b"x")
        ear.transport.close()
        await rounds()
        assert ear.said == ["made", "lost"]

    run(loop, test)


@pytest.mark.parametrize("is_paused", [False, True])
def test_a_reset_ends_what_waits_to_be_sent(loop: Factory, is_paused: bool) -> None:
    async def test() -> None:
        ours, theirs = ends.tcp()
        ear = await joined(ours)
        ear.transport.write(LONG)
        if is_paused:
            ear.transport.pause_reading()
        reset(theirs)
        error = await ear.ends()
        assert isinstance(error, OSError)
        assert error.errno in (errno.ECONNRESET, errno.EPIPE)
        await rounds()
        assert ear.said == ["made", "full", "lost"]

    run(loop, test)


def test_a_write_to_nobody_ends_it(loop: Factory, pair: Ends) -> None:
    async def test() -> None:
        ear, theirs = await joined(pair[0]), pair[1]
        ear.transport.pause_reading()
        theirs.send(b"unread")
        if theirs.family == socket.AF_INET:
            reset(theirs)
        theirs.close()
        ear.transport.write(b"x")
        ear.transport.write(b"y")
        assert not ear.errors  # not within the call
        assert isinstance(await ear.ends(), OSError)
        await rounds()
        assert ear.said == ["made", "lost"]

    run(loop, test)


def test_an_answer_that_comes_before_the_reset_is_heard(loop: Factory, pair: Ends) -> None:
    """A server that refuses a long request before it has read it."""

    async def test() -> None:
        ear, theirs = await joined(pair[0]), pair[1]
        ear.transport.write(LONG)
        theirs.send(b"too long")
        theirs.close()  # with unread bytes
        assert isinstance(await ear.ends(), OSError)
        assert ear.said == ["made", "full", "data", "lost"]
        assert ear.heard == b"too long"

    run(loop, test)


# Protocols that fail, or end others


@pytest.mark.parametrize("error", [ValueError("bug"), asyncio.CancelledError()])
def test_a_protocol_that_fails_ends_only_itself(
    loop: Factory, pair: Ends, error: BaseException
) -> None:
    def fail(_: bytes) -> None:
        raise error

    async def test() -> None:
        contexts, (ours, theirs) = told(), ends.unix()
        failing, other = await joined(pair[0], Ear(does=fail)), await joined(ours)
        pair[1].send(b"x")
        theirs.send(b"y")
        await failing.ends()
        await other.hears(b"y")
        await rounds()
        assert failing.said == ["made", "data", "lost"]
        assert failing.errors == [error]
        assert [one["exception"] for one in contexts] == [error]
        assert contexts[0]["transport"] is failing.transport
        assert contexts[0]["protocol"] is failing
        other.transport.close()
        await other.ends()
        theirs.close()

    run(loop, test)


@pytest.mark.parametrize("callback", ["eof_received", "connection_lost"])
def test_a_protocol_may_fail_at_its_end(loop: Factory, pair: Ends, callback: str) -> None:
    async def test() -> None:
        contexts, ear = told(), await joined(pair[0], Failing(callback))
        pair[1].close()
        await ear.until(lambda: contexts)
        await rounds()
        assert [str(one["exception"]) for one in contexts] == [callback]
        assert ear.transport.get_extra_info("socket").fileno() == -1

    run(loop, test)


class Failing(Ear):
    """In one callback."""

    def __init__(self, callback: str) -> None:
        super().__init__()
        self._callback = callback

    def _note(self, what: str) -> None:
        super()._note(what)
        names = {
            "made": "connection_made", "eof": "eof_received", "full": "pause_writing",
            "drained": "resume_writing", "lost": "connection_lost",
        }  # fmt: skip
        if names.get(what) == self._callback:
            raise ValueError(self._callback)


@pytest.mark.parametrize("callback", ["connection_made", "pause_writing", "resume_writing"])
def test_whoever_writes_is_not_told_that_a_protocol_failed(
    loop: Factory, pair: Ends, callback: str
) -> None:
    async def test() -> None:
        contexts, ear = told(), await joined(pair[0], Failing(callback))
        ear.transport.write(LONG)
        with contextlib.suppress(ConnectionResetError):
            while not contexts:
                await read(pair[1], 1 << 16)
        assert [str(one["exception"]) for one in contexts] == [callback]
        ear.transport.abort()
        await ear.until(lambda: "lost" in ear.said)

    run(loop, test)


@pytest.mark.parametrize("end", ["close", "abort"])
def test_a_protocol_may_end_itself_while_it_hears(loop: Factory, pair: Ends, end: str) -> None:
    async def test() -> None:
        ear = Ear(does=lambda _: getattr(ear.transport, end)())
        await joined(pair[0], ear)
        pair[1].send(b"x" * 100_000)
        assert await ear.ends() is None
        await rounds()
        assert ear.said == ["made", "data", "lost"]
        assert len(ear.heard) == 64 << 10

    run(loop, test)


@pytest.mark.parametrize("end", ["close", "abort", "pause_reading"])
def test_a_protocol_may_end_another_while_both_have_something_to_hear(
    loop: Factory, end: str
) -> None:
    async def test() -> None:
        pairs = [ends.unix(), ends.unix()]
        ears: list[Ear] = []
        first = asyncio.get_running_loop().create_future()

        def end_others(_: bytes) -> None:
            first.set_result(None)
            for one in ears:
                if not one.heard:
                    getattr(one.transport, end)()

        ears += [await joined(ours, Ear(does=end_others)) for ours, _ in pairs]
        for _, theirs in pairs:
            theirs.send(b"x")
        await first
        await rounds()
        if loop is Loop:  # asyncio has queued the other callback already
            assert sorted(bytes(one.heard) for one in ears) == [b"", b"x"]
        for ear, (_, theirs) in zip(ears, pairs, strict=True):
            ear.transport.abort()
            await ear.ends()
            assert ear.said.count("lost") == 1
            theirs.close()

    run(loop, test)


# Descriptors


def test_descriptors_are_given_back(loop: Factory) -> None:
    async def test() -> None:
        before = descriptors()
        for end in ("close", "abort"):
            for make in (ends.unix, ends.tcp):
                ours, theirs = make()
                ear = await joined(ours)
                getattr(ear.transport, end)()
                await ear.ends()
                theirs.close()
        await rounds()
        assert descriptors() == before

    run(loop, test)


def test_a_number_that_is_used_again_is_another_connection(loop: Factory) -> None:
    async def test() -> None:
        numbers = set()
        for _ in range(20):
            ours, theirs = ends.unix()
            numbers.add(ours.fileno())
            ear = await joined(ours)
            theirs.send(b"x")
            await ear.hears(b"x")
            theirs.send(b"y")  # unread
            ear.transport.abort()
            await ear.ends()
            await rounds(1)
            theirs.close()
        assert len(numbers) == 1

    run(loop, test)


# Rest


@pytest.mark.parametrize("stays", [False, True])
@pytest.mark.parametrize("shuts", [False, True], ids=["both", "one"])
@pytest.mark.parametrize("gone", ["half", "closed", "reset"])
def test_nothing_spins_for_a_paused_connection(
    loop: Factory, pair: Ends, stays: bool, shuts: bool, gone: str
) -> None:
    async def test() -> None:
        ear, theirs = await joined(pair[0], Ear(stays=stays)), pair[1]
        await rounds()
        ear.transport.pause_reading()
        if shuts:
            ear.transport.write_eof()
        theirs.send(b"last")
        theirs.shutdown(socket.SHUT_WR)
        if gone == "reset" and theirs.family == socket.AF_INET:
            reset(theirs)
        if gone != "half":
            theirs.close()
        await rounds()
        assert is_at_rest()
        assert ear.said == ["made"]
        ear.transport.resume_reading()
        await ear.until(lambda: "eof" in ear.said or ear.errors)
        await rounds()
        assert is_at_rest()
        ear.transport.close()
        await ear.until(lambda: ear.errors)
        await rounds()
        assert ear.said.count("eof") + ear.said.count("lost") <= 2

    run(loop, test)


@pytest.mark.parametrize("shuts", [False, True])
def test_nothing_spins_after_an_end(loop: Factory, pair: Ends, shuts: bool) -> None:
    async def test() -> None:
        ear, theirs = await joined(pair[0], Ear(stays=True)), pair[1]
        theirs.shutdown(socket.SHUT_WR)
        if shuts:
            ear.transport.write_eof()
        await ear.until(lambda: "eof" in ear.said)
        await rounds()
        assert is_at_rest()
        ear.transport.resume_reading()
        await rounds()
        assert is_at_rest()
        assert ear.said == ["made", "eof"]
        ear.transport.close()
        await ear.ends()

    run(loop, test)


def test_nothing_spins_while_much_waits(loop: Factory, pair: Ends) -> None:
    async def test() -> None:
        ear, theirs = await joined(pair[0], Ear(stays=True)), pair[1]
        ear.transport.write(LONG)
        theirs.shutdown(socket.SHUT_WR)
        await ear.until(lambda: "eof" in ear.said)
        await rounds()
        assert is_at_rest()
        ear.transport.abort()
        await ear.ends()

    run(loop, test)


# What it knows


def test_it_knows_its_socket_and_both_addresses(loop: Factory) -> None:
    async def test() -> None:
        ours, theirs = ends.tcp()
        ear = await joined(ours)
        known = ear.transport.get_extra_info
        assert known("socket").fileno() == ours.fileno()
        assert known("peername") == theirs.getsockname()
        assert known("sockname") == theirs.getpeername()
        assert known("cipher") is None
        assert known("cipher", "none") == "none"
        ear.transport.close()
        await ear.ends()
        assert known("socket").fileno() == -1
        theirs.close()

    run(loop, test)


def test_it_connects_to_a_port(loop: Factory) -> None:
    async def test() -> None:
        with socket.create_server(("127.0.0.1", 0)) as door:
            ear = Ear()
            await connected(ear, door.getsockname()[1])
            assert isinstance(ear.transport, Wire) == (loop is Loop)
            theirs, _ = door.accept()
        ours: socket.socket = ear.transport.get_extra_info("socket")
        assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        theirs.send(b"hello")
        await ear.hears(b"hello")
        theirs.close()
        assert await ear.ends() is None

    run(loop, test)


def test_nobody_at_a_port(loop: Factory) -> None:
    async def test() -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))  # and does not listen
            before, ear = descriptors(), Ear()
            with pytest.raises(ConnectionRefusedError):
                await connected(ear, taken.getsockname()[1])
            await rounds()
            assert descriptors() == before
            assert ear.said == []

    run(loop, test)
