"""Reading the common event in a third of the time that a JSON parser needs.

llama-server writes the deltas of one text all alike: what differs is the text. So of one event that
was parsed, the bytes before and after its text are remembered; an event that begins and ends with
the same bytes, and has a piece of a JSON string between them, is the same JSON with another text.
That holds for every dialect and whatever other keys there are; an event of any other shape
(another second in `created`, a finish, two events at once) is parsed, and learned from.
"""

import msgspec

from llmctl.proxy.guard.event import Delta, Event, parsed

_PROBE = "llmctl probe ü"
_STRING = msgspec.json.Decoder(str)
SPECIAL = b'"\\\n'
"""What is not itself in a JSON string. To look for it in this way is the quickest in CPython."""


class Shape(msgspec.Struct, frozen=True):
    """What stands before and after the text."""

    before: bytes
    after: bytes

    def text(self, data: bytes) -> bytes | None:
        """The text of an event of this shape; None: it has another."""
        if not (data.startswith(self.before) and data.endswith(self.after)):
            return None
        text = data[len(self.before) : -len(self.after)]
        return text if text.translate(None, SPECIAL) == text else unescaped(text)


def unescaped(text: bytes) -> bytes | None:
    """The inside of a JSON string without its escapes; None: it is no inside of a string."""
    try:
        return _STRING.decode(b'"%b"' % text).encode()
    except (msgspec.DecodeError, UnicodeEncodeError):
        return None


def learned(event: Event, endpoint: str) -> Shape | None:
    """The shape of an event with one delta, if it can be told from one event."""
    if len(event.deltas) != 1 or event.ends:
        return None
    delta, raw = event.deltas[0], event.raw
    quoted = b'"%b"' % delta.text
    if delta.text.translate(None, SPECIAL) != delta.text or raw.count(quoted) != 1:
        return None
    at = raw.index(quoted) + 1
    found = Shape(raw[:at], raw[at + len(delta.text) :])
    return found if _holds(found, delta, endpoint) else None


def _holds(shape: Shape, delta: Delta, endpoint: str) -> bool:
    """Is what stands there really the text, and nothing but the text?"""
    probe = parsed(shape.before + _PROBE.encode() + shape.after, endpoint)
    return probe.deltas == (Delta(delta.choice, delta.channel, _PROBE.encode()),) and not probe.ends
