"""A request that is asked again after its answer was cut: the good part of the answer as what the
assistant has said, and a nudge as what the user says to it.

SEEN with llama-server 0.7.0: an assistant message with `reasoning_content` and an empty `content`
is taken (without `content` it is refused), and chat templates that keep reasoning show it; thinking
blocks of /v1/messages and reasoning items of /v1/responses end in the same message. A message of
/v1/responses must say its `type`.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from llmctl.core.guard.verdict import Channel, Loop
from llmctl.proxy.guard.texts import Text, Texts

_NUDGES = (
    "[A notice from the proxy, not from the user] Your answer began to repeat itself and was cut "
    "off at that point. Go on from there with something new; do not say again what you have said.",
    "[A notice from the proxy, not from the user] Your answer has repeated itself twice. Think "
    "no further about it: give the result, or take the next step, in a few sentences.",
    "[A notice from the proxy, not from the user] This is the last attempt. Give only the final "
    "answer, as short as you can, without any reasoning. If you cannot, say what is missing.",
)
"""What the model is told, firmer each time."""
_LESS_GREEDY = (
    {"dry_multiplier": 0.8, "dry_allowed_length": 4},
    {"dry_multiplier": 0.8, "dry_allowed_length": 2},
    {"dry_multiplier": 1.2, "dry_allowed_length": 2},
)
"""Sampling that a request has not chosen itself. `dry_multiplier` 0.8 broke a loop of the real
server that `repeat_penalty` 1.3 did not."""
_WARMER = {"temperature": 0.7, "top_p": 0.95}
"""From the second attempt on, where the request asked for (nearly) no chance at all."""
_COLD = 0.3
_LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens", "n_predict")

Body = dict[str, msgspec.Raw]


class Said(msgspec.Struct, frozen=True):
    """What the client has of the answer, as far as it did not repeat itself. tokens: how many were
    generated for it, and for what was cut."""

    content: str = ""
    reasoning: str = ""
    tokens: int = 0


def said_before(looping: tuple[Text, Loop], texts: Texts, tokens: int) -> Said:
    """Up to the end of the first copy of what repeats itself."""
    text, loop = looping
    found = {one: texts.seen(one, text.choice) for one in Channel}
    found[text.channel] = found[text.channel][: loop.cut]
    content, reasoning = found[Channel.CONTENT], found[Channel.REASONING]
    return Said(content.decode(errors="ignore"), reasoning.decode(errors="ignore"), tokens)


def replayed(
    raw: Any, endpoint: str, said: Said, *, attempt: int, more: Mapping[str, Any]
) -> bytes | None:
    """The body of the next attempt; None: this request cannot be asked again. raw: the body that
    the client sent. attempt: 1 for the first retry. more: keys that the guard adds to every
    attempt."""
    try:
        body = msgspec.json.decode(raw, type=Body)
        nudge = _NUDGES[min(attempt, len(_NUDGES)) - 1]
        if endpoint == "completions":
            kept = _prompted(body, said, nudge)
        else:
            kept = _MESSAGES[endpoint](body, said, nudge)
    except (msgspec.DecodeError, LookupError, AttributeError, TypeError, ValueError):
        return None
    if kept is None:
        return None
    added = {**kept, **_sampling(body, attempt), **_limits(body, said.tokens), **more}
    return msgspec.json.encode({**body, **added})


def _sampling(body: Body, attempt: int) -> dict[str, Any]:
    chosen = _LESS_GREEDY[min(attempt, len(_LESS_GREEDY)) - 1]
    found: dict[str, Any] = {k: v for k, v in chosen.items() if k not in body}
    if "dry_multiplier" in body:
        found = {}
    cold = _number(body.get("temperature"))
    if attempt > 1 and cold is not None and cold < _COLD:
        found |= _WARMER
    return found


def _limits(body: Body, tokens: int) -> dict[str, Any]:
    """What is left of the tokens that the client allowed."""
    found = {}
    for key in _LIMITS:
        most = _number(body.get(key))
        if most is not None and most > 0:
            found[key] = max(1, int(most) - tokens)
    return found


def _number(raw: msgspec.Raw | None) -> float | None:
    if raw is None:
        return None
    value = msgspec.json.decode(raw)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _appended(raw: msgspec.Raw, more: list[dict[str, Any]]) -> msgspec.Raw | None:
    """A list with more at its end, which is not parsed: it may be megabytes."""
    found = bytes(raw).rstrip()
    if not found.startswith(b"[") or not found.endswith(b"]"):
        return None
    rest = msgspec.json.encode(more)[1:]
    before = found[:-1].rstrip()
    return msgspec.Raw(before + (b"" if before == b"[" else b",") + rest)


def _last(raw: msgspec.Raw) -> dict[str, Any]:
    """The last of a list of objects."""
    items = msgspec.json.decode(raw, type=list[msgspec.Raw])
    found: dict[str, Any] = msgspec.json.decode(items[-1])
    return found


def _chat(body: Body, said: Said, nudge: str) -> dict[str, Any] | None:
    if _last(body["messages"]).get("role") == "assistant":
        return None  # the answer is the rest of a message that the client began
    message: dict[str, Any] = {"role": "assistant", "content": said.content}
    if said.reasoning:
        message["reasoning_content"] = said.reasoning
    more: list[dict[str, Any]] = [message, {"role": "user", "content": nudge}]
    found = _appended(body["messages"], more)
    return None if found is None else {"messages": found}


def _messages(body: Body, said: Said, nudge: str) -> dict[str, Any] | None:
    if _last(body["messages"]).get("role") == "assistant":
        return None
    blocks: list[dict[str, Any]] = []
    if said.reasoning:
        blocks.append({"type": "thinking", "thinking": said.reasoning, "signature": ""})
    if said.content or not blocks:
        blocks.append({"type": "text", "text": said.content})
    more: list[dict[str, Any]] = [
        {"role": "assistant", "content": blocks}, {"role": "user", "content": nudge},
    ]  # fmt: skip
    found = _appended(body["messages"], more)
    return None if found is None else {"messages": found}


def _responses(body: Body, said: Said, nudge: str) -> dict[str, Any] | None:
    asked = body["input"]
    if bytes(asked).lstrip().startswith(b'"'):
        asked = msgspec.Raw(b'[{"role":"user","content":%b}]' % bytes(asked))
    elif _last(asked).get("role") == "assistant":
        return None
    more: list[dict[str, Any]] = []
    if said.reasoning:
        text = {"type": "reasoning_text", "text": said.reasoning}
        more.append({
            "type": "reasoning", "summary": [], "content": [text], "encrypted_content": "",
        })  # fmt: skip
    text = {"type": "output_text", "text": said.content}
    more.append({"type": "message", "role": "assistant", "content": [text]})
    more.append({"role": "user", "content": nudge})
    found = _appended(asked, more)
    return None if found is None else {"input": found}


def _prompted(body: Body, said: Said, nudge: str) -> dict[str, Any] | None:
    """A bare text goes on; /infill fills a gap, in which there is no place for a nudge."""
    if "input_prefix" in body or "input_suffix" in body:
        return None
    prompt = msgspec.json.decode(body["prompt"])
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if not isinstance(prompt, str):
        return None
    return {"prompt": f"{prompt}{said.content}\n\n{nudge}\n\n"}


_MESSAGES = {"chat": _chat, "messages": _messages, "responses": _responses}
