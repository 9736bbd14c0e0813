"""A head that a server has sent before is not read again: the answer is the same as if it were."""

from __future__ import annotations

import pytest

from llmctl.proxy.answer_reader import AnswerReader, GarbledError, Known

HEAD = (
    b"HTTP/1.1 200 OK\r\nServer: llama.cpp\r\nContent-Type: text/event-stream\r\n"
    b"Transfer-Encoding: chunked\r\nKeep-Alive: timeout=5, max=100\r\n\r\n"
)
BODY = b"6\r\ndata: \r\n4\r\n{}\n\n\r\n0\r\n\r\n"
PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
CLOSES = HEAD.replace(b"Keep-Alive: timeout=5, max=100", b"Connection: close")
ANSWERS = {
    "the same": HEAD + BODY,
    "another body": HEAD + b"1\r\nx\r\n0\r\n\r\n",
    "trailers": HEAD + BODY[:-2] + b"X-More: 1\r\n\r\n",
    "a part of it": HEAD + BODY[:9],
    "another letter": HEAD.replace(b"llama", b"Llama") + BODY,
    "another status": HEAD.replace(b"200 OK", b"404 Not Found") + BODY,
    "a length": PLAIN,
    "it closes": CLOSES + BODY,
    "after an interim answer": b"HTTP/1.1 100 Continue\r\n\r\n" + HEAD + BODY,
    "another answer after it": HEAD + BODY + HEAD + BODY,
    "an interim one after it": HEAD + BODY + b"HTTP/1.1 100 Continue\r\n\r\n",
    "bytes after it": HEAD + BODY + b"x",
    "no chunk": HEAD + b"zz\r\n",
    "until its end": b"HTTP/1.1 200 OK\r\n\r\nwords",
    "no HTTP": b"nonsense\r\n\r\n",
}


def known(head: bytes = HEAD) -> Known | None:
    reader = AnswerReader()
    reader.feed(head + BODY)
    return reader.known


def read(reader: AnswerReader, data: bytes, size: int) -> tuple[object, ...]:
    """All that can be seen of an answer."""
    wrong = body = b""
    try:
        for at in range(0, len(data), size):
            reader.feed(memoryview(data)[at : at + size])
            body += reader.taken()
    except GarbledError as error:
        wrong = str(error).encode()
    facts = reader.head, reader.is_whole, reader.is_clean, body, wrong
    return *facts, reader.close()


@pytest.mark.parametrize("size", [1, 7, len(HEAD), 10_000])
@pytest.mark.parametrize("before", [HEAD, CLOSES], ids=["stays", "closes"])
@pytest.mark.parametrize("answer", ANSWERS)
def test_what_is_known_changes_nothing(answer: str, before: bytes, size: int) -> None:
    data = ANSWERS[answer]
    assert read(AnswerReader(known=known(before)), data, size) == read(AnswerReader(), data, size)


def test_a_known_head_is_not_made_again() -> None:
    first = known()
    assert first is not None
    reader = AnswerReader(known=first)
    reader.feed(HEAD + BODY)
    assert reader.head is first.head
    assert reader.known is first


@pytest.mark.parametrize(
    "answer", ["a length", "another status", "until its end", "after an interim answer"]
)
def test_what_says_something_of_one_answer_alone_is_not_kept(answer: str) -> None:
    reader = AnswerReader()
    reader.feed(ANSWERS[answer])
    assert reader.known is None


def test_an_answer_to_head_keeps_none_and_uses_none() -> None:
    reader = AnswerReader(is_head=True, known=known())
    reader.feed(HEAD)
    assert (reader.is_whole, reader.known) == (True, None)


def test_a_long_head_is_not_kept() -> None:
    assert known(HEAD.replace(b"llama", b"l" * 4000)) is None
