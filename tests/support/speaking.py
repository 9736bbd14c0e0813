"""What a llama-server streams (0.7.0), written by hand: the same story in each dialect."""

from __future__ import annotations

import json
from typing import Any

ENDPOINTS = ["chat", "completions", "native", "messages", "responses"]
TALKING = ["chat", "messages", "responses"]
"""Those that have reasoning and tools."""


def name_of(dialect: str) -> str:
    """The endpoint's name in the proxy."""
    return "completions" if dialect == "native" else dialect


def event(told: dict[str, Any], *, named: bool = False) -> bytes:
    data = json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode()
    return (b"event: %b\n" % told["type"].encode() if named else b"") + b"data: %b\n\n" % data


class Speaker:
    """One answer. number: makes its ids differ from those of others."""

    def __init__(self, dialect: str, number: int = 1) -> None:
        self.dialect, self._n = dialect, number
        self._blocks: list[str] = []
        self._items: list[dict[str, Any]] = []
        self._texts: list[str] = []
        self.tokens = 0

    # Shapes

    def _openai(self, choices: list[Any], **more: Any) -> bytes:
        kind = "chat.completion.chunk" if self.dialect == "chat" else "text_completion"
        return event({
            "choices": choices, "created": 1795220876 + self._n, "id": f"chatcmpl-{self._n}",
            "model": "coder", "system_fingerprint": "b11669", "object": kind, **more,
        })  # fmt: skip

    def _chat(self, delta: dict[str, Any], finish: str | None = None, choice: int = 0) -> bytes:
        return self._openai([{"finish_reason": finish, "index": choice, "delta": delta}])

    # The story

    def begin(self) -> bytes:
        match self.dialect:
            case "chat":
                return self._chat({"role": "assistant", "content": None})
            case "messages":
                usage = {"cache_read_input_tokens": 0, "input_tokens": 14, "output_tokens": 0}
                message: dict[str, Any] = {
                    "id": f"chatcmpl-{self._n}", "type": "message", "role": "assistant",
                    "content": [], "model": "coder", "stop_reason": None, "stop_sequence": None,
                    "usage": usage,
                }  # fmt: skip
                return event({"type": "message_start", "message": message}, named=True)
            case "responses":
                made = {"id": f"resp_{self._n}", "object": "response", "status": "in_progress"}
                return event({"type": "response.created", "response": made}, named=True) + event(
                    {"type": "response.in_progress", "response": made}, named=True
                )
            case _:
                return b""

    def say(self, *pieces: str) -> bytes:
        return b"".join(self._piece("content", piece) for piece in pieces)

    def think(self, *pieces: str) -> bytes:
        return b"".join(self._piece("reasoning", piece) for piece in pieces)

    def _piece(self, channel: str, piece: str) -> bytes:
        self.tokens += 1
        match self.dialect:
            case "chat":
                key = "content" if channel == "content" else "reasoning_content"
                return self._chat({key: piece})
            case "completions":
                told = {"text": piece, "index": 0, "logprobs": None, "finish_reason": None}
                return self._openai([told])
            case "native":
                return event({
                    "index": 0, "content": piece, "tokens": [303], "stop": False, "id_slot": -1,
                    "tokens_predicted": self.tokens, "tokens_evaluated": 14,
                })  # fmt: skip
            case "messages":
                kind = "text" if channel == "content" else "thinking"
                return self._opened(kind, {"type": kind, kind: ""}) + self._delta(
                    {"type": f"{kind}_delta", kind: piece}
                )
            case _:
                return self._item(channel) + self._spoken(channel, piece)

    def _opened(self, kind: str, block: dict[str, Any]) -> bytes:
        if self._blocks and self._blocks[-1] == kind:
            return b""
        self._blocks.append(kind)
        at = len(self._blocks) - 1
        begun = {"type": "content_block_start", "index": at, "content_block": block}
        return event(begun, named=True)

    def _delta(self, delta: dict[str, Any]) -> bytes:
        at = len(self._blocks) - 1
        return event({"type": "content_block_delta", "index": at, "delta": delta}, named=True)

    def _item(self, channel: str) -> bytes:
        kind = "message" if channel == "content" else "reasoning"
        if self._items and self._items[-1]["type"] == kind:
            return b""
        key = f"{kind[:2]}_{self._n}_{len(self._items)}"
        item = {"id": key, "type": kind, "content": [], "status": "in_progress"}
        self._items.append(item)
        self._texts.append("")
        found = event({"type": "response.output_item.added", "item": item}, named=True)
        if kind == "message":
            part = {"type": "output_text", "text": ""}
            told = {"type": "response.content_part.added", "item_id": key, "part": part}
            found += event(told, named=True)
        return found

    def _spoken(self, channel: str, piece: str) -> bytes:
        self._texts[-1] += piece
        kind = "output" if channel == "content" else "reasoning"
        told = {"item_id": self._items[-1]["id"], "delta": piece}
        return event({"type": f"response.{kind}_text.delta", **told}, named=True)

    def call(self, *arguments: str) -> bytes:
        """A tool is called."""
        self.tokens += len(arguments)
        if self.dialect == "chat":
            named = {"name": "get_weather", "arguments": arguments[0]}
            first = {"index": 0, "id": "c1", "type": "function", "function": named}
            rest = [{"index": 0, "function": {"arguments": one}} for one in arguments[1:]]
            return b"".join(self._chat({"tool_calls": [one]}) for one in (first, *rest))
        if self.dialect == "messages":
            block = {"type": "tool_use", "id": "c1", "name": "get_weather"}
            return self._opened("tool_use", block) + b"".join(
                self._delta({"type": "input_json_delta", "partial_json": one}) for one in arguments
            )
        item = {"id": "fc_1", "type": "function_call", "name": "get_weather", "arguments": ""}
        self._items.append(item)
        self._texts.append("".join(arguments))
        kind = "response.function_call_arguments.delta"
        return event({"type": "response.output_item.added", "item": item}, named=True) + b"".join(
            event({"type": kind, "item_id": "fc_1", "delta": one}, named=True) for one in arguments
        )

    def finish(self, *, usage: bool = False) -> bytes:
        timings = {"predicted_n": self.tokens, "predicted_ms": 10.0 * self.tokens, "prompt_n": 14}
        counts = {"completion_tokens": self.tokens, "prompt_tokens": 14}
        counts["total_tokens"] = self.tokens + 14
        match self.dialect:
            case "chat":
                last = {"finish_reason": "stop", "index": 0, "delta": {}}
                found = self._openai([last], **({} if usage else {"timings": timings}))
                if usage:
                    found += self._openai([], usage=counts, timings=timings)
                return found + b"data: [DONE]\n\n"
            case "completions":
                end = {"text": "", "index": 0, "logprobs": None, "finish_reason": "stop"}
                return self._openai([end], usage=counts, timings=timings) + b"data: [DONE]\n\n"
            case "native":
                return event({
                    "index": 0, "content": "", "tokens": [], "id_slot": 1, "stop": True,
                    "model": "coder", "tokens_predicted": self.tokens, "tokens_evaluated": 14,
                    "stop_type": "eos", "timings": timings,
                })  # fmt: skip
            case "messages":
                return self._closed_messages()
            case _:
                return self._closed_responses()

    def _closed_messages(self) -> bytes:
        """Blocks of reasoning end first, and all at the very end."""
        found = b""
        for at, kind in enumerate(self._blocks):
            if kind == "thinking":
                delta = {"type": "signature_delta", "signature": ""}
                told = {"type": "content_block_delta", "index": at, "delta": delta}
                found += event(told, named=True)
            found += event({"type": "content_block_stop", "index": at}, named=True)
        end = {"stop_reason": "end_turn", "stop_sequence": None}
        told = {"type": "message_delta", "delta": end, "usage": {"output_tokens": self.tokens}}
        return found + event(told, named=True) + event({"type": "message_stop"}, named=True)

    def _closed_responses(self) -> bytes:
        found, output = b"", []
        for item, text in zip(self._items, self._texts, strict=True):
            whole = {**item, "status": "completed"}
            if item["type"] == "message":
                part = {"type": "output_text", "annotations": [], "logprobs": [], "text": text}
                key = {"item_id": item["id"]}
                told = {"type": "response.output_text.done", **key, "text": text}
                found += event(told, named=True)
                told = {"type": "response.content_part.done", **key, "part": part}
                found += event(told, named=True)
                whole["content"] = [part]
            elif item["type"] == "reasoning":
                whole["content"] = [{"type": "reasoning_text", "text": text}]
            else:
                whole["arguments"] = text
            found += event({"type": "response.output_item.done", "item": whole}, named=True)
            output.append(whole)
        counts = {"input_tokens": 14, "output_tokens": self.tokens}
        response = {
            "id": f"resp_{self._n}", "object": "response", "created_at": 5, "status": "completed",
            "model": "coder", "output": output,
            "usage": {**counts, "total_tokens": self.tokens + 14},
        }  # fmt: skip
        return found + event({"type": "response.completed", "response": response}, named=True)
