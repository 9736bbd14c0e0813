"""Asks a llama-server how it is, through Host.dial. core.state says what the answers mean.

A GET of a few hundred bytes over one short connection: http.client would cost `llmctl status` a
third of its time for its email and ssl imports.
"""

import contextlib
import math
import time
from collections.abc import Mapping
from typing import Any

import msgspec

from llmctl.core.state import Answer, Health
from llmctl.host.base import Connection, Host

TIMEOUT_S = 2.0
_MOST_BYTES = 1 << 20
DRAFTED = "llamacpp:spec_decode_num_draft_tokens_total"
"""Of /metrics: tokens that were drafted since the server's start."""


def probe(host: Host, port: int, *, key: str | None = None) -> Answer:
    """What the port answers now, and under which alias.

    /health needs no API key; /v1/models does. It names the alias (`--alias`) as its first id.
    """
    status, _ = get(host, port, "/health")
    if status is None:
        return Answer(Health.SILENT)
    if status == 503:
        return Answer(Health.LOADING)
    if status != 200:
        return Answer(Health.ODD)
    status, body = get(host, port, "/v1/models", key=key)
    if status in (401, 403):
        return Answer(Health.READY, locked=True)
    if status != 200:
        return Answer(Health.LOADING)
    first = _first(body)
    return Answer(Health.READY, alias=_alias(first), ctx=_ctx(first))


def _first(body: bytes) -> Any:
    """The model that a server lists first: its own."""
    try:
        return msgspec.json.decode(body)["data"][0]
    except (msgspec.DecodeError, KeyError, IndexError, TypeError):
        return None


def _alias(model: Any) -> str | None:
    try:
        return str(model["id"])
    except (KeyError, TypeError):
        return None


def _ctx(model: Any) -> int | None:
    """Of one slot; builds before 2026 do not say it here."""
    try:
        found = model["meta"]["n_ctx"]
    except (KeyError, TypeError):
        return None
    return found if isinstance(found, int) and found > 0 else None


def counters(host: Host, port: int, *, key: str | None = None) -> dict[str, float]:
    """What the server's own /metrics has, by name and labels; empty: it has none, or is silent."""
    status, body = get(host, port, "/metrics", key=key)
    found: dict[str, float] = {}
    for line in body.decode(errors="replace").splitlines() if status == 200 else ():
        name, _, value = line.rpartition(" ")
        if name and not name.startswith("#"):
            with contextlib.suppress(ValueError):
                if math.isfinite(number := float(value)):
                    found[name] = number
    return found


def tokens_per_second(samples: Mapping[str, float]) -> float | None:
    """Speed of the last generations, as `counters` has it; None: it does not say."""
    speed = samples.get("llamacpp:predicted_tokens_seconds", 0.0)
    return speed if speed > 0 else None


def get(
    host: Host, port: int, path: str, *, key: str | None = None, timeout: float = TIMEOUT_S
) -> tuple[int | None, bytes]:
    """Status and body of a GET; (None, b"") when nobody answers within `timeout` seconds."""
    try:
        with contextlib.closing(host.dial(port, timeout=timeout)) as connection:
            connection.sendall(request(port, path, key=key))
            raw = _read_all(connection, deadline=time.monotonic() + timeout)
    except OSError:
        return None, b""
    top, _, body = raw.partition(b"\r\n\r\n")
    words = top.split(b" ", 2)
    known = len(words) > 1 and words[0].startswith(b"HTTP/") and words[1].isdigit()
    return (int(words[1]), body) if known else (None, b"")


def request(port: int, path: str, *, key: str | None = None) -> bytes:
    """A GET as it goes to a port."""
    secret = f"Authorization: Bearer {key}\r\n" if key else ""
    return f"GET {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\n{secret}\r\n".encode()


def _read_all(connection: Connection, *, deadline: float) -> bytes:
    """To the end of the stream: HTTP/1.0 closes after one answer."""
    pieces: list[bytes] = []
    size = 0
    while size < _MOST_BYTES:
        connection.settimeout(max(0.01, deadline - time.monotonic()))
        piece = connection.recv(65536)
        if not piece:
            break
        pieces.append(piece)
        size += len(piece)
    return b"".join(pieces)
