"""A whole answer out of a stream: what the server would have said to who asked for no stream.

Compared with llama-server 0.7.0's own, key by key (tests/server/test_guard_plain.py)."""

from typing import Any, Protocol

import msgspec

from llmctl.proxy.guard.event import Event, parsed, split


class Assembly(Protocol):
    """One dialect's."""

    def take(self, told: dict[str, Any]) -> None:
        """One event's JSON."""
        ...

    def whole(self) -> dict[str, Any] | None:
        """The answer; None: its end has not come."""
        ...


class Assembler:
    """One answer. error: what the server said went wrong in its midst."""

    def __init__(self, endpoint: str, *, returns_tokens: bool = False) -> None:
        self._endpoint = endpoint
        self._assembly = _assembly(endpoint, returns_tokens=returns_tokens)
        self.error: dict[str, Any] | None = None

    def feed(self, data: bytes) -> None:
        """Whole events, as a client of the stream would get them."""
        for raw in split(data):
            event = parsed(raw, self._endpoint)
            if event.told is not None:
                self._take(event, event.told)

    def _take(self, event: Event, told: dict[str, Any]) -> None:
        if isinstance(told.get("error"), dict):
            self.error = told["error"]
        elif event.name == b"error":
            self.error = told
        else:
            self._assembly.take(told)

    @property
    def error_status(self) -> int:
        """The status that goes with it."""
        code = (self.error or {}).get("code")
        return code if isinstance(code, int) and 400 <= code < 600 else 500

    def error_body(self) -> bytes:
        """What the server says in a whole answer where a stream had an event of an error."""
        return msgspec.json.encode({"error": self.error})

    def whole(self) -> bytes | None:
        """The body; None: the stream ended before the answer did."""
        found = self._assembly.whole()
        return None if found is None else msgspec.json.encode(found)


def _assembly(endpoint: str, *, returns_tokens: bool) -> Assembly:
    if endpoint == "messages":
        return Messages()
    if endpoint == "responses":
        return Responses()
    return Chat() if endpoint == "chat" else Completion(returns_tokens=returns_tokens)


_OF_LAST = ("created", "model", "system_fingerprint", "object", "usage", "id", "timings")


def _top(last: dict[str, Any], kind: str) -> dict[str, Any]:
    found = {key: last[key] for key in _OF_LAST if key in last}
    return {**found, "object": kind} if "object" in found else found


class Chat:
    """/v1/chat/completions: one choice."""

    def __init__(self) -> None:
        self._texts: dict[str, list[str]] = {"content": [], "reasoning_content": []}
        self._tools: dict[int, dict[str, Any]] = {}
        self._last: dict[str, Any] = {}
        self._finish: str | None = None

    def take(self, told: dict[str, Any]) -> None:
        """See Assembly."""
        self._last = {**self._last, **told}
        for choice in told.get("choices") or ():
            self._finish = choice.get("finish_reason") or self._finish
            delta = choice.get("delta") or {}
            for key, pieces in self._texts.items():
                if delta.get(key):
                    pieces.append(delta[key])
            for call in delta.get("tool_calls") or ():
                self._call(call)

    def _call(self, call: dict[str, Any]) -> None:
        function = call.get("function") or {}
        found = self._tools.get(call["index"])
        if found is None:
            named: dict[str, Any] = {"name": function.get("name"), "arguments": []}
            found = {"type": call.get("type", "function"), "function": named, "id": call.get("id")}
            self._tools[call["index"]] = found
        found["function"]["arguments"].append(function.get("arguments") or "")

    def whole(self) -> dict[str, Any] | None:
        """See Assembly."""
        if self._finish is None:
            return None
        message: dict[str, Any] = {"role": "assistant"}
        message["content"] = "".join(self._texts["content"])
        if self._texts["reasoning_content"]:
            message["reasoning_content"] = "".join(self._texts["reasoning_content"])
        if self._tools:
            message["tool_calls"] = [_called(self._tools[one]) for one in sorted(self._tools)]
        choice = {"finish_reason": self._finish, "index": 0, "message": message}
        return {"choices": [choice], **_top(self._last, "chat.completion")}


def _called(call: dict[str, Any]) -> dict[str, Any]:
    function = call["function"]
    return {**call, "function": {**function, "arguments": "".join(function["arguments"])}}


class Completion:
    """/v1/completions, which has choices; /completion and /infill, which have not."""

    def __init__(self, *, returns_tokens: bool) -> None:
        self._returns_tokens = returns_tokens
        self._text: list[str] = []
        self._tokens: list[int] = []
        self._last: dict[str, Any] = {}
        self._finish: str | None = None

    def take(self, told: dict[str, Any]) -> None:
        """See Assembly."""
        self._last = told if "choices" not in told else {**self._last, **told}
        if "content" in told:
            self._text.append(told["content"])
            self._tokens += told.get("tokens") or []
        for choice in told.get("choices") or ():
            self._text.append(choice.get("text") or "")
            self._finish = choice.get("finish_reason") or self._finish

    def whole(self) -> dict[str, Any] | None:
        """See Assembly."""
        text = "".join(self._text)
        if "choices" not in self._last:
            return self._native(text) if self._last.get("stop") is True else None
        if self._finish is None:
            return None
        choice = {
            "text": text, "index": 0, "logprobs": None, "finish_reason": self._finish,
        }  # fmt: skip
        return {"choices": [choice], **_top(self._last, "text_completion")}

    def _native(self, text: str) -> dict[str, Any]:
        tokens = self._tokens if self._returns_tokens else []
        found = {**self._last, "content": text, "tokens": tokens}
        settings = found.get("generation_settings")
        if isinstance(settings, dict):
            found["generation_settings"] = {**settings, "stream": False}
        return found


_DELTAS = {
    "text_delta": "text", "thinking_delta": "thinking", "signature_delta": "signature",
    "input_json_delta": "input",
}  # fmt: skip


class Messages:
    """/v1/messages."""

    def __init__(self) -> None:
        self._message: dict[str, Any] = {}
        self._blocks: list[dict[str, Any]] = []
        self._pieces: list[dict[str, list[str]]] = []
        self._ended = False

    def take(self, told: dict[str, Any]) -> None:
        """See Assembly."""
        kind = told.get("type")
        if kind == "message_start":
            self._message = dict(told["message"])
        elif kind == "content_block_start":
            self._blocks.append(told["content_block"])
            self._pieces.append({})
        elif kind == "content_block_delta" and told["index"] < len(self._blocks):
            key = _DELTAS.get(told["delta"]["type"])
            if key is not None:
                text = next((v for k, v in told["delta"].items() if k != "type"), "")
                self._pieces[told["index"]].setdefault(key, []).append(text)
        elif kind == "message_delta":
            usage = {**(self._message.get("usage") or {}), **(told.get("usage") or {})}
            self._message = {**self._message, **told["delta"], "usage": usage}
            self._ended = True

    def whole(self) -> dict[str, Any] | None:
        """See Assembly."""
        if not self._ended:
            return None
        pairs = zip(self._blocks, self._pieces, strict=True)
        return {**self._message, "content": [_block(block, pieces) for block, pieces in pairs]}


def _block(block: dict[str, Any], pieces: dict[str, list[str]]) -> dict[str, Any]:
    found = dict(block)
    for key, texts in pieces.items():
        found[key] = "".join(texts)
    if found.get("type") == "tool_use":
        found["input"] = _input(found.get("input"))
    return found


def _input(told: Any) -> Any:
    """Arguments that were cut off are none, as the server has it."""
    try:
        return msgspec.json.decode(told) if isinstance(told, str) else told or {}
    except msgspec.DecodeError:
        return {}


class Responses:
    """/v1/responses: its last event has all of it."""

    def __init__(self) -> None:
        self._response: dict[str, Any] | None = None

    def take(self, told: dict[str, Any]) -> None:
        """See Assembly."""
        if told.get("type") in {"response.completed", "response.incomplete"}:
            self._response = told["response"]

    def whole(self) -> dict[str, Any] | None:
        """See Assembly."""
        if self._response is None:
            return None
        found = self._response
        output = [_with_status(one, found.get("status")) for one in found.get("output") or ()]
        return {"completed_at": found.get("created_at"), **found, "output": output}


def _with_status(item: dict[str, Any], status: Any) -> dict[str, Any]:
    """An item of reasoning has a status only in a whole answer."""
    return item if "status" in item else {**item, "status": status}
