"""A server's stream of events (SSE), as far as it must be understood: where events end, how a whole
answer ends, and how the server says that something went wrong in its midst.
"""

import re
from collections import deque

import msgspec

from llmctl.proxy.dialect import Dialect, Endpoint, Trouble, error_event

_MOST_HELD = 4 << 20
"""An event that is longer goes out in pieces; then no event can follow it but by its own end."""
_MOST_OF_WHOLE = 32 << 20
"""The same where a whole answer is put together: its last event may hold all of a prompt."""
_DONE = (b"data: [DONE]", b"data:[DONE]")
_LAST = {
    "chat": _DONE,
    "completions": _DONE,
    "messages": (b"event: message_stop", b"event:message_stop"),
    "responses": tuple(
        b"event:%b%b" % (space, kind)
        for space in (b" ", b"")
        for kind in (b"response.completed", b"response.incomplete", b"response.failed")
    ),
}
"""How a line of the last event of a whole answer begins, per endpoint. JSON has no bare line ends,
so nothing that a model says can look like it. Beginnings are looked for and no pattern: that takes
microseconds, since a pattern tries each byte of a few KB."""
_STOP = re.compile(rb'^data:.*"stop": ?true', re.MULTILINE)
"""The same on /completion, which has no other end."""
_ERROR = (b'data: {"error"', b'data:{"error"', b"error: ", b"event: error", b"event:error")
_LAST_EVENTS = 8
_MOST_TAIL = 8 << 10
"""Bytes that are searched whole; of more only the last events are."""


class Events:
    """The events of one answer. last: the last pieces that went out, for the record. is_whole: the
    client gets them put together, in the server's own words."""

    __slots__ = ("_endpoint", "_held", "_most", "is_torn", "last", "translates")

    def __init__(self, endpoint: Endpoint, *, is_whole: bool = False) -> None:
        self._endpoint = endpoint
        self.translates = endpoint.dialect is Dialect.ANTHROPIC and not is_whole
        """Are errors of the server in words that its clients do not know?"""
        self._most = _MOST_OF_WHOLE if is_whole else _MOST_HELD
        self._held = b""
        self.is_torn = False
        """Part of an event is out."""
        self.last: deque[bytes] = deque(maxlen=4)

    def feed(self, data: bytes) -> bytes:
        """As many events as are whole, in the words of their dialect; the rest is held."""
        if self._held or not data.endswith(b"\n\n"):
            data = self._whole(data)
            if not data:
                return b""
        else:
            self.is_torn = False
        if self.translates and b"event: error" in data:
            data = translated(data)
        self.last.append(data)
        return data

    def sent_instead(self, data: bytes) -> None:
        """What went out of the events that were last given."""
        if self.last:
            self.last.pop()
        if data:
            self.last.append(data)

    def cut(self) -> None:
        """The server was left: of half an event nothing will come any more."""
        self._held = b""

    def _whole(self, data: bytes) -> bytes:
        data = self._held + data
        end = data.rfind(b"\n\n") + 2
        end = max(end, data.rfind(b"\n\r\n", max(end - 2, 0)) + 3)
        if end > 2:
            self.is_torn = False
        elif len(data) > self._most:
            end, self.is_torn = len(data), True
        else:
            end = 0
        self._held = data[end:]
        return data[:end]

    def _tail(self) -> bytes:
        """The last few events: what ends an answer is the last but for comments. Of many bytes no
        more is kept: the last pieces can be a megabyte, in which to search takes 10 ms."""
        data = b"".join(self.last)
        start = len(data)
        if start <= _MOST_TAIL:
            return data
        for _ in range(_LAST_EVENTS):
            start = data.rfind(b"\n\n", 0, max(start, 0))
        tail = data[max(start, 0) :]
        self.last.clear()
        self.last.append(tail)
        return tail

    @property
    def has_failed(self) -> bool:
        """Has the server said that something went wrong?"""
        return _has_line(self._tail(), _ERROR)

    @property
    def is_finished(self) -> bool:
        """Has the last event of a whole answer gone out? Where an endpoint has none, its end is
        all there is."""
        name = self._endpoint.name
        if name not in _LAST:
            return False
        tail = self._tail()
        return _has_line(tail, _LAST[name]) or (
            name == "completions" and _STOP.search(tail) is not None
        )

    @property
    def may_end(self) -> bool:
        """Is an end of the stream the end of an answer?"""
        return self.is_finished or self._endpoint.name not in _LAST


def _has_line(data: bytes, beginnings: tuple[bytes, ...]) -> bool:
    """Does a line begin so?"""
    return data.startswith(beginnings) or any(b"\n" + one in data for one in beginnings)


def told_by(body: bytes) -> Trouble:
    """What a server's refusal says, for a stream that has begun."""
    message, status = body[:500].decode(errors="replace"), 502
    try:
        error = msgspec.json.decode(body)["error"]
        message, status = str(error["message"]), int(error.get("code") or 502)
    except (msgspec.DecodeError, KeyError, TypeError, ValueError, AttributeError):
        pass
    return Trouble(status, "server_refused", message)


def translated(data: bytes) -> bytes:
    """llama-server's error event on /v1/messages has OpenAI's shape, which Anthropic's SDK does not
    know."""
    events = data.split(b"\n\n")
    for number, event in enumerate(events):
        lines = event.split(b"\n")
        if lines[0] == b"event: error" and b'"type":"error"' not in event.replace(b" ", b""):
            body = b"".join(one[6:] for one in lines if one.startswith(b"data: "))
            trouble = told_by(b'{"error":%b}' % body if not body.startswith(b'{"error"') else body)
            events[number] = error_event(Dialect.ANTHROPIC, trouble).rstrip(b"\n")
    return b"\n\n".join(events)
