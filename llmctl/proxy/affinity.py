"""Which conversation a request belongs to: so that it goes where its prompt is cached.

A client that names its session in a header is believed (Claude Code and OpenCode do). Else the
messages tell: a digest of each prefix of their list, so the longest one that was seen before says
which instance has most of the prompt. Digests are of the JSON's bytes, as clients send a message
the same way each time; who does not is served as well, only not as fast.
"""

from collections import OrderedDict
from mmap import mmap

import msgspec

from llmctl.proxy.head import Request

SESSIONS = (b"x-session-id", b"x-session-affinity", b"x-claude-code-session-id")
MOST_BODY = 4 << 20
"""Bytes of a body that is looked into (5 ms of the loop's time)."""
MOST_KEYS = 128
"""Prefixes of one list that count: the longest ones."""
MOST_KNOWN = 1 << 14
"""Prefixes and sessions that are remembered for one model: some 2 MB."""

Keys = tuple[int, ...]
"""Of a conversation, the most telling last. They hold within one process."""


class _Body(msgspec.Struct):
    messages: tuple[msgspec.Raw, ...] = ()


_DECODER = msgspec.json.Decoder(_Body)


def keys_of(request: Request, body: bytes | mmap | None) -> Keys:
    """Of a request. body: None, where it is too large to be looked into, or there is none."""
    for name in SESSIONS:
        if value := request.header(name):
            return (hash((name, value)),)
    if body is None or len(body) > MOST_BODY:
        return ()
    try:
        messages = _DECODER.decode(body).messages
    except (msgspec.DecodeError, RecursionError):
        return ()
    digest, keys = 0, []
    for message in messages:
        digest = hash((digest, bytes(message)))
        keys.append(digest)
    return tuple(keys[-MOST_KEYS:])


class Affinity:
    """Where conversations were last served. What was not used for longest is forgotten first."""

    def __init__(self, most: int = MOST_KNOWN) -> None:
        self._most = most
        self._known: OrderedDict[int, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def find(self, keys: Keys) -> int | None:
        """The instance that has seen most of it."""
        return next((self._known[key] for key in reversed(keys) if key in self._known), None)

    def note(self, keys: Keys, number: int) -> None:
        """This instance has seen all of it by now."""
        for key in keys:
            self._known[key] = number
            self._known.move_to_end(key)
        while len(self._known) > self._most:
            self._known.popitem(last=False)
