"""answer.py and sse.py: what a client gets of what a server says, and when it falls silent."""

from __future__ import annotations

from typing import Any

import h11
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.streams import ERRORS, PATHS, RECORDED, events, path_of, recorded
from support.wire import answers_in

from llmctl.proxy import sse
from llmctl.proxy.answer import Answer
from llmctl.proxy.dialect import COMMENT, Trouble, endpoint_of
from llmctl.proxy.head import AnswerHead, Request

DIED = Trouble(502, "upstream_died", "coder went away.")
STREAM = AnswerHead(200, b"OK", ((b"Content-Type", b"text/event-stream"),))
PLAIN = AnswerHead(200, b"OK", ((b"Content-Type", b"application/json"),), 8)


def asked(path: bytes = PATHS["chat"], version: str = "1.1", method: bytes = b"POST") -> Request:
    return Request(method, path, b"", version, ((b"Host", b"x"),), keep_alive=version == "1.1")


def answering(path: bytes = PATHS["chat"], *, version: str = "1.1") -> Answer:
    return Answer(asked(path, version), endpoint_of(path), wants_stream=True, served_by="coder")


def body_of(sent: bytes, *, ended: bool = False) -> bytes:
    ((_, body),) = answers_in(sent, ended=ended)
    return body


def is_error(event: tuple[str, Any]) -> bool:
    name, data = event
    return name == "error" or (isinstance(data, dict) and "error" in data)


# Whole streams


@pytest.mark.parametrize("name", RECORDED)
@given(sizes=st.lists(st.integers(1, 300), max_size=40))
def test_a_stream_is_what_the_server_sent_in_whole_events(name: str, sizes: list[int]) -> None:
    answer, data, at = answering(path_of(name)), recorded(name), 0
    sent = answer.head(STREAM)
    for size in (*sizes, len(data)):
        piece = answer.body(data[at : at + size])
        if piece:
            assert piece.endswith(b"\n\n\r\n"), "part of an event went out"
        sent += piece
        at += size
    sent += answer.end()
    assert body_of(sent) == data
    assert answer.outcome == "ok"
    assert b"X-Served-By: coder\r\n" in sent


@pytest.mark.parametrize("how", ["dies", "ends"])
@pytest.mark.parametrize(
    ("name", "version"), [*((one, "1.1") for one in RECORDED), ("chat", "1.0"), ("messages", "1.0")]
)
def test_wherever_a_stream_breaks_off_it_ends_in_one_error(
    name: str, version: str, how: str
) -> None:
    """And wherever nothing is missing, in none."""
    data, path = recorded(name), path_of(name)
    for cut in range(len(data)):
        answer = answering(path, version=version)
        sent = answer.head(STREAM) + answer.body(data[:cut])
        sent += answer.trouble(DIED) if how == "dies" else answer.end()
        assert answer.is_done
        assert not answer.broken
        found = events(body_of(sent, ended=version == "1.0"))
        whole = events(data[: data.rfind(b"\n\n", 0, cut) + 2])
        if whole == events(data):
            assert found == whole
        else:
            assert found[:-1] == whole, cut
            assert is_error(found[-1]), cut


@pytest.mark.parametrize("name", ["chat", "completions", "messages", "responses"])
def test_after_an_error_of_the_server_there_is_no_second(name: str) -> None:
    first = recorded(name).partition(b"\n\n")[0] + b"\n\n"
    for ends in (Answer.end, lambda answer: answer.trouble(DIED)):
        answer = answering(PATHS[name])
        sent = answer.head(STREAM) + answer.body(first + ERRORS[name]) + ends(answer)
        assert [is_error(one) for one in events(body_of(sent))] == [False, True]
        assert answer.outcome == "server_error"


def test_an_error_on_messages_is_put_into_anthropics_words() -> None:
    answer = answering(PATHS["messages"])
    answer.head(STREAM)
    (event,) = events(body_of(answer_with(PATHS["messages"], ERRORS["messages"])))
    assert event[0] == "error"
    assert event[1]["type"] == "error"  # type: ignore[index]
    assert event[1]["error"]["type"] == "api_error"  # type: ignore[index]
    assert event[1]["error"]["message"] == "Context size has been exceeded."  # type: ignore[index]


def answer_with(path: bytes, data: bytes) -> bytes:
    answer = answering(path)
    return answer.head(STREAM) + answer.body(data) + answer.end()


@pytest.mark.parametrize("said", [
    b'data: {"choices":[{"delta":{"content":"data: [DONE]"}}]}\n\n',
    b'data: {"choices":[{"delta":{"content":"\\n\\ndata: [DONE]\\n\\n"}}]}\n\n',
    b'event: content_block_delta\ndata: {"delta":{"text":"event: message_stop"}}\n\n',
    b'data: {"content":"\\"stop\\":true"}\n\n',
])  # fmt: skip
@pytest.mark.parametrize("name", ["chat", "completions-native", "messages", "responses"])
def test_what_a_model_says_does_not_end_its_answer(name: str, said: bytes) -> None:
    assert is_error(events(body_of(answer_with(path_of(name), said)))[-1])


def test_other_line_ends_are_known() -> None:
    data = b"data: {}\r\n\r\ndata: [DONE]\r\n\r\n"
    for cut in range(len(data)):
        answer = answering()
        sent = answer.head(STREAM) + answer.body(data[:cut]) + answer.body(data[cut:])
        assert body_of(sent + answer.end()) == data


def test_an_event_that_is_too_long_is_not_mended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Part of it is out, so nothing can follow but its own rest: the connection is cut."""
    monkeypatch.setattr(sse, "_MOST_HELD", 1000)
    answer = answering()
    sent = answer.head(STREAM) + answer.body(b"data: " + b"x" * 2000)
    assert b"x" * 2000 in sent
    assert answer.comment() == b""
    assert answer.trouble(DIED) == b""
    assert answer.broken
    answer = answering()
    answer.head(STREAM)
    answer.body(b"data: " + b"x" * 2000)
    assert b"\n\n" in answer.body(b"\n\n")
    assert is_error(events(body_of(answering().head(STREAM) + answer.trouble(DIED)))[-1])


def test_an_end_is_enough_where_an_endpoint_has_no_last_event() -> None:
    answer = answering(b"/models/sse")
    sent = answer.head(STREAM) + answer.body(b"data: {}\n\n") + answer.end()
    assert body_of(sent) == b"data: {}\n\n"
    assert answer.outcome == "ok"


# Before the server answers


def test_signs_of_life_come_before_the_servers_head() -> None:
    answer = answering()
    sent = answer.comment() + answer.comment() + answer.event(b'data: {"x":1}\n\n')
    assert not answer.has_answer
    sent += answer.head(STREAM) + answer.body(recorded("chat"))
    assert answer.event(b"data: {}\n\n") == b""
    sent += answer.comment() + answer.end()
    assert answer.comment() == b""
    body = body_of(sent)
    assert body == COMMENT * 2 + b'data: {"x":1}\n\n' + recorded("chat") + COMMENT
    assert sent.count(b"HTTP/1.1 200 OK") == 1


@pytest.mark.parametrize("name", ["chat", "completions", "messages", "responses"])
@pytest.mark.parametrize("refusal", [
    b'{"error":{"code":400,"message":"Too long.","type":"x"}}', b"<html>", b"", b"[]",
    b'{"error":"Too long."}',
])  # fmt: skip
def test_a_refusal_becomes_an_event_where_the_stream_is_open(name: str, refusal: bytes) -> None:
    answer = answering(PATHS[name])
    sent = answer.comment() + answer.head(AnswerHead(400, b"", (), len(refusal)))
    sent += answer.body(refusal[:10]) + answer.body(refusal[10:]) + answer.end()
    (event,) = events(body_of(sent))
    assert is_error(event)
    if refusal.startswith(b'{"error":{'):
        assert "Too long." in str(event)


def test_who_wants_no_stream_hears_nothing_before() -> None:
    answer = Answer(asked(), endpoint_of(PATHS["chat"]))
    assert answer.comment() == answer.event(b"data: {}\n\n") == b""
    assert answer.head(PLAIN).startswith(b"HTTP/1.1 200 OK\r\n")


# Plain answers


def test_a_plain_answer_that_breaks_off_cuts_the_connection() -> None:
    for head in (PLAIN, AnswerHead(200, b"OK", ())):
        answer = Answer(asked(), endpoint_of(PATHS["chat"]))
        sent = answer.head(head) + answer.body(b"{") + answer.trouble(DIED)
        assert answer.broken
        assert not answer.keep_alive
        with pytest.raises(h11.RemoteProtocolError):
            answers_in(sent, ended=True)


@pytest.mark.parametrize("dropped", [
    b"Connection", b"Keep-Alive", b"Transfer-Encoding", b"Access-Control-Allow-Origin",
    b"X-Served-By",     b"X-Hop", b"Trailer",
])  # fmt: skip
def test_what_is_the_connections_does_not_go_on(dropped: bytes) -> None:
    given = ((dropped, b"X-Hop"), (b"Connection", b"x-hop"), (b"X-Kept", b"1"))
    sent = Answer(asked(), endpoint_of(b"/props")).head(AnswerHead(200, b"OK", given, 0))
    assert sent == b"HTTP/1.1 200 OK\r\nX-Kept: 1\r\nContent-Length: 0\r\n\r\n"


def test_only_one_answer_is_given() -> None:
    answer = answering()
    assert answer.trouble(DIED)
    assert answer.trouble(DIED) == answer.end() == answer.comment() == b""


# Errors of ours


@pytest.mark.parametrize(
    ("path", "shape"),
    [(PATHS["chat"], {"error"}), (PATHS["completions"], {"error"}), (PATHS["responses"], {"error"}),
     (PATHS["messages"], {"type", "error"}), (b"/v1/messages/count_tokens", {"type", "error"}),
     (b"/v1/messages/batches", {"type", "error"}), (b"/v1/embeddings", {"error"}),
     (b"/x", {"error"})],
)  # fmt: skip
def test_a_refusal_has_the_shape_of_its_dialect(path: bytes, shape: set[str]) -> None:
    answer = Answer(asked(path), endpoint_of(path), served_by="coder")
    ((head, body),) = answers_in(answer.trouble(Trouble(503, "x", "Not now.", retry_after_s=7)))
    told = {k.decode(): v for k, v in head.headers}
    said: dict[str, Any] = msgspec.json.decode(body)
    assert head.status_code == 503
    assert told["retry-after"] == b"7"
    assert told["x-served-by"] == b"coder"
    assert set(said) == shape
    assert said["error"]["code"] in ("x", "llmctl_x")
    assert said["error"]["message"] == "Not now."
    kind = "overloaded_error" if "type" in shape else "llmctl_x"
    assert said["error"]["type"] == kind
