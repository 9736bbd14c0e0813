"""events.py: the end of a stream is looked for where it is."""

import pytest

from llmctl.proxy.dialect import endpoint_of
from llmctl.proxy.sse import Events

TOKEN = b'data: {"choices":[{"delta":{"content":" word"}}]}\n\n'
MANY = TOKEN * 5000


def stream(*pieces: bytes, path: bytes = b"/v1/chat/completions") -> Events:
    """Events that have got these pieces."""
    events = Events(endpoint_of(path))
    for piece in pieces:
        events.feed(piece)
    return events


@pytest.mark.parametrize("before", [b"", TOKEN, MANY])
@pytest.mark.parametrize("blank", [b"\n\n", b"\r\n\r\n"])
def test_the_end_is_found_after_much_and_after_nothing(before: bytes, blank: bytes) -> None:
    assert stream(before, b"data: [DONE]" + blank).is_finished


def test_an_error_is_found_after_much() -> None:
    assert stream(MANY, MANY, b'data: {"error":{"message":"no"}}\n\n').has_failed


def test_much_without_an_end_has_none() -> None:
    events = stream(*[MANY] * 6)
    assert not events.is_finished
    assert not events.has_failed


def test_the_end_of_a_native_completion_is_found_though_its_prompt_follows() -> None:
    last = b'data: {"content":"","stop":true,"prompt":"' + b"x" * 500_000 + b'"}\n\n'
    assert stream(MANY, last, path=b"/completion").is_finished


def test_what_follows_the_look_at_the_end_is_seen_too() -> None:
    events = stream(MANY)
    assert not events.is_finished
    events.feed(TOKEN + b"data: [DONE]\n\n")
    assert events.is_finished


def test_little_is_kept_for_the_record() -> None:
    events = stream(*[MANY] * 4, b"data: [DONE]\n\n")
    assert events.is_finished
    assert sum(map(len, events.last)) < 10 * len(TOKEN)
    assert b"".join(events.last).endswith(TOKEN + b"data: [DONE]\n\n")
