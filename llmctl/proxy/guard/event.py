"""One event of a server's stream (SSE), with what it says of the text: deltas.

Four dialects are read: /v1/chat/completions; /v1/completions, /completion and /infill;
/v1/messages; /v1/responses. What is not known in an event is left alone.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from llmctl.core.guard.verdict import Channel


class Delta(msgspec.Struct, frozen=True):
    """A piece of a text. choice: of the answer; text: UTF-8, as it is without JSON's escapes."""

    choice: int
    channel: Channel
    text: bytes


class Event(msgspec.Struct, frozen=True):
    """raw: all of its bytes, with the empty line. name: of its `event:` line, if any. told: its
    JSON; None: it has none (a comment, `[DONE]`). ends: a text, or all of them, end with it."""

    raw: bytes
    name: bytes = b""
    told: dict[str, Any] | None = None
    deltas: tuple[Delta, ...] = ()
    ends: bool = False

    @property
    def kind(self) -> str:
        """What Anthropic and /v1/responses call it."""
        return str(self.told.get("type", "")) if self.told else ""

    @property
    def is_comment(self) -> bool:
        """Does it say nothing?"""
        return self.told is None and self.raw.startswith((b":", b"\n", b"\r\n"))


_WHOLE = re.compile(rb".*?\n\r?\n|.+", re.DOTALL)


def split(data: bytes) -> list[bytes]:
    """Events, each with its empty line; what is at the end without one is one, too."""
    if b"\r" in data:
        return _WHOLE.findall(data)
    found = [one + b"\n\n" for one in data.split(b"\n\n")]
    last = found.pop()[:-2]
    return [*found, last] if last else found


def parsed(raw: bytes, endpoint: str) -> Event:
    """Read one event. endpoint: its name (dialect.Endpoint)."""
    name, data = _fields(raw)
    if not data.startswith(b"{"):
        return Event(raw, name, ends=data == b"[DONE]")
    try:
        told = msgspec.json.decode(data)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return Event(raw, name)
    deltas: list[Delta] = []
    try:
        ends = _READERS[endpoint](told, deltas)
    except (KeyError, TypeError, AttributeError, ValueError):
        return Event(raw, name, told)  # of a shape that nobody promised
    return Event(raw, name, told, tuple(deltas), ends or name == b"error")


def _fields(raw: bytes) -> tuple[bytes, bytes]:
    """The name, and the data: of several `data:` lines, joined."""
    if raw.startswith(b"data: {") and raw.count(b"\n") == 2:
        return b"", raw[6:-2]
    name, data = b"", []
    for line in raw.split(b"\n"):
        field, _, value = line.partition(b":")
        if field == b"data":
            data.append(value.removeprefix(b" ").removesuffix(b"\r"))
        elif field == b"event":
            name = value.strip()
    return name, b"\n".join(data)


def written(told: object, name: bytes = b"") -> bytes:
    """An event of this JSON."""
    head = b"event: %b\n" % name if name else b""
    return b"%bdata: %b\n\n" % (head, msgspec.json.encode(told))


def typed(told: dict[str, Any]) -> bytes:
    """An event that is called what its JSON calls itself."""
    return written(told, str(told["type"]).encode())


Reader = Callable[[dict[str, Any], list[Delta]], bool]


def _add(deltas: list[Delta], choice: Any, channel: Channel, text: Any) -> None:
    if isinstance(text, str) and text:
        deltas.append(Delta(choice if isinstance(choice, int) else 0, channel, text.encode()))


_OF_CHAT = (
    ("reasoning_content", Channel.REASONING), ("reasoning", Channel.REASONING),
    ("content", Channel.CONTENT), ("refusal", Channel.CONTENT),
)  # fmt: skip


def _chat(told: dict[str, Any], deltas: list[Delta]) -> bool:
    ends = "error" in told
    for choice in told.get("choices") or ():
        number, delta = choice.get("index", 0), choice.get("delta") or {}
        for key, channel in _OF_CHAT:
            if text := delta.get(key):
                _add(deltas, number, channel, text)
        if "tool_calls" in delta or "function_call" in delta:
            for text in _called(delta):
                _add(deltas, number, Channel.TOOL, text)
        ends = ends or choice.get("finish_reason") is not None
    return ends


def _called(delta: dict[str, Any]) -> Iterator[Any]:
    """Names and arguments of the tools that are called."""
    for call in delta.get("tool_calls") or ():
        function = call.get("function") or {}
        yield function.get("name")
        yield function.get("arguments")
    if function := delta.get("function_call"):
        yield function.get("name")
        yield function.get("arguments")


def _completions(told: dict[str, Any], deltas: list[Delta]) -> bool:
    """/v1/completions has choices; /completion and /infill, llama-server's own, have none."""
    if "choices" not in told:
        _add(deltas, told.get("index", 0), Channel.CONTENT, told.get("content"))
        return told.get("stop") is True or "error" in told
    ends = False
    for choice in told["choices"]:
        _add(deltas, choice.get("index", 0), Channel.CONTENT, choice.get("text"))
        ends = ends or choice.get("finish_reason") is not None
    return ends


_OF_MESSAGES = {
    "text_delta": ("text", Channel.CONTENT), "thinking_delta": ("thinking", Channel.REASONING),
    "input_json_delta": ("partial_json", Channel.TOOL),
}  # fmt: skip


def _messages(told: dict[str, Any], deltas: list[Delta]) -> bool:
    kind = told.get("type")
    if kind == "content_block_delta":
        key, channel = _OF_MESSAGES.get(told["delta"].get("type"), ("", Channel.CONTENT))
        _add(deltas, 0, channel, told["delta"].get(key))
    elif kind == "content_block_start" and told["content_block"].get("type") == "tool_use":
        _add(deltas, 0, Channel.TOOL, told["content_block"].get("name"))
    return kind in {"content_block_stop", "message_delta", "message_stop", "error"}


_OF_RESPONSES = {
    "response.output_text.delta": Channel.CONTENT, "response.refusal.delta": Channel.CONTENT,
    "response.reasoning_text.delta": Channel.REASONING,
    "response.reasoning_summary_text.delta": Channel.REASONING,
    "response.function_call_arguments.delta": Channel.TOOL,
}  # fmt: skip
_LAST_OF_RESPONSES = {
    "response.completed", "response.incomplete", "response.failed", "error",
}  # fmt: skip


def _responses(told: dict[str, Any], deltas: list[Delta]) -> bool:
    kind = str(told.get("type", ""))
    channel = _OF_RESPONSES.get(kind)
    if channel is not None:
        _add(deltas, 0, channel, told.get("delta"))
    elif kind == "response.output_item.added" and told["item"].get("type") == "function_call":
        _add(deltas, 0, Channel.TOOL, told["item"].get("name"))
    return kind.endswith(".done") or kind in _LAST_OF_RESPONSES or "error" in told


_READERS: dict[str, Reader] = {
    "chat": _chat, "completions": _completions, "messages": _messages, "responses": _responses,
}  # fmt: skip
GUARDED = frozenset(_READERS)
"""The endpoints that are guarded, by name."""
