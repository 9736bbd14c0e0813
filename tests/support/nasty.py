"""Requests as nobody should send them, for hypothesis: grammar, then damage."""

from __future__ import annotations

from hypothesis import strategies as st

METHODS = [b"GET", b"POST", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"PATCH", b"CONNECT", b"PRI",
           b"get", b"BREW", b"", b"GET ", b"\x00GET", b"SOURCE", b"QUERY", b"M-SEARCH"]  # fmt: skip
TARGETS = [b"/", b"/v1/chat/completions", b"/v1/models?x=1", b"*", b"http://other/props?a#b",
           b"//x",
           b"http://other", b"http://other?x=1", b"HTTPS://o/x", b"ftp://x/", b"x:80", b"", b"/a b",
           b"/\xff", b"/\x00", b"/%00", b"/a#b", b"/\x7f", b"/\t"]  # fmt: skip
VERSIONS = [b"HTTP/1.1", b"HTTP/1.0", b"HTTP/0.9", b"HTTP/2.0", b"HTTP/1.2", b"http/1.1", b"",
            b"HTTP/1.1 ", b"HTTP/1.10", b"HTTP/11"]  # fmt: skip
HEADERS = [
    b"Content-Length: 5", b"Content-Length: 0", b"Content-Length: 05", b"Content-Length: +5",
    b"Content-Length: -5", b"Content-Length: 5, 5", b"Content-Length: 5_0", b"Content-Length:",
    b"Content-Length: 0x5", b"Content-Length: 5 ", b"Content-Length:\t5", b"Content-Length : 5",
    b" Content-Length: 5", b"Content-Length: 99999999999999999999999", b"content-length: 3",
    b"Transfer-Encoding: chunked", b"Transfer-Encoding: Chunked", b"Transfer-Encoding: xchunked",
    b"Transfer-Encoding: chunked, identity", b"Transfer-Encoding: identity",
    b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding : chunked", b"Transfer-Encoding:",
    b"Transfer-Encoding: \x0bchunked", b"Transfer-Encoding: chunked ",
    b"transfer_encoding: chunked",
    b"Transfer-Encoding: chunked\r\n Transfer-Encoding: x", b"X: a\r\n folded", b"X: a\r\n\tfolded",
    b"Host: x", b"Host: y", b"Host:", b"Host: a b", b"Connection: close",
    b"Connection: keep-alive", b"Connection: Upgrade", b"Upgrade: websocket", b"Upgrade: h2c",
    b"Connection: Upgrade, HTTP2-Settings", b"Connection: content-length", b"X: \x00", b"X: a\x00b",
    b"X: \xff\xfe", b"X\xff: a", b"X y: a", b"X: a\rb", b"X: a\nContent-Length: 5", b": empty",
    b"NoColon", b"X:", b"Trailer: X", b"TE: trailers", b"Expect: 100-continue", b"X: \x7f",
    b"Keep-Alive: 5", b"X-Long: " + b"a" * 2000, b"(bad): x", b"X: \xc2\xa0", b"X: a \t",
]  # fmt: skip
BODIES = [
    b"", b"hello", b"hello world", b"5\r\nhello\r\n0\r\n\r\n", b"0\r\n\r\n", b"00\r\n\r\n",
    b"5;ext=1\r\nhello\r\n0\r\n\r\n", b'5;a="\r\n"\r\nhello\r\n0\r\n\r\n',
    b"5\nhello\n0\n\n", b"5\r\nhello0\r\n\r\n", b"5\r\nhello\r\n0\r\nX: y\r\n\r\n",
    b"5\r\nhello\r\n0\r\nContent-Length: 9\r\n\r\n", b"5 \r\nhello\r\n0\r\n\r\n",
    b"0x5\r\nhello\r\n0\r\n\r\n", b"-5\r\nhello\r\n0\r\n\r\n", b"+5\r\nhello\r\n0\r\n\r\n",
    b"4\r\n\r\n\r\n\r\n0\r\n\r\n", b"2\r\n\r\n\r\n0\r\n\r\n", b"g\r\nhello\r\n0\r\n\r\n",
    b"1\r\na\r\n" * 5 + b"0\r\n\r\n", b"ffffffffffffffffff\r\nhello\r\n", b"5\r\nhello\r\n0\r\n",
    b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n",
    b"A" * 5 + b"GET /two HTTP/1.1\r\nHost: x\r\n\r\n",
    b"5\r\nhello\r\n0\r\n\r\nGET /two HTTP/1.1\r\nHost: x\r\n\r\n", b"\r\n", b"\r\n\r\n",
    b"5\r\nhello\r\n\r\n0\r\n\r\n", b"5;\nx\r\nhello\r\n0\r\n\r\n", b"5;\x00\r\nhello\r\n0\r\n\r\n",
]  # fmt: skip
FRAMED = [
    ([], b""), ([b"Content-Length: 5"], b"hello"), ([b"Content-Length: 5"], b"\r\n\r\n."),
    *[([b"Transfer-Encoding: chunked"], body) for body in BODIES if b"\r\n0\r\n" in body],
]  # fmt: skip
_LINE_ENDS = st.sampled_from([b"\r\n"] * 30 + [b"\n", b"\r", b"\r\r\n", b" \r\n", b"\n\r"])


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """One message, most often sound in most of its parts."""
    sound = draw(st.integers(0, 3)) > 0
    method = draw(st.sampled_from(METHODS[:7] if sound else METHODS))
    target = draw(st.sampled_from(TARGETS[:6] if sound else TARGETS))
    version = draw(st.sampled_from(VERSIONS[:1] if sound else VERSIONS))
    lines = [b" ".join((method, target, version))]
    if draw(st.integers(0, 9)):
        lines.append(b"Host: x")
    framing, body = draw(st.sampled_from(FRAMED)) if draw(st.booleans()) else ([], None)
    lines += [*framing, *draw(st.lists(st.sampled_from(HEADERS), max_size=1 if framing else 4))]
    ends = [b"\r\n"] * (len(lines) + 1) if sound else [draw(_LINE_ENDS) for _ in (*lines, 0)]
    head = b"".join(line + end for line, end in zip(lines, ends, strict=False)) + ends[-1]
    return head + (draw(st.sampled_from(BODIES)) if body is None else body)


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """What a client sends on one connection, perhaps with a few bytes changed."""
    data = bytearray(b"".join(draw(st.lists(messages(), min_size=1, max_size=3))))
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(data)))
        match draw(st.sampled_from(["insert", "drop", "change"])):
            case "insert":
                data[at:at] = draw(
                    st.sampled_from([b"\r", b"\n", b"\x00", b" ", b"\xff", b":", b"0"])
                )
            case "drop":
                del data[at : at + 1]
            case _:
                data[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
    return bytes(data)


SIZES = st.lists(st.integers(1, 40), max_size=30)
"""Of the pieces in which bytes arrive."""
