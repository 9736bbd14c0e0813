"""What is done with a request before it goes to the server: is its answer guarded, and how?"""

from typing import Any

import msgspec

from llmctl.core.guard.settings import GuardSettings
from llmctl.proxy.guard.event import GUARDED


class _Asked(msgspec.Struct):
    """The keys of a body that matter here."""

    model: Any = None
    stream: Any = False
    stream_options: Any = None
    n: Any = 1
    n_probs: Any = 0
    n_cmpl: Any = 1
    best_of: Any = 1
    echo: Any = False
    verbose: Any = False
    prompt: msgspec.Raw = msgspec.Raw(b"null")
    response_fields: Any = None
    response_format: Any = None
    text: Any = None
    grammar: Any = None
    json_schema: Any = None
    return_progress: Any = False
    return_tokens: Any = False
    logprobs: Any = None
    max_tokens: Any = None
    max_completion_tokens: Any = None
    max_output_tokens: Any = None
    n_predict: Any = None
    add_generation_prompt: Any = True
    continue_final_message: Any = False


MOST_SHORT = 128
"""Tokens. An answer that may have no more is over before a loop in it is certain."""


class Plan(msgspec.Struct, frozen=True):
    """How an answer is guarded. added: keys that go into its request. assembles: the client wants
    no stream, and the server is asked for one. may_retry: it can be asked again. returns_tokens:
    a whole answer of /completion has its tokens."""

    endpoint: str
    settings: GuardSettings
    model: str = ""
    added: dict[str, Any] = {}
    assembles: bool = False
    may_retry: bool = True
    may_end_reasoning: bool = False
    wants_usage: bool = False
    hides_progress: bool = False
    returns_tokens: bool = False


_DECODER = msgspec.json.Decoder(_Asked)
KEYS = _Asked.__struct_fields__
"""Of a body, what decides how its answer is guarded; of `prompt` only for a whole answer."""


def plan(endpoint: str, body: Any, settings: GuardSettings) -> Plan | None:
    """None: not guarded. That is: what generates no text; and, of requests for a whole answer, what
    would not be put together from a stream exactly as the server does it: several choices or
    prompts, probabilities of tokens (of the last, a stream tells none), a chosen set of fields;
    and what may have MOST_SHORT tokens at most."""
    if endpoint not in GUARDED or settings.mode == "off":
        return None
    try:
        asked = _DECODER.decode(body)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    streams = asked.stream is True
    if not streams and (asked.stream not in (None, False) or _is_odd(asked)):
        return None  # the server refuses what is no answer to whether it is to stream
    return _planned(endpoint, asked, settings, streams=streams)


def _is_odd(asked: _Asked) -> bool:
    counts = (asked.n, asked.n_cmpl, asked.best_of)
    if any(one is not None and one != 1 for one in counts) or asked.n_probs or asked.logprobs:
        return True
    limits = asked.max_tokens, asked.max_completion_tokens, asked.max_output_tokens, asked.n_predict
    if any(isinstance(one, int | float) and 0 <= one <= MOST_SHORT for one in limits):
        return True
    if asked.echo or asked.verbose or asked.response_fields or asked.return_progress:
        return True
    prompt = bytes(asked.prompt).lstrip()
    return not prompt.startswith((b'"', b"null"))


def _planned(endpoint: str, asked: _Asked, settings: GuardSettings, *, streams: bool) -> Plan:
    options = asked.stream_options if isinstance(asked.stream_options, dict) else {}
    wants_usage = not streams or options.get("include_usage") is True
    added: dict[str, Any] = {}
    if not streams:
        added["stream"] = True
        if endpoint == "chat":
            added["stream_options"] = {"include_usage": True}
    acts = settings.mode == "on"
    native = acts and settings.native and endpoint == "chat"
    if native:
        added["reasoning_control"] = True
    # On /v1/completions an event without text would come with it.
    counts = wants_usage and (endpoint == "chat" or (endpoint == "completions" and not streams))
    hides = acts and counts and not asked.return_progress
    if hides:
        added["return_progress"] = True
    return Plan(
        endpoint, settings, asked.model if isinstance(asked.model, str) else "", added,
        not streams, not _is_bound(asked), native, wants_usage, hides, bool(asked.return_tokens),
    )  # fmt: skip


def _is_bound(asked: _Asked) -> bool:
    """Must the answer have a form that no second attempt can go on in? JSON that began in the first
    would begin anew."""
    formats = asked.response_format, (asked.text or {}) if isinstance(asked.text, dict) else {}
    formed = any(isinstance(one, dict) and _forms(one) for one in formats)
    several = any(one is not None and one != 1 for one in (asked.n, asked.n_cmpl))
    goes_on = asked.add_generation_prompt is False or bool(asked.continue_final_message)
    return formed or several or goes_on or bool(asked.grammar) or bool(asked.json_schema)


def _forms(told: dict[str, Any]) -> bool:
    kind = told.get("format", told) if isinstance(told.get("format"), dict) else told
    return kind.get("type") not in (None, "text")


def amended(tail: bytes, added: dict[str, Any]) -> tuple[int, bytes] | None:
    """How keys are put into a body that is not read again: how many bytes of its end are cut off,
    and what takes their place. tail: the end of the body; None: that is no end of an object.

    Of a key that is there twice the last counts, for llama-server and for most parsers."""
    if not added:
        return 0, b""
    found = tail.rstrip()
    if not found.endswith(b"}"):
        return None
    rest = msgspec.json.encode(added)[1:]
    comma = b"" if found[:-1].rstrip().endswith(b"{") else b","
    return len(tail) - len(found) + 1, comma + rest
