"""Streams of events that a real llama-server sent (0.7.0, kit/mkgguf.py's scripted model)."""

from __future__ import annotations

from pathlib import Path

import msgspec

DATA = Path(__file__).resolve().parents[1] / "data" / "sse"
PATHS = {
    "chat": b"/v1/chat/completions", "completions": b"/v1/completions", "messages": b"/v1/messages",
    "responses": b"/v1/responses", "completions-native": b"/completion",
}  # fmt: skip
RECORDED = sorted(one.stem for one in DATA.glob("*.txt"))
EXCEEDED = b'{"code":500,"message":"Context size has been exceeded.","type":"server_error"}'
"""What it says when the context is full for all slots; SEEN on the four endpoints."""
ERRORS = {
    "chat": b'data: {"error":%b}\n\n' % EXCEEDED,
    "completions": b'data: {"error":%b}\n\n' % EXCEEDED,
    "messages": b"event: error\ndata: %b\n\n" % EXCEEDED,
    "responses": b'data: {"error":%b}\n\n' % EXCEEDED,
}


def recorded(name: str) -> bytes:
    return (DATA / f"{name}.txt").read_bytes()


def path_of(name: str) -> bytes:
    """The endpoint that a recorded stream is from."""
    return PATHS.get(name) or PATHS[name.partition("-")[0]]


def events(body: bytes) -> list[tuple[str, object]]:
    """The events of a body, as a client reads them: name and data. Comments are none."""
    found: list[tuple[str, object]] = []
    for block in body.replace(b"\r\n", b"\n").split(b"\n\n")[:-1]:
        fields = [line.partition(b":") for line in block.split(b"\n")]
        data = b"\n".join(value.removeprefix(b" ") for name, _, value in fields if name == b"data")
        name = next((v.strip().decode() for n, _, v in fields if n == b"event"), "message")
        if data:
            found.append((name, data if data == b"[DONE]" else msgspec.json.decode(data)))
    return found
