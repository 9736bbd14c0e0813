"""A session of the guard with scripted servers: what a client gets, and what each attempt is
asked."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from support.speaking import name_of

from llmctl.core.guard.detector import Detector
from llmctl.core.guard.settings import GuardSettings
from llmctl.proxy.guard.plan import plan
from llmctl.proxy.guard.session import Session
from llmctl.proxy.guard.steps import Step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

ASKED: dict[str, dict[str, Any]] = {
    "chat": {"messages": [{"role": "user", "content": "Hi"}]},
    "completions": {"prompt": "Hi"}, "native": {"prompt": "Hi"},
    "messages": {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 9000},
    "responses": {"input": "Hi"},
}  # fmt: skip


def body_of(dialect: str, **more: Any) -> bytes:
    return json.dumps({"model": "coder", "stream": True, **ASKED[dialect], **more}).encode()


def session_of(dialect: str, body: bytes | None = None, **settings: Any) -> Session:
    body = body or body_of(dialect)
    found = plan(name_of(dialect), body, GuardSettings(**settings))
    assert found is not None
    return Session(found, Detector)


@dataclass
class Played:
    """out: what the client got. bodies: of the further attempts. controls: how often the server
    was told to end its reasoning. read: attempts of which something was read."""

    session: Session
    out: bytes = b""
    bodies: list[Any] = field(default_factory=list)
    controls: int = 0
    read: int = 0


def reads(stream: bytes, size: int) -> Iterator[bytes]:
    """Whole events, `size` in each read."""
    found = stream.split(b"\n\n")
    for at in range(0, len(found) - 1, size):
        yield b"\n\n".join(found[at : min(at + size, len(found) - 1)]) + b"\n\n"


def played(
    dialect: str, attempts: Sequence[bytes], *, size: int = 1, body: bytes | None = None,
    ends: Callable[[], bytes] | None = None, **settings: Any,
) -> Played:  # fmt: skip
    """ends: what the server sends once it was told to end its reasoning; None: it refuses."""
    asked = body or body_of(dialect)
    session = session_of(dialect, asked, **settings)
    found = Played(session)
    for stream in attempts:
        found.read += 1
        for data in reads(stream, size):
            found.out += session.feed(data)
            if session.wants is Step.END_REASONING:
                session.wants = None
                found.controls += 1
                found.out += session.not_ended() if ends is None else session.feed(ends())
                if ends is not None:
                    return found
            if session.wants not in (None, Step.NOTE):
                break
        if session.wants is not Step.RETRY:
            return found
        again = session.again(asked, ms=5.0)
        assert again is not None
        found.out += session.comment
        found.bodies.append(json.loads(again))
    return found
