"""Joining attempts into one stream: what each dialect needs for that."""

from collections.abc import Callable
from typing import Protocol

from llmctl.core.guard.verdict import Channel
from llmctl.proxy.guard.event import Event

Sent = Callable[[Channel], bytes]
"""What the client has of a text of the first choice, so far."""


class Splice(Protocol):
    """The client's stream, of which it remembers what it must. completion: the id that the server
    knows the answer by, where it has told one."""

    completion: str | None

    def passed(self, event: Event) -> bytes:
        """An event goes out: as it is in the first attempt; of a further one, as it continues the
        first, which may be not at all."""
        ...

    def again(self) -> None:
        """The attempt has been cut; the next event is of another."""
        ...

    def said(self, words: str) -> bytes:
        """A piece of content of ours, where content is under way."""
        ...

    def stopped(self, words: str, tokens: int) -> bytes:
        """The rest of a stream that is stopped: the words, and an end that says `length`. tokens:
        of the last attempt."""
        ...


def passed(splice: Splice, event: bytes | Event) -> bytes:
    """What the client gets of it. Those of the common shape, which are all of a first attempt, say
    nothing new of the stream."""
    if isinstance(event, bytes):
        return event
    try:
        return splice.passed(event)
    except (KeyError, TypeError, AttributeError, ValueError, IndexError):
        return event.raw  # of a shape that nobody promised
