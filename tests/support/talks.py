"""Conversations with tools, in every shape that clients send.

A talk is a list of turns: `human("...")`, `says("...")`, `calls(("read", {"path": "a"}, "text"))`
(calls at once, each with its result).
"""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Turn = tuple[str, Any]
TOOLS = ("read", "edit", "run", "wait_for_job", "get_weather")


def human(text: Any) -> Turn:
    return "human", text


def says(text: str) -> Turn:
    return "says", text


def calls(*asked: tuple[str, Any, Any]) -> Turn:
    return "calls", asked


def call(name: str = "read", arguments: Any = None, result: Any = "same") -> Turn:
    return calls((name, {"path": "a.py"} if arguments is None else arguments, result))


def body_of(shape: str, turns: Sequence[Turn], **more: Any) -> dict[str, Any]:
    """The request. `shape`: of SHAPES."""
    return {"model": "coder", **SHAPES[shape](turns), **more}


def json_of(shape: str, turns: Sequence[Turn], **more: Any) -> bytes:
    return json.dumps(body_of(shape, turns, **more)).encode()


def _schema(name: str) -> dict[str, Any]:
    """Of a tool's arguments; the scripted models know one call of get_weather by heart."""
    argument = "city" if name == "get_weather" else "path"
    return {"type": "object", "properties": {argument: {"type": "string"}}}


def _chat(turns: Sequence[Turn]) -> dict[str, Any]:
    found: list[dict[str, Any]] = [{"role": "system", "content": "Be good."}]
    ids = itertools.count(1)
    for kind, what in turns:
        if kind == "human":
            found.append({"role": "user", "content": what})
        elif kind == "says":
            found.append({"role": "assistant", "content": what})
        else:
            numbered = [(f"call_{next(ids)}", *one) for one in what]
            asked = [
                {"id": i, "type": "function", "function": {"name": n, "arguments": json.dumps(a)}}
                for i, n, a, _ in numbered
            ]
            found.append({"role": "assistant", "content": None, "tool_calls": asked})
            found += [
                {"role": "tool", "tool_call_id": i, "content": result}
                for i, _, _, result in numbered
            ]
    tools = [{"type": "function", "function": {"name": n, "parameters": _schema(n)}} for n in TOOLS]
    return {"messages": found, "tools": tools}


def _legacy(turns: Sequence[Turn]) -> dict[str, Any]:
    """One call at a time, without ids."""
    found: list[dict[str, Any]] = []
    for kind, what in turns:
        if kind == "human":
            found.append({"role": "user", "content": what})
        elif kind == "says":
            found.append({"role": "assistant", "content": what})
        else:
            for name, arguments, result in what:
                asked = {"name": name, "arguments": json.dumps(arguments)}
                found.append({"role": "assistant", "content": None, "function_call": asked})
                found.append({"role": "function", "name": name, "content": result})
    return {"messages": found, "functions": [{"name": n, "parameters": _schema(n)} for n in TOOLS]}


def _messages(turns: Sequence[Turn]) -> dict[str, Any]:
    found: list[dict[str, Any]] = []
    ids = itertools.count(1)
    for kind, what in turns:
        if kind == "human":
            found.append({"role": "user", "content": what})
        elif kind == "says":
            found.append({"role": "assistant", "content": [{"type": "text", "text": what}]})
        else:
            numbered = [(f"toolu_{next(ids)}", *one) for one in what]
            asked = [
                {"type": "tool_use", "id": i, "name": n, "input": a} for i, n, a, _ in numbered
            ]
            results = [
                {"type": "tool_result", "tool_use_id": i, "content": result}
                for i, _, _, result in numbered
            ]
            found.append({"role": "assistant", "content": asked})
            found.append({"role": "user", "content": results})
    tools = [{"name": name, "input_schema": _schema(name)} for name in TOOLS]
    return {"messages": found, "tools": tools, "max_tokens": 64, "system": "Be good."}


def _responses(turns: Sequence[Turn]) -> dict[str, Any]:
    found: list[dict[str, Any]] = []
    ids = itertools.count(1)
    for kind, what in turns:
        if kind == "human":
            found.append({"role": "user", "content": what})
        elif kind == "says":
            text = [{"type": "output_text", "text": what}]
            found.append({"type": "message", "role": "assistant", "content": text})
        else:
            numbered = [(f"fc_{next(ids)}", *one) for one in what]
            found += [
                {"type": "function_call", "call_id": i, "name": n, "arguments": json.dumps(a)}
                for i, n, a, _ in numbered
            ]
            found += [
                {"type": "function_call_output", "call_id": i, "output": result}
                for i, _, _, result in numbered
            ]
    tools = [{"type": "function", "name": name, "parameters": _schema(name)} for name in TOOLS]
    return {"input": found, "tools": tools, "instructions": "Be good."}


SHAPES: dict[str, Callable[[Sequence[Turn]], dict[str, Any]]] = {
    "chat": _chat, "legacy": _legacy, "messages": _messages, "responses": _responses,
}  # fmt: skip
KINDS = {"chat": "chat", "legacy": "chat", "messages": "messages", "responses": "responses"}
"""The endpoint of each."""
