"""tests/bench/proxy_runner.py: what the benchmarks start is still a proxy that answers."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from support.asking import ask, until
from support.liar import NAMED, Liar
from usermgr.site import free_port

if TYPE_CHECKING:
    from support.asking import Reply

TESTS = Path(__file__).resolve().parents[2]
RUNNER = TESTS / "bench" / "proxy_runner.py"
ANSWER = b'{"choices":[{"message":{"content":"hi"}}]}'
WHOLE = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
BENCH = NAMED.replace(b'"coder"', b'"bench"')
QUESTION = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    b"Authorization: Bearer bench-key-0123456789\r\nContent-Length: 15\r\n\r\n"
    b'{"messages":[]}'
)


async def listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionRefusedError:
        return False
    writer.close()
    return True


async def served(log: Path) -> Reply:
    """What the runner answers."""
    port = free_port()
    async with Liar([WHOLE % (len(ANSWER), ANSWER)], named=[BENCH]) as liar:
        argv = [sys.executable, str(RUNNER), str(port), str(liar.port), str(log)]
        path = f"{TESTS}:{TESTS.parent}"
        runner = await asyncio.create_subprocess_exec(*argv, env={"PYTHONPATH": path})
        try:
            await until(lambda: listens(port))
            return await ask(port, QUESTION)
        finally:
            runner.kill()
            await runner.wait()


def test_the_runner_of_the_benchmarks_serves(tmp_path: Path) -> None:
    reply = asyncio.run(served(tmp_path / "requests.jsonl"))
    assert (reply.status, reply.served_by) == (200, "bench")
    assert reply.body == ANSWER
