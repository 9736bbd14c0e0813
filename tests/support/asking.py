"""Clients of the proxy: real sockets, no HTTP library between them and the bytes."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


@dataclass(frozen=True)
class Reply:
    """What a client read. ended: the body came to the end that its framing promises."""

    status: int
    head: bytes
    body: bytes
    ended: bool

    @property
    def served_by(self) -> str | None:
        return self.header("x-served-by")

    def header(self, name: str) -> str | None:
        for line in self.head.split(b"\r\n")[1:]:
            key, _, value = line.partition(b":")
            if key.decode().lower() == name:
                return value.strip().decode()
        return None

    @property
    def events(self) -> list[Any]:
        """The data of a stream's events, `[DONE]` as a text."""
        lines = [one[6:] for one in self.body.split(b"\n") if one.startswith(b"data: ")]
        return ["[DONE]" if one == b"[DONE]" else json.loads(one) for one in lines]

    @property
    def models(self) -> set[str]:
        """Which models say that they made this."""
        answers = self.events if self.header("content-type") == "text/event-stream" else [self.json]
        return {one["model"] for one in answers if isinstance(one, dict) and "model" in one}

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str | None:
        """The type of the error it is, or that its stream ended with."""
        answers = self.events if self.header("content-type") == "text/event-stream" else [self.json]
        for one in answers:
            if isinstance(one, dict) and "error" in one:
                return str(one["error"].get("type"))
        return None

    @property
    def is_whole(self) -> bool:
        """An answer of a model to its very end."""
        if self.status != 200 or not self.ended or self.error:
            return False
        stream = self.header("content-type") == "text/event-stream"
        return self.events[-1:] == ["[DONE]"] if stream else "choices" in self.json


def parsed(raw: bytes) -> Reply:
    """A reply on a connection that is closed after it."""
    head, mark, rest = raw.partition(b"\r\n\r\n")
    if not mark:
        return Reply(0, head, b"", ended=False)
    reply = Reply(int(head.split()[1]), head, rest, ended=False)
    length = reply.header("content-length")
    if length is not None:
        return Reply(reply.status, head, rest, ended=len(rest) == int(length))
    body, ended = _unchunked(rest)
    return Reply(reply.status, head, body, ended=ended)


def _unchunked(rest: bytes) -> tuple[bytes, bool]:
    body = b""
    while True:
        size, mark, rest = rest.partition(b"\r\n")
        if not mark:
            return body, False
        length = int(size, 16)
        if length == 0:
            return body, rest == b"\r\n"
        body, rest = body + rest[:length], rest[length + 2 :]


def question(
    model: str | None, text: str = "PLAIN", *, path: str = "/v1/chat/completions", **more: Any
) -> bytes:
    """A request, with its connection closed after the reply."""
    body: dict[str, Any] = {"messages": [{"role": "user", "content": text}], **more}
    body |= {"model": model} if model is not None else {}
    content = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


async def ask(
    port: int,
    request: bytes,
    *,
    seconds: float = 60.0,
    host: str = "127.0.0.1",
    flows: asyncio.Event | None = None,
) -> Reply:
    """Send a request, and read all that comes. flows: set once an event has come."""
    reader, writer = await asyncio.open_connection(host, port)
    raw = b""
    try:
        writer.write(request)
        async with asyncio.timeout(seconds):
            while flows is not None and b"\ndata: " not in raw:
                piece = await reader.read(4096)
                if not piece:
                    return parsed(raw)
                raw += piece
            if flows is not None:
                flows.set()
            return parsed(raw + await reader.read())
    finally:
        writer.close()


async def vanish(port: int, request: bytes, *, after: float, read: int) -> None:
    """Send a request, and go away: after so many seconds, or so many bytes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    try:
        async with asyncio.timeout(after):
            await reader.readexactly(read)
    except (TimeoutError, asyncio.IncompleteReadError):
        pass
    writer.transport.abort()


async def until(predicate: Callable[[], Awaitable[object]], *, seconds: float = 30.0) -> None:
    """kit/waiting.py's `eventually`, for what waits on an event loop."""
    async with asyncio.timeout(seconds):
        while not await predicate():  # noqa: ASYNC110  # what is looked at is another process
            await asyncio.sleep(0.005)


async def get(port: int, path: str) -> Reply:
    """A page."""
    return await ask(port, f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
