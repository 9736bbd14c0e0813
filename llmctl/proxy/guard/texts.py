"""The texts of one answer, each watched by a detector of its own."""

import sys
from typing import Protocol

from llmctl.core.guard.verdict import Channel, Loop
from llmctl.proxy.guard.known import Knowing

MOST_KEPT = 8 << 20
"""Bytes of a text that are kept, for a second attempt; a longer one is watched no further."""


class Watching(Protocol):
    """A detector (core/guard)."""

    safe: int

    @property
    def loop(self) -> Loop | None:
        """Set once it is certain."""
        ...

    def feed(self, piece: bytes) -> int:
        """How much of the text may be shown."""
        ...


class Makes(Protocol):
    """Who makes detectors."""

    def __call__(self, channel: Channel, *, window: int) -> Watching:
        """A new one."""
        ...


class Text:
    """One text: a channel of a choice. total: bytes that came; sent: of them, those that went to
    the client, or may go. uncounted: tokens that came, but for one a piece. feed: of its
    detector. is_watched: False once nothing is asked of it."""

    __slots__ = (
        "_ahead", "_blocks", "before", "channel", "choice", "detector", "feed",
        "is_watched", "pieces", "sent", "total", "uncounted",
    )  # fmt: skip

    def __init__(self, choice: int, channel: Channel, detector: Watching) -> None:
        self.choice, self.channel = choice, channel
        self.detector = detector
        self.feed = detector.feed
        self.pieces: list[bytes] = []
        self._blocks: list[bytes] = []
        """What it repeated in earlier attempts."""
        self.total = self.sent = self.uncounted = 0
        self._ahead = 0
        """Bytes that its detector knows and the client has not."""
        self.before = 0
        """Tokens that earlier attempts gave."""
        self.is_watched = True

    def take(self, piece: bytes, count: int = 1) -> bool:
        """More of it, so many tokens. May it go out?"""
        self.pieces.append(piece)
        self.uncounted += count - 1
        self.total += len(piece)
        return self.feed(piece) >= self.total and self.total <= MOST_KEPT

    def give_back(self, sizes: list[int]) -> None:
        """The last tokens are to come again. sizes: theirs, in bytes."""
        size = sum(sizes)
        self.pieces[-1] = self.pieces[-1][:-size]
        self.uncounted -= len(sizes)
        self.total -= size

    def certain_after(self, sizes: list[int]) -> int:
        """Of the last tokens, of these sizes: with how many it was certain to be a loop, or all."""
        loop, end = self.detector.loop, self.total - sum(sizes)
        if loop is not None:
            for number, size in enumerate(sizes, 1):
                end += size
                if end >= loop.start + loop.span:
                    return number
        return len(sizes)

    @property
    def tokens(self) -> int:
        """As many as this attempt has given."""
        return self.count - self.before

    @property
    def count(self) -> int:
        """The tokens of all attempts, about: a server sends one at a time."""
        return len(self.pieces) + self.uncounted

    def seen(self) -> bytes:
        """What the client has of it."""
        return b"".join(self.pieces)[: self.sent - self._ahead]

    def again(self, detector: Watching, looped: Loop | None) -> None:
        """Another attempt goes on. Its detector knows what the client has, so that what is begun
        anew counts as what it is: one more copy. looped: where this text did; the detector has then
        seen two whole copies, for a model mostly begins a block at its beginning. Of a block that
        the client has twice nothing more goes out while it repeats itself."""
        seen = known = self.seen()
        if looped is not None and looped.kind == "exact":
            block = seen[looped.start : looped.start + looped.block]
            known = seen[: looped.start] + 2 * block
            self._blocks += [block] if block else []
        for block in self._blocks:
            detector = Knowing(detector, block)
        self.detector, self.feed = detector, detector.feed
        self.before = self.count
        self.uncounted, self.pieces = self.before - 1, [seen]
        self.total = self.sent = len(known)
        self._ahead = len(known) - len(seen)
        self.feed(known)

    def release(self) -> None:
        """Ask nothing more of it."""
        self.is_watched, self.feed = False, _never


def _never(piece: bytes) -> int:
    """All of it may be shown, whatever it is."""
    del piece
    return sys.maxsize


class Texts:
    """All texts of an answer."""

    __slots__ = ("_detector", "_reasoned", "_texts", "_window")

    def __init__(self, detector: Makes, window: int) -> None:
        self._detector, self._window = detector, window
        self._texts: dict[tuple[int, Channel], Text] = {}
        self._reasoned = 0

    def of(self, choice: int, channel: Channel) -> Text:
        """One of them; a new one is empty."""
        text = self._texts.get((choice, channel))
        if text is None:
            text = self._texts[choice, channel] = Text(choice, channel, self._made(channel))
        return text

    def _made(self, channel: Channel) -> Watching:
        return self._detector(channel, window=self._window)

    def seen(self, channel: Channel, choice: int = 0) -> bytes:
        """What the client has of it."""
        text = self._texts.get((choice, channel))
        return text.seen() if text is not None else b""

    @property
    def tokens(self) -> int:
        """About as many as this attempt has given."""
        return sum(text.tokens for text in self._texts.values())

    @property
    def reasoning_tokens(self) -> int:
        """Of all attempts, those that were reasoning."""
        return self._reasoned + self._of_attempt()

    def _of_attempt(self) -> int:
        found = [text for text in self._texts.values() if text.channel is Channel.REASONING]
        return sum(text.tokens for text in found)

    @property
    def has_called(self) -> bool:
        """Has the client got any part of a tool call?"""
        return any(one.channel is Channel.TOOL and one.sent for one in self._texts.values())

    @property
    def is_single(self) -> bool:
        """Is there one choice?"""
        return len({one.choice for one in self._texts.values() if one.total}) == 1

    def again(self, looping: Text, loop: Loop) -> None:
        """Another attempt goes on. looping: the text that did."""
        self._reasoned += self._of_attempt()
        for text in self._texts.values():
            text.again(self._made(text.channel), loop if text is looping else None)
