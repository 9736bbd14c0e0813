"""record.py: what the server counted is found in every shape that it answers in."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llmctl.proxy.answer import Answer
from llmctl.proxy.dialect import endpoint_of
from llmctl.proxy.head import AnswerHead, Request
from llmctl.proxy.record import MOST_OPENING, Record, entry

TIMINGS = {
    "cache_n": 13, "prompt_n": 1, "prompt_ms": 0.3, "predicted_n": 3, "predicted_ms": 0.4,
    "predicted_per_second": 5037.783,
}  # fmt: skip
DELTA = b'data: {"choices":[{"index":0,"delta":{"content":"Hello"}}]}\n\n'
DONE = b"data: [DONE]\n\n"


def event(facts: Any, name: str = "") -> bytes:
    line = f"event: {name}\n" if name else ""
    return f"{line}data: {json.dumps(facts, separators=(',', ':'))}\n\n".encode()


def plain(facts: Any) -> bytes:
    return json.dumps(facts, separators=(",", ":")).encode()


def counted(
    path: str, *pieces: bytes, stream: bool = True, status: int = 200, end: bool = True
) -> Record:
    """The record of an answer that came in these pieces."""
    endpoint = endpoint_of(path.encode())
    request = Request(b"POST", path.encode(), b"", "1.1", ((b"Host", b"x"),))
    answer = Answer(request, endpoint, wants_stream=stream, served_by="a")
    record = Record(0.0, endpoint.name, path.encode(), "127.0.0.1", stream=stream)
    kind = b"text/event-stream" if stream else b"application/json"
    length = None if stream else sum(map(len, pieces))
    answer.head(AnswerHead(status, b"", [(b"content-type", kind)], length))
    for number, piece in enumerate(pieces):
        if answer.body(piece) and record.first is None:
            record.saw(piece, 1.0 + number)
    if end:
        answer.end()
    record.finish(9.0, answer)
    record.count()
    return record


def counts(record: Record) -> tuple[int | None, int | None]:
    return record.tokens_in, record.tokens_out


FINISH = event({"choices": [{"finish_reason": "stop", "delta": {}}], "timings": TIMINGS})
USAGE = {"completion_tokens": 3, "prompt_tokens": 14, "total_tokens": 17}


def test_a_chat_stream_ends_with_its_timings() -> None:
    record = counted("/v1/chat/completions", *[DELTA] * 9, FINISH, DONE)
    assert counts(record) == (14, 3)
    assert record.tokens_per_s == 5037.783
    assert (record.outcome, record.status) == ("ok", 200)


def test_all_of_it_may_come_at_once() -> None:
    assert counts(counted("/v1/chat/completions", DELTA + FINISH + DONE)) == (14, 3)


def test_timings_in_each_event_are_not_added_up() -> None:
    early = event({"choices": [], "timings": {**TIMINGS, "predicted_n": 1}})
    assert counts(counted("/v1/chat/completions", early, early, FINISH, DONE)) == (14, 3)


def test_drafts_are_counted() -> None:
    timings = {**TIMINGS, "draft_n": 10, "draft_n_accepted": 7}
    record = counted("/v1/chat/completions", event({"choices": [], "timings": timings}), DONE)
    assert record.draft == (10, 7)


def test_what_a_model_writes_is_not_counted() -> None:
    """Inside of text the quotes are escaped."""
    lie = json.dumps({"timings": {"predicted_n": 999}, "usage": {"completion_tokens": 999}})
    delta = event({"choices": [{"delta": {"content": lie}}]})
    assert counts(counted("/v1/chat/completions", delta, DONE)) == (None, None)


def test_a_plain_answer_has_timings_at_its_end() -> None:
    body = plain({"choices": [{"message": {"content": "x" * 90_000}}], "usage": USAGE,
                  "timings": TIMINGS})  # fmt: skip
    pieces = [body[at : at + 8192] for at in range(0, len(body), 8192)]
    for cut in ([body], pieces):
        assert counts(counted("/v1/chat/completions", *cut, stream=False)) == (14, 3)


def test_without_timings_the_usage_counts() -> None:
    body = plain({"choices": [], "usage": USAGE})
    assert counts(counted("/v1/chat/completions", body, stream=False)) == (14, 3)


@pytest.mark.parametrize("number", [b"9" * 5000, b"1e999"])
@pytest.mark.parametrize(
    "kind", [b'"usage":{"completion_tokens":%b}', b'"timings":{"prompt_n":%b}']
)
def test_numbers_that_nobody_can_read_count_for_nothing(kind: bytes, number: bytes) -> None:
    record = counted("/v1/chat/completions", b"{%b}" % (kind % number), stream=False)
    assert record.tokens_out in (None, 1)
    assert record.outcome == "ok"


MESSAGE_START = event(
    {"type": "message_start", "message": {"usage": {
        "cache_read_input_tokens": 13, "input_tokens": 1, "output_tokens": 0}}},
    "message_start",
)  # fmt: skip
MESSAGE_DELTA = event({"type": "content_block_delta", "delta": {"text": "hi"}}, "x")
MESSAGE_END = event({"type": "message_delta", "usage": {"output_tokens": 14}}, "message_delta")
MESSAGE_STOP = event({"type": "message_stop"}, "message_stop")


def test_messages_count_input_at_their_beginning_and_output_at_their_end() -> None:
    pieces = (MESSAGE_START, *[MESSAGE_DELTA] * 50, MESSAGE_END, MESSAGE_STOP)
    assert counts(counted("/v1/messages", *pieces)) == (14, 14)
    assert counts(counted("/v1/messages", b"".join(pieces))) == (14, 14)


def test_a_message_that_was_cut_short_wrote_nobody_knows_how_much() -> None:
    record = counted("/v1/messages", MESSAGE_START, *[MESSAGE_DELTA] * 3)
    assert (record.outcome, counts(record)) == ("stream_ended", (14, None))


def test_plain_messages_and_responses_have_usage() -> None:
    usage = {"cache_read_input_tokens": 10, "input_tokens": 1, "output_tokens": 14}
    body = plain({"content": [{"text": "hi"}], "usage": usage})
    assert counts(counted("/v1/messages", body, stream=False)) == (11, 14)
    usage = {"input_tokens": 11, "output_tokens": 14, "total_tokens": 25}
    body = plain({"output": [], "usage": {**usage, "input_tokens_details": {"cached_tokens": 10}}})
    assert counts(counted("/v1/responses", body, stream=False)) == (11, 14)


def test_embeddings_count_at_their_beginning() -> None:
    body = plain({"object": "list", "usage": {"prompt_tokens": 8, "total_tokens": 8},
                  "data": [{"embedding": [0.125] * 40_000}]})  # fmt: skip
    pieces = [body[at : at + 8192] for at in range(0, len(body), 8192)]
    assert counts(counted("/v1/embeddings", *pieces, stream=False)) == (8, None)


def test_counting_tokens_reads_none() -> None:
    body = plain({"input_tokens": 11})
    record = counted("/v1/messages/count_tokens", body, stream=False)
    assert counts(record) == (None, None)


@pytest.mark.parametrize("timings", [b"{}", b'{"prompt_n":"x"}', b'{"predicted_n":null}', b"{"])
def test_odd_timings_are_no_trouble(timings: bytes) -> None:
    body = b'{"usage":{"prompt_tokens":1,"completion_tokens":2},"timings":%b}' % timings
    assert counts(counted("/v1/chat/completions", body, stream=False)) == (1, 2)


def test_a_ping_is_not_the_first_token() -> None:
    record = counted("/v1/chat/completions", b":\n\n", b":\n\n", DELTA, FINISH, DONE)
    assert record.first == 3.0


def test_nothing_of_the_answer_is_kept() -> None:
    record = counted("/v1/chat/completions", b"data: " + b"x" * 9000 + b"\n\n", FINISH, DONE)
    assert record.opening == b""
    record.saw(b"y" * 9000, 1.0)
    assert len(record.opening) == MOST_OPENING


# The log's line


def test_a_line_of_the_log() -> None:
    record = counted("/v1/chat/completions", *[DELTA] * 9, FINISH, DONE)
    record.key, record.asked, record.served, record.admitted = "laptop", "gpt-4", "a", 0.25
    record.instance = 2
    assert entry(record, time="2026-11-20T12:00:00.000Z") == {
        "time": "2026-11-20T12:00:00.000Z", "key": "laptop", "peer": "127.0.0.1",
        "endpoint": "chat", "asked": "gpt-4", "served": "a", "instance": 2,
        "fallback_from": [], "stream": True,
        "status": 200, "outcome": "ok", "queue_s": 0.25, "ttft_s": 1.0, "total_s": 9.0,
        "tokens_in": 14, "tokens_out": 3, "tokens_per_s": 5037.78,
        "draft_tokens": None, "draft_accepted": None,
    }  # fmt: skip


def test_only_unknown_endpoints_are_told_by_their_path() -> None:
    record = counted("/tokenize", b"{}", stream=False)
    assert entry(record, time="")["path"] == "/tokenize"


def test_a_name_that_a_client_sent_is_not_kept_at_any_length() -> None:
    record = counted("/v1/chat/completions", b"{}", stream=False)
    record.asked = "x" * 100_000
    assert len(entry(record, time="")["asked"]) == 200
