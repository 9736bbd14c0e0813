"""asked.py: the model that a body names, and bodies that are none."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.wire import Wire, answers_in

from llmctl.proxy.asked import Asked, asked
from llmctl.proxy.dialect import ENDPOINTS, OTHER, Trouble, endpoint_of
from llmctl.proxy.head import Request

if TYPE_CHECKING:
    from collections.abc import Iterator

CHAT = b"/v1/chat/completions"
DIALECTS = [CHAT, b"/v1/completions", b"/v1/messages", b"/v1/responses"]
JSON = b"application/json"


@pytest.fixture
def wire() -> Iterator[Wire]:
    with Wire() as made:
        yield made


def ask(
    body: bytes, path: bytes = CHAT, kind: bytes | None = JSON, method: bytes = b"POST"
) -> Asked | Trouble:
    headers = ((b"Content-Type", kind),) if kind is not None else ()
    return asked(Request(method, path, b"", "1.1", headers), endpoint_of(path), body)


@pytest.mark.parametrize(
    ("body", "wanted"),
    [(b'{"model":"a","stream":true}', Asked("a", stream=True)), (b"{}", Asked()),
     (b'{"model":null,"stream":null}', Asked()), (b'{"model":""}', Asked()),
     (b'{"stream":1}', Asked()), (b'{"model":"a","model":"b"}', Asked("b")),
     (b'{"x":{"model":"no"},"model":"\\u00e4"}', Asked("ä")), (b' \n{"model":"a"} ', Asked("a"))],
)  # fmt: skip
def test_what_is_asked(body: bytes, wanted: Asked) -> None:
    assert ask(body) == wanted


@pytest.mark.parametrize("kind", [JSON, b"application/json; charset=utf-8", b"Application/JSON",
                                  b"application/vnd.x+json", None, b""])  # fmt: skip
def test_kinds_that_are_json(kind: bytes | None) -> None:
    assert ask(b'{"model":"a"}', kind=kind) == Asked("a")


@pytest.mark.parametrize(
    "kind", [b"text/plain", b"application/x-www-form-urlencoded", b"image/png"]
)
def test_other_kinds_are_not_read(kind: bytes) -> None:
    found = ask(b'{"model":"a"}', kind=kind)
    assert isinstance(found, Trouble)
    assert found.status == 415
    assert ask(b'{"model":"a"}', path=b"/tokenize", kind=kind) == Asked()


FORM = (
    b"--x\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper\r\n"
    b"--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n"
    b"\x00\xff\r\n--x--\r\n"
)  # fmt: skip


def test_a_form_names_its_model() -> None:
    kind = b"multipart/form-data; boundary=x"
    assert ask(FORM, b"/v1/audio/transcriptions", kind) == Asked("whisper")
    assert ask(FORM.replace(b'"model"', b'"other"'), b"/v1/x", kind) == Asked()


def test_a_get_has_no_model() -> None:
    assert ask(b"", b"/props", None, b"GET") == Asked()
    assert ask(b"", CHAT, None, b"GET") == Asked()


def test_only_a_post_is_a_stream() -> None:
    assert ask(b'{"stream":true}', method=b"PUT") == Asked()


@given(st.binary(max_size=300))
def test_bytes_of_any_kind_are_a_request_or_a_refusal(body: bytes) -> None:
    for path in (CHAT, b"/tokenize"):
        found = ask(body, path)
        assert isinstance(found, Asked) or found.status == 400


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.text()
        | st.floats(allow_nan=False, allow_infinity=False),  # JSON has neither
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    ),
    st.booleans(),
    st.text(min_size=1),
)
def test_whatever_json_gives_we_read(value: Any, stream: bool, model: str) -> None:
    body = json.dumps({"x": value, "model": model, "stream": stream}).encode()
    if "\\ud" not in body.decode().lower():
        assert ask(body) == Asked(model, stream=stream)


BAD = {
    "truncated": b'{"model":"coder","messages":[{"role":"us',
    "binary": bytes(range(256)) * 10,
    "deeply nested": b'{"x":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    "deeply nested, truncated": b"[" * 300_000,
    "no object": b"[1,2]",
    "a text": b'"hello"',
    "nothing": b"",
    "a number for a model": b'{"model":7}',
    "a list for a model": b'{"model":["coder"]}',
    "two values": b"{}{}",
    "a model that is no text": b'{"model":"\xff\xfe"}',
}


@pytest.mark.parametrize("path", DIALECTS)
@pytest.mark.parametrize("name", BAD)
def test_a_bad_body_is_refused_in_the_words_of_its_dialect(
    wire: Wire, path: bytes, name: str
) -> None:
    body = BAD[name]
    client = wire.connect()
    client.sends(
        b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n" % (path, len(body)) + body
    )
    ((answer, said),) = answers_in(bytes(client.heard))
    error = json.loads(said)["error"]
    assert answer.status_code == 400
    assert error["message"]
    if path == b"/v1/messages":
        assert error["type"] == "invalid_request_error"
    else:
        assert error["type"].startswith("llmctl_invalid_")
    assert not wire.pool.opened
    assert not wire.proxy.relays


@pytest.mark.parametrize("coding", ["length", "chunks"])
@pytest.mark.parametrize("path", DIALECTS)
def test_a_body_that_is_too_large_is_refused_in_its_dialect(path: bytes, coding: str) -> None:
    with Wire(max_body=1 << 20) as wire:
        client = wire.connect()
        length = b"Content-Length: 1048577" if coding == "length" else b"Transfer-Encoding: chunked"
        client.sends(b"POST %b HTTP/1.1\r\nHost: x\r\n%b\r\n\r\n" % (path, length))
        if coding == "chunks":
            assert not client.heard
            client.sends((b"10000\r\n" + b"x" * 65536 + b"\r\n") * 17)
        ((answer, said),) = answers_in(bytes(client.heard))
        assert client.has_eof
        assert not client.is_shut, "it may still be sending"
    assert answer.status_code == 413
    assert (b"connection", b"close") in answer.headers
    wanted = "request_too_large" if path == b"/v1/messages" else "llmctl_body_too_large"
    assert json.loads(said)["error"]["type"] == wanted


def test_every_endpoint_is_known() -> None:
    assert {endpoint_of(path) for path in ENDPOINTS} == set(ENDPOINTS.values())
    assert endpoint_of(b"/props") is OTHER
