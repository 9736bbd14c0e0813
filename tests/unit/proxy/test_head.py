"""head.py: targets, and heads as they go on."""

from __future__ import annotations

import pytest

from llmctl.proxy.head import AnswerHead, Request, answer_head, chunk, forwarded, split_target


@pytest.mark.parametrize(
    ("target", "parts"),
    [(b"/", (b"/", b"")), (b"/a?b=c?d", (b"/a", b"b=c?d")), (b"*", (b"*", b"")),
     (b"http://x/a?b", (b"/a", b"b")), (b"HTTPS://x", (b"/", b"")), (b"http://x?b", (b"/", b"b")),
     (b"http://u@x:1/a", (b"/a", b"")), (b"//x/a", (b"//x/a", b"")), (b"/%00", (b"/%00", b"")),
     (b"/%aF%20?%u0073&100%", (b"/%aF%20", b"%u0073&100%"))],
)  # fmt: skip
def test_targets(target: bytes, parts: tuple[bytes, bytes]) -> None:
    assert split_target(target) == parts


@pytest.mark.parametrize("target", [b"", b"a", b"x:80", b"ftp://x/", b"/ a", b"/\xff", b"/\x00",
                                    b"/\x7f", b"http:/x", b"**", b"/slots#", b"/a?b#c", b"#",
                                    b"/%u0073lots", b"/%", b"/%7", b"/%7g/",
                                    b"http://x/%s"])  # fmt: skip
def test_what_is_no_target(target: bytes) -> None:
    assert split_target(target) is None


def test_a_head_for_the_server() -> None:
    request = Request(b"POST", b"/x", b"", "1.1", ((b"Accept", b"*/*"), (b"HOST", b"evil")))
    head = forwarded(request, target=b"/x?y", port=1, length=3, key="k")
    assert head == (
        b"POST /x?y HTTP/1.1\r\nHost: 127.0.0.1:1\r\nAccept: */*\r\nAuthorization: Bearer k\r\n"
        b"Content-Length: 3\r\n\r\n"
    )


def test_lengths_and_chunks() -> None:
    assert chunk(b"hello") == b"5\r\nhello\r\n"
    for told, length in [(b"5", 5), (b"x", None), (b"1_0", None), (b"", None)]:
        request = Request(b"POST", b"/", b"", "1.1", ((b"Content-Length", told),))
        assert request.length == length
    assert not Request(b"POST", b"/", b"", "1.1", ((b"Content-Length", b"00"),)).has_body


def test_an_answers_words() -> None:
    assert answer_head(299, []) == b"HTTP/1.1 299 Unknown\r\n\r\n"
    assert answer_head(200, [(b"A", b"b")], reason=b"Fine") == b"HTTP/1.1 200 Fine\r\nA: b\r\n\r\n"
    assert AnswerHead(200, b"", ()).length is None
