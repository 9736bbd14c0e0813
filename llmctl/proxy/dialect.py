"""How each API says that something went wrong: before an answer has begun, and in its midst.

OpenAI's envelope with a `type` that begins with `llmctl_`, so that it is plain who speaks; on
/v1/messages Anthropic's. Inside a stream the official SDKs raise on a `data:` whose JSON has an
`error` (openai, _streaming.py: Stream.__stream__) and on `event: error` (anthropic, _streaming.py).
"""

import enum
from typing import Any

import msgspec

COMMENT = b":\n\n"


class Dialect(enum.Enum):
    """Whose shapes an endpoint speaks."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"
    RESPONSES = "responses"


class Endpoint(msgspec.Struct, frozen=True):
    """An endpoint that generates: its dialect, and whether `stream: true` gives events."""

    name: str
    dialect: Dialect = Dialect.OPENAI
    streams: bool = True


class Trouble(msgspec.Struct, frozen=True):
    """An error of ours. kind: the rest of its type after `llmctl_`. retry_after_s: when to come
    back. is_final: do not, unless a person says so."""

    status: int
    kind: str
    message: str
    retry_after_s: int | None = None
    is_final: bool = False


_CHAT = Endpoint("chat")
_COMPLETIONS = Endpoint("completions")
_MESSAGES = Endpoint("messages", Dialect.ANTHROPIC)
_RESPONSES = Endpoint("responses", Dialect.RESPONSES)
ENDPOINTS = {
    b"/v1/chat/completions": _CHAT, b"/chat/completions": _CHAT,
    b"/v1/completions": _COMPLETIONS, b"/completions": _COMPLETIONS, b"/completion": _COMPLETIONS,
    b"/infill": _COMPLETIONS, b"/v1/messages": _MESSAGES, b"/v1/responses": _RESPONSES,
    b"/responses": _RESPONSES,
    b"/v1/messages/count_tokens": Endpoint("count_tokens", Dialect.ANTHROPIC, streams=False),
    b"/v1/embeddings": Endpoint("embeddings", streams=False),
    b"/embeddings": Endpoint("embeddings", streams=False),
    b"/embedding": Endpoint("embeddings", streams=False),
    b"/v1/rerank": Endpoint("rerank", streams=False), b"/rerank": Endpoint("rerank", streams=False),
    b"/v1/reranking": Endpoint("rerank", streams=False),
    b"/reranking": Endpoint("rerank", streams=False),
}  # fmt: skip
OTHER = Endpoint("other", streams=False)
"""Everything else that llama-server has, or will have."""


_PURE = frozenset({
    b"/tokenize", b"/detokenize", b"/apply-template", b"/v1/audio/transcriptions",
    b"/audio/transcriptions", b"/v1/chat/completions/input_tokens",
    b"/chat/completions/input_tokens", b"/v1/responses/input_tokens", b"/responses/input_tokens",
})  # fmt: skip
_SAFE = frozenset({b"GET", b"HEAD", b"OPTIONS"})


def is_repeatable(method: bytes, path: bytes) -> bool:
    """May it be asked for again when no answer came? Reading (RFC 9110, 9.2.1) and generating
    change nothing, and these paths know nothing else. Of all others nobody knows: a slot may have
    been saved, a tool have run."""
    return path in ENDPOINTS or path in _PURE or method in _SAFE


def endpoint_of(path: bytes) -> Endpoint:
    """What a path is; OTHER for those that are not known."""
    found = ENDPOINTS.get(path)
    if found is None and path.startswith(b"/v1/messages/"):
        return Endpoint("other", Dialect.ANTHROPIC, streams=False)
    return found or OTHER


_ANTHROPIC_TYPES = {
    400: "invalid_request_error", 401: "authentication_error", 403: "permission_error",
    404: "not_found_error", 413: "request_too_large", 429: "rate_limit_error",
    503: "overloaded_error", 529: "overloaded_error",
}  # fmt: skip


def _openai(trouble: Trouble) -> dict[str, Any]:
    return {
        "message": trouble.message, "type": f"llmctl_{trouble.kind}", "param": None,
        "code": trouble.kind,
    }  # fmt: skip


def error_body(dialect: Dialect, trouble: Trouble) -> bytes:
    """The body of an answer that is an error."""
    if dialect is Dialect.ANTHROPIC:
        kind = _ANTHROPIC_TYPES.get(trouble.status, "api_error")
        error = {"type": kind, "message": trouble.message, "code": f"llmctl_{trouble.kind}"}
        return msgspec.json.encode({"type": "error", "error": error})
    return msgspec.json.encode({"error": _openai(trouble)})


def error_event(dialect: Dialect, trouble: Trouble) -> bytes:
    """The one event that ends a stream that cannot go on. Nothing follows it: no `[DONE]`."""
    if dialect is Dialect.ANTHROPIC:
        return b"event: error\ndata: %b\n\n" % error_body(dialect, trouble)
    error = _openai(trouble)
    if dialect is Dialect.RESPONSES:
        told = {"type": "error", **{k: error[k] for k in ("code", "message", "param")}}
        return b"event: error\ndata: %b\n\n" % msgspec.json.encode({**told, "error": error})
    return b"data: %b\n\n" % msgspec.json.encode({"error": error})


def error_page(dialect: Dialect, trouble: Trouble) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """The body and the headers of an answer that is an error of ours."""
    headers = [(b"Content-Type", b"application/json")]
    if trouble.retry_after_s is not None:
        headers.append((b"Retry-After", b"%d" % trouble.retry_after_s))
    if trouble.is_final:  # the official SDKs ask again by themselves, unless this says no
        headers.append((b"X-Should-Retry", b"false"))
    if trouble.status == 401:
        headers.append((b"WWW-Authenticate", b'Bearer realm="llmctl", Basic realm="llmctl"'))
    return error_body(dialect, trouble), headers
