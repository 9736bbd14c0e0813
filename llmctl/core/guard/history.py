"""What a conversation's tools were asked and answered since a human last spoke, as steps.

A step is what a model asked for at once, which may be several calls: only between steps could it
learn from a result. Read are the three shapes that clients send: OpenAI's chat (also the old
`function_call`), Anthropic's messages, OpenAI's responses. Whatever is malformed is passed over:
nothing here raises, and the server has its own say.

Who is a human? A message of the role `user` in which more is said than reminders that a program
put there (`<system-reminder>`). Anthropic's tool results are of the role `user`, too, and agents
put notes beside them: there, whatever stands in an element of its own (`<environment_details>`) is
no human's word, and an image is the tool's. System and developer messages are programs'.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Literal

import msgspec

from llmctl.core.guard.alike import shape
from llmctl.core.guard.json_parts import Bytes, Raw, fields, items, text

Shape = Literal["chat", "messages", "responses"]
LISTS: dict[Shape, str] = {"chat": "messages", "messages": "messages", "responses": "input"}
"""Where each keeps its conversation."""
_ELEMENT = re.compile(r"\s*<([A-Za-z][\w.-]*)(?:\s[^<>]*)?>.*?</\1>\s*", re.DOTALL)
_REMINDERS = frozenset({"system-reminder"})
_CALLS = ("function_call", "custom_tool_call")
OUTPUTS = ("function_call_output", "custom_tool_call_output")
"""Items of /v1/responses that are results."""


class Call(msgspec.Struct):
    """A tool's name, its arguments in one spelling, and its result as it was sent (JSON)."""

    name: str
    arguments: bytes
    result: bytes | None = None


class Step(msgspec.Struct, frozen=True, dict=True):
    """Calls that were asked for at once, whatever their order."""

    calls: tuple[Call, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Of the tools."""
        return tuple(call.name for call in self.calls)

    def is_like(self, other: "Step") -> bool:
        """The same calls, and results that are alike?"""
        if len(self.calls) != len(other.calls):
            return False
        pairs = list(zip(self.calls, other.calls, strict=True))
        if any(one.name != two.name or one.arguments != two.arguments for one, two in pairs):
            return False
        return self.has_results_of(other) or self._shapes() == other._shapes()

    def has_results_of(self, other: "Step") -> bool:
        """Are the results equal?"""
        return [one.result for one in self.calls] == [one.result for one in other.calls]

    def _shapes(self) -> list[bytes]:
        known: list[bytes] | None = self.__dict__.get("shapes")
        if known is None:
            known = self.__dict__["shapes"] = [shape(one.result or b"") for one in self.calls]
        return known


class _Steps:
    """Steps as they come. Ids of calls may be missing, or the same in each step."""

    def __init__(self) -> None:
        self._steps: list[list[Call]] = []
        self._by_id: dict[bytes, Call] = {}
        self._open: dict[int, Call] = {}
        self._goes_on = False

    def begin(self) -> None:
        """What is asked for next is a step of its own."""
        self._goes_on = False

    def asked(self, identity: Bytes | None, name: str, arguments: bytes) -> None:
        """A call."""
        call = Call(name, arguments)
        if not self._goes_on:
            self._steps.append([])
        self._goes_on = True
        self._steps[-1].append(call)
        self._open[id(call)] = call
        if identity is not None:
            self._by_id[bytes(identity)] = call

    def answered(self, identity: Bytes | None, result: Bytes | None) -> None:
        """A result: of the call of that id, or of the first that has none."""
        self._goes_on = False
        call = self._by_id.get(b"" if identity is None else bytes(identity))
        if call is None or id(call) not in self._open:
            call = next(iter(self._open.values()), None)
        if call is not None:
            del self._open[id(call)]
            call.result = b"" if result is None else bytes(result)

    def done(self) -> list[Step]:
        """All of them."""
        return [
            Step(tuple(sorted(calls, key=lambda one: (one.name, one.arguments))))
            for calls in self._steps
        ]


def steps(body: Bytes, kind: Shape) -> list[Step]:
    """The steps since a human last spoke, oldest first."""
    since: list[dict[str, Raw]] = []
    for raw in reversed(items(fields(body).get(LISTS[kind]))):
        message = fields(raw)
        if _is_human(message, kind):
            break
        since.append(message)
    found = _Steps()
    read = {"chat": _chat, "messages": _messages, "responses": _responses}[kind]
    for message in reversed(since):
        read(message, found)
    return found.done()


# Who speaks


def _is_human(message: dict[str, Raw], kind: Shape) -> bool:
    if text(message.get("role")) != "user":
        return False
    content = message.get("content")
    if content is not None and bytes(memoryview(content)[:1]) == b'"':
        return _is_said(content, _REMINDERS)
    blocks = [fields(one) for one in items(content)]
    kinds = [text(one.get("type")) for one in blocks]
    has_results = kind == "messages" and "tool_result" in kinds
    if not has_results and any(one not in ("text", "input_text") for one in kinds):
        return True  # an image, a file
    aside = None if has_results else _REMINDERS
    return any(_is_said(one["text"], aside) for one in blocks if "text" in one)


def _is_said(given: Raw, aside: frozenset[str] | None) -> bool:
    """Is there more in a text than elements of these names? None: of any name. What cannot be one
    is not decoded: a human may send megabytes."""
    start = bytes(memoryview(given)[1:64]).lstrip()
    if start and start[:1] not in b'<"\\':
        return True
    words, at = text(given) or "", 0
    while (found := _ELEMENT.match(words, at)) is not None:
        if aside is not None and found[1] not in aside:
            return True
        at = found.end()
    return bool(words[at:].strip())


# Each shape


def _chat(message: dict[str, Raw], found: _Steps) -> None:
    role = text(message.get("role"))
    if role in ("tool", "function"):
        found.answered(message.get("tool_call_id"), message.get("content"))
    elif role == "assistant":
        found.begin()
        for raw in items(message.get("tool_calls")):
            call = fields(raw)
            _ask(found, call.get("id"), fields(call.get("function") or call.get("custom")))
        if "function_call" in message:
            _ask(found, None, fields(message["function_call"]))


def _messages(message: dict[str, Raw], found: _Steps) -> None:
    role = text(message.get("role"))
    if role == "assistant":
        found.begin()
    for raw in items(message.get("content")):
        block = fields(raw)
        kind = text(block.get("type"))
        if kind == "tool_use" and role == "assistant":
            _ask(found, block.get("id"), block)
        elif kind == "tool_result":
            found.answered(block.get("tool_use_id"), block.get("content"))


def _responses(item: dict[str, Raw], found: _Steps) -> None:
    kind = text(item.get("type"))
    if kind in _CALLS:
        _ask(found, item.get("call_id"), item)
    elif kind in OUTPUTS:
        found.answered(item.get("call_id"), item.get("output"))


def _ask(found: _Steps, identity: Bytes | None, call: dict[str, Raw]) -> None:
    name = text(call.get("name"))
    if name is not None:
        given = next((call[key] for key in ("arguments", "input") if key in call), None)
        found.asked(identity, name, canonical(given))


def canonical(given: Bytes | None) -> bytes:
    """Arguments in one spelling: JSON, or a text that is JSON, with its keys in order."""
    inner = text(given)
    source: Bytes | str = inner if inner is not None else (given or b"null")
    try:
        return msgspec.json.encode(msgspec.json.decode(source), order="sorted")
    except (msgspec.DecodeError, RecursionError, ValueError):
        return (inner or "").strip().encode(errors="replace")


def names_of(calls: Iterable[Step]) -> Iterator[str]:
    """The tools of some steps, each once, in order."""
    seen = dict.fromkeys(name for one in calls for name in one.names)
    yield from seen
