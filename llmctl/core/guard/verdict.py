"""What the guard's detectors are asked about, and what they say."""

import enum
from typing import Literal

import msgspec


class Channel(enum.Enum):
    """Where a text stands: each choice of an answer has one stream of text per channel."""

    REASONING = "reasoning"
    CONTENT = "content"
    TOOL = "tool"
    """The arguments of tool calls."""

    __hash__ = object.__hash__  # there is one of each; Enum's own is a call of Python's


class Loop(msgspec.Struct, frozen=True):
    """A loop that is certain. Offsets and lengths are in bytes of UTF-8, from the start of the
    channel's text: its first copy begins at `start`, each is `block` long (of copies that differ:
    the mean), and `span` bytes of it had come when it became certain. kind: copies that are equal,
    copies that differ a little (a counter, a word), or a text that never ends."""

    kind: Literal["exact", "drift", "endless"]
    start: int
    block: int
    span: int

    @property
    def copies(self) -> float:
        """How many copies had come."""
        return self.span / self.block

    @property
    def cut(self) -> int:
        """Where a cut leaves one copy: what comes after it was said before. Not within a
        character if the copies are equal; copies that differ have no exact end."""
        return self.start + self.block
