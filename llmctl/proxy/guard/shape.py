"""Reading the common event in a third of the time that a JSON parser needs.

llama-server writes the deltas of one text all alike: what differs is the text. So of one event that
was parsed, the bytes before and after its text are remembered; an event that begins and ends with
the same bytes, and has a piece of a JSON string between them, is the same JSON with another text.
Of several such events in a row all texts are read at once.
That holds for every dialect and whatever other keys there are; an event of any other shape (a
finish) is parsed, and learned from. Where but an id or a time is another one (each second; the next
answer), the shape is renewed.
"""

import re
from typing import Self

import msgspec

from llmctl.core.guard.verdict import Channel
from llmctl.proxy.guard.event import Delta, Event, parsed

_PROBE = "llmctl probe ü"
_STRINGS = msgspec.json.Decoder(list[str])
SPECIAL = b'"\\\n'
"""What is not itself in a JSON string. To look for it in this way is the quickest in CPython."""


VARIES = re.compile(rb'"(?:created":\d+|id":"[\w-]*")')
"""An id or a time, in which nothing can begin or end."""


class Shape:
    """What stands before and after the text; between: what stands between two texts. choice,
    channel: whose text it is."""

    __slots__ = (
        "_every", "_from", "_lasting", "_line", "_to", "after", "before", "between", "channel",
        "choice",
    )  # fmt: skip

    def __init__(
        self, before: bytes, after: bytes, choice: int = 0, channel: Channel = Channel.CONTENT,
        lasting: bytes | None = None,
    ) -> None:  # fmt: skip
        self.before, self.after, self.between = before, after, after + before
        self.choice, self.channel = choice, channel
        self._lasting = lasting
        self._line, self._every = before.count(b"\n"), self.between.count(b"\n")
        self._from, self._to = len(before) - before.rfind(b"\n") - 1, -after.find(b"\n")

    def renewed(self, data: bytes) -> Self | None:
        """The shape of one event that differs from it in an id or a time, after the text."""
        after = data[-len(self.after) :]
        if not data.startswith(self.before) or len(data) < len(self.before) + len(after):
            return None
        if self._lasting is None:
            self._lasting = VARIES.sub(b"", self.after)
        if VARIES.sub(b"", after) != self._lasting or data.count(b"\n\n") != 1:
            return None
        return type(self)(self.before, after, self.choice, self.channel, self._lasting)

    def told(self, data: bytes) -> list[str] | None:
        """The texts of one event or of several, each of this shape; None: they are something else.

        A text has no line end in it (JSON escapes them), so by lines all can be found at once; and
        put together again they must be what came. Escapes that would join two texts change how many
        there are."""
        whole = data[len(self.before) : -len(self.after)]
        inside = [whole] if b"\n" not in whole else self._inside(data)
        if len(inside) > 1 and self.between.join(inside) != whole:
            return None
        try:
            found = _STRINGS.decode(b'["%b"]' % b'","'.join(inside))
        except (msgspec.DecodeError, ValueError):
            return None
        return found if len(found) == len(inside) else None

    def _inside(self, data: bytes) -> list[bytes]:
        """What is between the quotes of each."""
        start, end = self._from, self._to
        lines = data.split(b"\n")
        return [line[start:end] for line in lines[self._line : -1 : self._every]]

    def events(self, data: bytes) -> list[bytes]:
        """One by one."""
        return [b"%b%b%b" % (self.before, one, self.after) for one in self._inside(data)]


def learned(event: Event, endpoint: str) -> Shape | None:
    """The shape of an event with one delta, if it can be told from one event."""
    if len(event.deltas) != 1 or event.ends:
        return None
    delta, raw = event.deltas[0], event.raw
    quoted = b'"%b"' % delta.text
    if delta.text.translate(None, SPECIAL) != delta.text or raw.count(quoted) != 1:
        return None
    at = raw.index(quoted) + 1
    found = Shape(raw[:at], raw[at + len(delta.text) :], delta.choice, delta.channel)
    return found if _holds(found, delta, endpoint) else None


def _holds(shape: Shape, delta: Delta, endpoint: str) -> bool:
    """Is what stands there really the text, and nothing but the text?"""
    probe = parsed(shape.before + _PROBE.encode() + shape.after, endpoint)
    return probe.deltas == (Delta(delta.choice, delta.channel, _PROBE.encode()),) and not probe.ends
