"""What is read of a server's events, the quick way and the thorough way."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.guarding import reads, session_of
from support.speaking import ENDPOINTS, TALKING, Speaker, name_of
from support.streams import RECORDED, path_of, recorded

from llmctl.core.guard.settings import GuardSettings
from llmctl.core.guard.verdict import Channel, Loop
from llmctl.proxy.dialect import endpoint_of
from llmctl.proxy.guard.event import Delta, parsed, split
from llmctl.proxy.guard.plan import plan
from llmctl.proxy.guard.session import Session
from llmctl.proxy.guard.shape import Shape, learned


class Heard:
    """A detector that only listens. all: what each was fed, by channel."""

    all: dict[Channel, list[bytes]]
    loop: Loop | None = None
    safe = 1 << 62

    def __init__(self, channel: Channel, *, window: int) -> None:
        assert window >= 8192
        self._pieces = Heard.all.setdefault(channel, [])

    def feed(self, piece: bytes) -> int:
        self._pieces.append(piece)
        return self.safe


def listening(dialect: str) -> Session:
    Heard.all = {}
    found = plan(name_of(dialect), b'{"stream":true}', GuardSettings())
    assert found is not None
    return Session(found, Heard)


def heard() -> dict[Channel, bytes]:
    return {channel: b"".join(pieces) for channel, pieces in Heard.all.items() if pieces}


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
@pytest.mark.parametrize("name", RECORDED)
def test_recorded_streams_pass_as_they_come(name: str, size: int) -> None:
    endpoint, data = endpoint_of(path_of(name)).name, recorded(name)
    session = session_of(endpoint)
    assert b"".join(session.feed(piece) for piece in reads(data, size)) == data


@pytest.mark.parametrize("dialect", ENDPOINTS)
@given(pieces=st.lists(st.text(min_size=1), min_size=1, max_size=30), size=st.integers(1, 4))
def test_every_text_is_heard_as_it_is_meant(dialect: str, pieces: list[str], size: int) -> None:
    """Quotes, backslashes, line ends, letters of several bytes; the event passes unchanged."""
    pieces = [piece.encode(errors="replace").decode() for piece in pieces]
    speaker, session = Speaker(dialect), listening(dialect)
    stream = speaker.begin() + speaker.say(*pieces) + speaker.finish()
    assert b"".join(session.feed(data) for data in reads(stream, size)) == stream
    assert heard().get(Channel.CONTENT, b"") == "".join(pieces).encode()


@pytest.mark.parametrize("dialect", TALKING)
def test_texts_are_told_apart(dialect: str) -> None:
    speaker, session = Speaker(dialect), listening(dialect)
    stream = speaker.begin() + speaker.think("Let", " me") + speaker.say("It", " is")
    stream += speaker.call("{", '"city":', '"Paris"}') + speaker.finish()
    for data in reads(stream, 1):
        session.feed(data)
    assert heard() == {
        Channel.REASONING: b"Let me", Channel.CONTENT: b"It is",
        Channel.TOOL: b'get_weather{"city":"Paris"}',
    }  # fmt: skip


CHAT: list[tuple[Any, list[tuple[int, Channel, bytes]]]] = [
    ({"content": None, "reasoning_content": "so"}, [(0, Channel.REASONING, b"so")]),
    ({"content": "a", "extra": {"content": "no"}}, [(0, Channel.CONTENT, b"a")]),
    ({"content": ""}, []),
    ({"reasoning": "so", "content": "a"},
     [(0, Channel.REASONING, b"so"), (0, Channel.CONTENT, b"a")]),
    ({"tool_calls": [{"index": 1, "function": {"arguments": "{"}}]}, [(0, Channel.TOOL, b"{")]),
    ({"tool_calls": [{"index": 1, "function": None}], "content": None}, []),
    ({"function_call": {"name": "f", "arguments": "{"}},
     [(0, Channel.TOOL, b"f"), (0, Channel.TOOL, b"{")]),
    ({"content": 7}, []),
]  # fmt: skip


@pytest.mark.parametrize(("delta", "wanted"), CHAT)
def test_deltas_of_chat(delta: Any, wanted: Any) -> None:
    told = {"id": "x", "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
    found = parsed(b"data: %b\n\n" % json.dumps(told).encode(), "chat")
    assert found.deltas == tuple(Delta(*one) for one in wanted)
    assert not found.ends


def test_every_choice_has_texts_of_its_own() -> None:
    choices = [{"index": n, "delta": {"content": f"c{n}"}} for n in (1, 0)]
    found = parsed(b"data: %b\n\n" % json.dumps({"choices": choices}).encode(), "chat")
    assert [(one.choice, one.text) for one in found.deltas] == [(1, b"c1"), (0, b"c0")]


@pytest.mark.parametrize("endpoint", ["chat", "completions", "messages", "responses"])
@pytest.mark.parametrize(
    "raw",
    [
        b"data: {\n\n", b"data: 7\n\n", b"data: []\n\n", b": ping\n\n", b"data: [DONE]\n\n",
        b"event: x\n\n", b'data: {"choices":7}\n\n', b'data: {"choices":[7]}\n\n',
        b'data: {"type":"content_block_delta"}\n\n', b'data: {"type":7}\n\n',
        b'data: {"type":"response.output_item.added","item":3}\n\n', b"data: \xff\xfe\n\n",
        b"\n\n", b'data: {"error":{"code":500}}\n\n', b"data: " + b"[" * 5000 + b"\n\n",
    ],
)  # fmt: skip
def test_what_nobody_promised_passes(endpoint: str, raw: bytes) -> None:
    """And what follows is still read."""
    session = listening(endpoint)
    assert session.feed(raw) == raw
    speaker = Speaker(endpoint)
    stream = speaker.begin() + speaker.say("one", " two") + speaker.finish()
    assert session.feed(stream) == stream
    assert heard() == {Channel.CONTENT: b"one two"}


def test_lines_of_an_event_may_be_several_and_end_in_cr() -> None:
    raw = b'id: 3\r\ndata: {"choices":[{"index":0,\r\ndata: "delta":{"content":"a"}}]}\r\n\r\n'
    (one,) = split(raw)
    assert parsed(one, "chat").deltas == (Delta(0, Channel.CONTENT, b"a"),)


def read(shape: Shape, data: bytes) -> list[str] | None:
    """What events of a shape say."""
    if not (data.startswith(shape.before) and data.endswith(shape.after)):
        return None
    found = shape.told(data)
    assert found is None or b"".join(shape.events(data)) == data
    return found


@pytest.mark.parametrize("dialect", ENDPOINTS)
def test_a_shape_holds_for_another_text(dialect: str) -> None:
    speaker = Speaker(dialect)
    speaker.begin()
    speaker.say("first")
    one, other = parsed(speaker.say("word"), name_of(dialect)), speaker.say("näxt\n")
    shape = learned(one, name_of(dialect))
    assert shape is not None
    if dialect != "native":  # its events count
        assert read(shape, other) == ["näxt\n"]
        assert read(shape, other + one.raw + other) == ["näxt\n", "word", "näxt\n"]
    assert read(shape, speaker.finish()) is None
    assert read(shape, other + b": c\n\n" + other) is None


@pytest.mark.parametrize("text", ["coder", "content", "index", 'a"b', "a\\b", "stop"])
def test_a_shape_is_only_learned_where_it_is_plain(text: str) -> None:
    """The text stands twice in the event, or has an escape in it."""
    found = learned(parsed(Speaker("chat").say(text), "chat"), "chat")
    assert found is None or read(found, Speaker("chat").say("x")) == ["x"]


@pytest.mark.parametrize("inside", [
    b'a","b', b"a\\", b'a"', b"\xff\n", b"\\ud800", b"a\n", b'a\\"}\n\n{"b', b'a","b"}\n\n{"c\\',
    b'a"}\n\nx\n\n{"b', b'a"}\n{"b',
])  # fmt: skip
def test_what_is_no_text_is_not_told(inside: bytes) -> None:
    """As many texts as events, whatever would be read across them."""
    assert read(Shape(b'{"', b'"}\n\n'), b'{"%b"}\n\n' % inside) is None


def test_a_text_that_is_not_the_delta_is_no_shape() -> None:
    """An event in which the same words stand elsewhere, escaped where they count."""
    told = b'data: {"note":"abc","choices":[{"index":0,"delta":{"content":"\\u0061bc"}}]}\n\n'
    assert parsed(told, "chat").deltas == (Delta(0, Channel.CONTENT, b"abc"),)
    assert learned(parsed(told, "chat"), "chat") is None


def test_two_events_in_one_are_not_taken_for_one_text() -> None:
    speaker, session = Speaker("chat"), listening("chat")
    session.feed(speaker.begin() + speaker.say("a"))
    both = speaker.say("b") + speaker.say("c")
    assert session.feed(both) == both
    torn = speaker.say("d")[:-2] + b"\n: c\n" + speaker.say("e")
    session.feed(torn)
    assert heard()[Channel.CONTENT].startswith(b"abc")
