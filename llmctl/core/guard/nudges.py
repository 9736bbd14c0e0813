"""What a model is told when its tool calls go round in circles, and how it gets into a request.

Where it stands: at the end of the last tool result. A message of its own would be a user's after a
tool's, which every chat template that wants user and assistant to alternate refuses (llama-server
then answers 400: "conversation roles must alternate"); on /v1/messages a text beside the result
becomes just such a message. A longer result is valid everywhere, and all before it stays in the
server's prompt cache.
"""

import enum
from collections.abc import Sequence

import msgspec

from llmctl.core.guard.history import LISTS, OUTPUTS, Shape
from llmctl.core.guard.json_parts import (
    fields,
    items,
    longer,
    text,
    with_item,
    with_one_more,
    with_value,
)
from llmctl.core.guard.tool_loops import Cycle

_MOST_NAMED = 4
_MOST_NAME = 64
_PART: dict[Shape, str] = {"chat": "text", "messages": "text", "responses": "input_text"}


class Nudge(enum.Enum):
    """Rising firmness: the model is told, is forbidden to go on so, gets no tools for one turn."""

    STATE = "state"
    FORBID = "forbid"
    NO_TOOLS = "no_tools"


_RESTS = {
    Nudge.STATE: "Once more will not change it. Work with what is known by now, or try something "
    "that was not tried yet.",
    Nudge.FORBID: "Do not call this with these arguments again. Take a different action now; if "
    "there is none, say what is in the way and what is needed.",
    Nudge.NO_TOOLS: "There are no tools in this turn: call none. Answer in plain words: what was "
    "found out, what is in the way, and what is needed to go on.",
}


def nudge_for(repeats: int, thresholds: Sequence[int]) -> Nudge | None:
    """The nudge that so many repetitions call for. thresholds: one for each, rising."""
    due = [one for one, least in zip(Nudge, thresholds, strict=True) if repeats >= least]
    return due[-1] if due else None


def words(cycle: Cycle, nudge: Nudge) -> str:
    """What the model is told."""
    calls = _calls(cycle)
    same = "the same result" if cycle.is_exact else "a result that differs only in numbers or ids"
    head = f"[llmctl guard, not part of the tool's result: {calls} been made {cycle.repeats} times"
    head += f" in a row with the same arguments, each time with {same}."
    return f"{head} {_RESTS[nudge]}]"


def _calls(cycle: Cycle) -> str:
    named = [name[:_MOST_NAME] for name in cycle.tools[:_MOST_NAMED]]
    named += ["..."] if len(cycle.tools) > _MOST_NAMED else []
    what = ", ".join(named)
    return f"the call of {what} has" if len(named) == 1 else f"the calls of {what} have"


def nudged(body: bytes, kind: Shape, told: str, *, no_tools: bool = False) -> bytes | None:
    """The request with `told` at the end of its last tool result; everything else in it stays as it
    was, byte for byte. None: there is no such result, or the model has spoken since."""
    key = LISTS[kind]
    talk = fields(body).get(key)
    if talk is None:
        return None
    messages = items(talk)
    for index in range(len(messages) - 1, -1, -1):
        message = bytes(messages[index])
        role = text(fields(message).get("role"))
        longer_message = _longer_message(message, kind, told)
        if longer_message is not None:
            changed = with_value(body, key, with_item(bytes(talk), index, longer_message))
            return _without_tools(changed, kind) if no_tools else changed
        if role == "assistant":
            return None
    return None


def _longer_message(message: bytes, kind: Shape, told: str) -> bytes | None:
    """The message with a longer result; None: it holds none."""
    found = fields(message)
    if kind == "chat":
        is_result = text(found.get("role")) in ("tool", "function")
        return _longer_value(message, "content", kind, told) if is_result else None
    if kind == "responses":
        is_result = text(found.get("type")) in OUTPUTS
        return _longer_value(message, "output", kind, told) if is_result else None
    content = found.get("content")
    blocks = items(content)
    for index in range(len(blocks) - 1, -1, -1):
        block = bytes(blocks[index])
        if content is not None and text(fields(block).get("type")) == "tool_result":
            changed = with_item(bytes(content), index, _longer_value(block, "content", kind, told))
            return with_value(message, "content", changed)
    return None


def _longer_value(data: bytes, key: str, kind: Shape, told: str) -> bytes:
    """A text, or a list of parts, with more at its end; whatever else stands there gives way to
    the text, since a model can read nothing else."""
    given = bytes(fields(data).get(key) or b"null")
    if given.startswith(b'"'):
        return with_value(data, key, longer(given, f"\n\n{told}"))
    if given.startswith(b"["):
        part = msgspec.json.encode({"type": _PART[kind], "text": told})
        return with_value(data, key, with_one_more(given, part))
    return with_value(data, key, msgspec.json.encode(told))


def _without_tools(body: bytes, kind: Shape) -> bytes:
    """llama-server heeds `tool_choice: none` where OpenAI has it, and keeps the tools in the
    prompt; it knows no such choice on /v1/messages (seen with 0.7.0): there the tools go."""
    if kind == "messages":
        return with_value(body, "tools", b"[]") if "tools" in fields(body) else body
    return with_value(body, "tool_choice", b'"none"')
