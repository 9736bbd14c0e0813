"""Large bodies and many connections, through a proxy in a process of its own: what goes through,
what it costs in memory, and what is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from kit.waiting import until
from support.liar import HANGS, Liar
from support.processes import Process, proxy_process
from support.wire import answers_in

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Scenario = Callable[[Liar, Process], Awaitable[None]]

MB = 1_000_000
JSON = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
EVENT = b"f\r\ndata: {\"x\":1}\n\n\r\n"  # fmt: skip
HEAD = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n%b\r\n\r\n"
)


def run(liar: Liar, scenario: Scenario) -> None:
    async def whole() -> None:
        async with liar:
            with await asyncio.to_thread(_entered, stack, liar.port) as process:
                async with asyncio.timeout(120):
                    await scenario(liar, process)

    with contextlib.ExitStack() as stack:
        asyncio.run(whole())


def _entered(stack: contextlib.ExitStack, port: int) -> contextlib.nullcontext[Process]:
    return contextlib.nullcontext(stack.enter_context(proxy_process(port)))


def image(nbytes: int, seed: int = 0) -> bytes:
    """JSON with something like an image in it."""
    noise = random.Random(seed).randbytes(1 << 16).hex().encode()
    inner = (noise * (nbytes // len(noise) + 1))[: nbytes - 24]
    return b'{"model":"coder","x":"%b"}' % inner


async def asked(port: int, head: bytes, body: bytes = b"") -> bytes:
    """One request, and the answer until the connection ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        sending = asyncio.ensure_future(_sent(writer, head + body))
        answer = await reader.read()
        await sending
        return answer
    finally:
        writer.close()


async def _sent(writer: asyncio.StreamWriter, data: bytes) -> None:
    with contextlib.suppress(ConnectionError):
        for at in range(0, len(data), 1 << 20):
            writer.write(data[at : at + (1 << 20)])
            await writer.drain()


def test_twenty_megabytes_arrive_as_they_were() -> None:
    async def scenario(liar: Liar, process: Process) -> None:
        body = image(20 * MB)
        length = b"Connection: close\r\nContent-Length: %d" % len(body)
        chunks = b"".join(
            b"%x\r\n%b\r\n" % (len(p), p)
            for p in (body[at : at + 70001] for at in range(0, len(body), 70001))
        )
        for framing, sent in [
            (length, body),
            (b"Connection: close\r\nTransfer-Encoding: chunked", chunks + b"0\r\n\r\n"),
        ]:
            answer = await asked(process.port, HEAD % framing, sent)
            assert answers_in(answer)[0][0].status_code == 200
            head, heard = liar.heard.pop()
            assert heard == body
            assert b"Content-Length: %d\r\n" % len(body) in head

    run(Liar([JSON]), scenario)


@pytest.mark.parametrize("framing", ["length", "chunks", "expect"])
def test_sixty_five_megabytes_are_refused_and_the_client_can_read_it(framing: str) -> None:
    """However much of them is on the way."""

    async def scenario(liar: Liar, process: Process) -> None:
        body = bytes(68 << 20)
        said = b"Content-Length: %d" % len(body)
        if framing == "chunks":
            said = b"Transfer-Encoding: chunked"
            body = (b"100000\r\n" + bytes(1 << 20) + b"\r\n") * 68
        elif framing == "expect":
            said, body = said + b"\r\nExpect: 100-continue", b""
        answer = await asked(process.port, HEAD % said, body)
        ((head, words),) = answers_in(answer)
        assert head.status_code == 413
        assert b'"type":"llmctl_body_too_large"' in words
        assert not liar.heard
        assert process.memory < 80 * MB

    run(Liar([JSON]), scenario)


def test_twenty_large_bodies_at_once_do_not_fill_the_memory() -> None:
    """400 MB are on their way, to a server that answers when all have come."""

    async def scenario(liar: Liar, process: Process) -> None:
        idle = process.memory
        wanted = {hashlib.sha256(image(20 * MB, n)).digest() for n in range(20)}
        length = HEAD % (b"Connection: close\r\nContent-Length: %d" % (20 * MB))
        most = 0

        async def watch() -> None:
            nonlocal most
            while True:
                most = max(most, process.memory - idle)
                await asyncio.sleep(0.02)

        watching = asyncio.ensure_future(watch())
        sent = (asked(process.port, length, image(20 * MB, n)) for n in range(20))
        answers = await asyncio.gather(*sent)
        watching.cancel()
        assert [answers_in(one)[0][0].status_code for one in answers] == [200] * 20
        assert {hashlib.sha256(body).digest() for _, body in liar.heard} == wanted
        print(f"20 bodies of 20 MB: {most / MB:.0f} MB over {idle / MB:.0f} MB")  # noqa: T201
        assert most < 60 * MB

    run(Liar([JSON]), scenario)


def test_a_client_that_does_not_read_fills_no_memory() -> None:
    """The server has 200 MB to say."""

    async def scenario(liar: Liar, process: Process) -> None:
        idle = process.memory
        reader, writer = await asyncio.open_connection("127.0.0.1", process.port, limit=1 << 16)
        writer.write(HEAD % b"Content-Length: 2" + b"{}")
        await until(lambda: liar.heard)
        await reader.readexactly(1000)
        (upstream,) = liar.open
        stuck = 0
        while stuck < 40:
            size = upstream.transport.get_write_buffer_size()
            await asyncio.sleep(0.01)
            stuck = stuck + 1 if size == upstream.transport.get_write_buffer_size() else 0
        assert process.memory - idle < 20 * MB
        writer.transport.abort()
        await until(lambda: not liar.open)

    event = b"data: " + b"x" * 60000 + b"\n\n"
    chunk = b"%x\r\n%b\r\n" % (len(event), event)
    run(Liar([STREAM + chunk * 3300, HANGS]), scenario)


def test_a_thousand_idle_connections_and_64_streams() -> None:
    """And when they have gone, they have left nothing."""

    async def scenario(liar: Liar, process: Process) -> None:
        await asked(process.port, HEAD % b"Connection: close\r\nContent-Length: 2", b"{}")
        idle, descriptors = process.memory, process.descriptors
        ends = [await asyncio.open_connection("127.0.0.1", process.port) for _ in range(1064)]
        for n, (_, writer) in enumerate(ends):
            stream = HEAD % b"Content-Length: 15" + b'{"stream":true}'
            writer.write(stream if n < 64 else b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        for n, (reader, _) in enumerate(ends):
            await reader.readuntil(b'{"x":1}' if n < 64 else b'{"status":"ok"}')
        used = process.memory - idle
        assert process.descriptors > 1064 + 64
        print(f"1000 idle connections and 64 streams: {used / MB:.1f} MB over {idle / MB:.1f} MB")  # noqa: T201
        assert used < 30 * MB
        for n, (_, writer) in enumerate(ends):
            (writer.transport.abort if n % 2 else writer.close)()
        await until(lambda: len(liar.open) == 0)
        await until(lambda: process.descriptors <= descriptors)

    run(Liar([JSON], [STREAM + EVENT, HANGS]), scenario)


def test_the_program_starts_without_what_it_does_not_need() -> None:
    """A start is short, and afterwards garbage is collected as ever."""
    code = (
        "import gc, sys, llmctl.proxy.__main__ as program; from llmctl.proxy import lean;"
        "assert not gc.isenabled(); lean.imported(); assert gc.isenabled();"
        "assert gc.get_freeze_count() and gc.get_threshold()[0] == 10_000;"
        "assert sys.getswitchinterval() <= 0.001;"
        "assert 'typing_extensions' not in sys.modules; import typing_extensions"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
