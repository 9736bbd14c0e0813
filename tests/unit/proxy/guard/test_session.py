"""What the guard does about loops: what a client gets, and what the server is asked."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from support.guarding import Played, body_of, played, reads, session_of
from support.speaking import ENDPOINTS, TALKING, Speaker
from support.streams import ERRORS, events

from llmctl.core.guard.verdict import Channel, Loop
from llmctl.proxy.guard.assemble import Assembler
from llmctl.proxy.guard.plan import plan
from llmctl.proxy.guard.session import Session
from llmctl.proxy.guard.steps import MOST_DROPPED, Step

BLOCK = "Wait, let me look at that once more from the start. "
PIECES = re.findall(r" ?[^ ]+ ?", BLOCK)
OPENING = ("Here", " is", " what", " I", " found", ".\n")
ENOUGH = 200
"""Copies: more than any detector needs."""


def looping(dialect: str, number: int = 1, *, opening: tuple[str, ...] = OPENING) -> bytes:
    speaker = Speaker(dialect, number)
    return speaker.begin() + speaker.say(*opening, *(PIECES * ENOUGH)) + speaker.finish()


def well(dialect: str, number: int, *, think: bool = False, usage: bool = False) -> bytes:
    speaker = Speaker(dialect, number)
    found = speaker.begin() + (speaker.think("Right", ".") if think else b"")
    return found + speaker.say("The", " answer", " is", " 4", ".") + speaker.finish(usage=usage)


def content(out: bytes) -> str:
    """All that a client reads as content."""
    found = ""
    for _, told in events(out):
        if not isinstance(told, dict):
            continue
        for choice in told.get("choices", ()):
            found += choice.get("text") or choice.get("delta", {}).get("content") or ""
        if told.get("type") in {"content_block_delta", "response.output_text.delta"}:
            delta = told["delta"]
            found += delta if isinstance(delta, str) else delta.get("text", "")
        if "choices" not in told and "type" not in told:
            found += told.get("content", "")
    return found


def copies(text: str) -> float:
    """How many copies of the block are in it, part of one included."""
    found = text.count(BLOCK)
    rest = text.rpartition(BLOCK)[2] if found else text
    part = next((n for n in range(len(BLOCK), 0, -1) if BLOCK[:n] in rest), 0)
    return found + part / len(BLOCK)


# Turned around


@pytest.mark.parametrize("size", [1, 2, 7, 100000])
@pytest.mark.parametrize("dialect", ENDPOINTS)
def test_a_loop_is_cut_and_the_answer_goes_on_in_the_same_stream(dialect: str, size: int) -> None:
    found = played(dialect, [looping(dialect), well(dialect, 2)], size=size)
    text = content(found.out)
    assert text.startswith("".join(OPENING))
    assert text.endswith("\n\nThe answer is 4.")
    assert 1 <= copies(text) <= 2
    assert found.read == 2
    assert found.session.attempt == 1
    assert [one.step for one in found.session.findings] == [Step.RETRY]
    assert b": llmctl-guard: content: exact repeat" in found.out


@pytest.mark.parametrize("dialect", ENDPOINTS)
def test_the_verdict_is_the_same_however_events_are_read(dialect: str) -> None:
    attempts = [looping(dialect), well(dialect, 2)]
    outs = {played(dialect, attempts, size=size).out for size in (1, 2, 3, 5)}
    assert len(outs) == 1


@pytest.mark.parametrize("dialect", ENDPOINTS)
def test_what_is_replayed_ends_with_the_first_copy(dialect: str) -> None:
    found = played(dialect, [looping(dialect), well(dialect, 2)])
    told = json.dumps(found.bodies[0], ensure_ascii=False)
    said = "".join(OPENING).replace("\n", "\\n")
    assert said in told
    assert 0.9 <= copies(told.partition(said)[2].partition("[A notice")[0]) <= 1.1
    assert "[A notice from the proxy, not from the user]" in told
    assert found.bodies[0]["dry_multiplier"] > 0
    assert found.bodies[0]["stream"] is True


def test_one_id_one_role_and_one_time() -> None:
    found = played("chat", [looping("chat"), well("chat", 2)])
    told: list[Any] = [one for _, one in events(found.out) if isinstance(one, dict)]
    assert {one["id"] for one in told} == {"chatcmpl-1"}
    assert len({one["created"] for one in told}) == 1
    deltas = [choice["delta"] for one in told for choice in one["choices"]]
    assert sum("role" in delta for delta in deltas) == 1
    assert events(found.out)[-1][1] == b"[DONE]"


def test_usage_and_timings_are_sums() -> None:
    body = body_of("chat", stream_options={"include_usage": True})
    found = played("chat", [looping("chat"), well("chat", 2, usage=True)], body=body)
    last: Any = events(found.out)[-2][1]
    cut = found.session.findings[0].tokens
    assert cut > 100
    assert last["usage"]["completion_tokens"] == cut + 5
    assert last["usage"]["total_tokens"] == cut + 5 + 14
    assert last["timings"]["predicted_n"] == cut + 5
    assert last["timings"]["predicted_ms"] == 5 + 50
    assert last["timings"]["predicted_per_second"] == pytest.approx(1000 * (cut + 5) / 55)


@pytest.mark.parametrize("think", [False, True])
def test_blocks_of_messages_keep_their_places(think: bool) -> None:
    found = played("messages", [looping("messages"), well("messages", 2, think=think)])
    told: list[Any] = [one for _, one in events(found.out)]
    kinds = [one["type"] for one in told]
    assert kinds.count("message_start") == kinds.count("message_stop") == 1
    started = [one["index"] for one in told if one["type"] == "content_block_start"]
    assert started == sorted(set(started)) == list(range(3 if think else 1))
    stopped = [one["index"] for one in told if one["type"] == "content_block_stop"]
    assert sorted(stopped) == started
    open_blocks: set[int] = set()
    for one in told:
        if one["type"] == "content_block_start":
            open_blocks.add(one["index"])
        elif one["type"] == "content_block_delta":
            assert one["index"] in open_blocks
        elif one["type"] == "content_block_stop":
            open_blocks.remove(one["index"])
    (last,) = (one for one in told if one["type"] == "message_delta")
    tokens = 7 if think else 5
    assert last["usage"]["output_tokens"] == found.session.findings[0].tokens + tokens


@pytest.mark.parametrize("think", [False, True])
def test_items_of_a_response_are_told_alike_three_times(think: bool) -> None:
    found = played("responses", [looping("responses"), well("responses", 2, think=think)])
    told: list[Any] = [one for _, one in events(found.out)]
    assert sum(one["type"] == "response.created" for one in told) == 1
    done = [one["item"] for one in told if one["type"] == "response.output_item.done"]
    last = told[-1]["response"]
    assert told[-1]["type"] == "response.completed"
    assert last["id"] == "resp_1"
    key = {one["id"]: one for one in done}
    assert [key[one["id"]] for one in last["output"]] == last["output"]
    added = [one["item"]["id"] for one in told if one["type"] == "response.output_item.added"]
    assert sorted(added) == sorted(key)
    deltas: dict[str, str] = {}
    for one in told:
        if one["type"].endswith("_text.delta"):
            deltas[one["item_id"]] = deltas.get(one["item_id"], "") + one["delta"]
    assert {k: one["content"][0]["text"] for k, one in key.items()} == deltas


def test_a_stopped_response_has_all_of_its_items() -> None:
    found = played("responses", [thinking_loop("responses")], retries=0)
    told: list[Any] = [one for _, one in events(found.out)]
    done = [one["item"] for one in told if one["type"] == "response.output_item.done"]
    assert [one["type"] for one in done] == ["reasoning", "message"]
    assert told[-1]["response"]["output"] == done
    assert told[-1]["response"]["incomplete_details"] == {"reason": "max_output_tokens"}
    assert copies(done[0]["content"][0]["text"]) > 1


def test_a_response_that_is_stopped_between_attempts_tells_what_went_out() -> None:
    """Of the attempts that follow nothing does, so one empty line joins nothing to nothing."""
    streams = [looping("responses", n, opening=()) for n in range(4)]
    told: list[Any] = [one for _, one in events(played("responses", streams).out)]
    deltas: dict[str, str] = {}
    for one in told:
        if one["type"] == "response.output_text.delta":
            deltas[one["item_id"]] = deltas.get(one["item_id"], "") + one["delta"]
    output = told[-1]["response"]["output"]
    assert {one["id"]: one["content"][0]["text"] for one in output} == deltas
    assert "\n\n\n" not in "".join(deltas.values())


def test_calls_in_a_stopped_response_have_the_arguments_that_went_out() -> None:
    speaker = Speaker("responses")
    stream = speaker.begin() + speaker.call('{"city":', ' "Ulm"}')
    stream += speaker.call('{"text": "', *(PIECES * (20 * ENOUGH))).replace(b"fc_1", b"fc_2")
    found = played("responses", [stream])
    told: list[Any] = [one for _, one in events(found.out)]
    said: dict[str, str] = {}
    for one in told:
        if one["type"] == "response.function_call_arguments.delta":
            said[one["item_id"]] = said.get(one["item_id"], "") + one["delta"]
    calls = [one for one in told[-1]["response"]["output"] if one["type"] == "function_call"]
    assert {one["id"]: one["arguments"] for one in calls} == said
    assert said["fc_1"] == '{"city": "Ulm"}'
    assert {one["status"] for one in calls} == {"incomplete"}


def test_numbers_of_a_response_go_on() -> None:
    """llama-server 0.7.0 sends none; others do."""

    def numbered(stream: bytes) -> bytes:
        found = b""
        for number, (name, told) in enumerate(events(stream)):
            assert isinstance(told, dict)
            data = json.dumps({**told, "sequence_number": number}).encode()
            found += b"event: %b\ndata: %b\n\n" % (name.encode(), data)
        return found

    attempts = [numbered(looping("responses")), numbered(well("responses", 2))]
    for given, retries in ((attempts, 3), (attempts[:1], 0)):
        found = played("responses", given, retries=retries)
        out: Any = [told for _, told in events(found.out)]
        numbers = [one["sequence_number"] for one in out]
        late = numbers[numbers.index(max(n for n in numbers if n < 2000)) :]
        assert numbers == sorted(set(numbers))
        assert late


def test_nudges_grow_firmer_and_the_client_sees_two_copies_at_most() -> None:
    attempts = [looping("chat"), *(looping("chat", n, opening=()) for n in (2, 3, 4))]
    found = played("chat", attempts)
    nudges = [one["messages"][-1]["content"] for one in found.bodies]
    assert len(nudges) == len(set(nudges)) == 3
    assert [one.step for one in found.session.findings] == [Step.RETRY] * 3 + [Step.STOP]
    assert copies(content(found.out)) <= 2.2  # the seam may cut one off
    assert "[llmctl: the answer was stopped: it repeated itself]" in content(found.out)


@pytest.mark.parametrize("dialect", ENDPOINTS)
def test_a_loop_that_comes_back_after_other_words_is_not_shown_again(dialect: str) -> None:
    openings = (OPENING, ("Sorry", ". "), (), ("Once", " more", ": "))
    streams = [looping(dialect, n, opening=one) for n, one in enumerate(openings)]
    found = played(dialect, streams)
    assert found.read == 4
    text = content(found.out)
    assert "Sorry. " in text
    assert "Once more: " in text
    assert 1 <= copies(text) <= 2
    assert [len(one) for one in found.bodies] == sorted(len(one) for one in found.bodies)


@pytest.mark.parametrize("dialect", ENDPOINTS)
def test_a_block_that_is_quoted_once_more_goes_out(dialect: str) -> None:
    speaker = Speaker(dialect, 2)
    well = speaker.begin() + speaker.say("I", " said", ": ", *PIECES, "and", " now", " 4.")
    found = played(dialect, [looping(dialect), well + speaker.finish()])
    assert content(found.out).endswith(f"\n\nI said: {BLOCK}and now 4.")


@pytest.mark.parametrize("retries", [0, 1, 2, 3])
def test_it_is_asked_again_as_often_as_is_allowed(retries: int) -> None:
    attempts = [looping("chat", n) for n in range(1, 6)]
    assert played("chat", attempts, retries=retries).read == retries + 1


# Reasoning


def thinking_loop(dialect: str, number: int = 1) -> bytes:
    speaker = Speaker(dialect, number)
    return speaker.begin() + speaker.think("So", ". ", *(PIECES * ENOUGH)) + speaker.finish()


def reasoning(out: bytes) -> str:
    found = ""
    for _, told in events(out):
        assert isinstance(told, dict | bytes)
        for choice in told.get("choices", ()) if isinstance(told, dict) else ():
            found += choice["delta"].get("reasoning_content") or ""
    return found


def test_reasoning_is_ended_by_the_server_where_it_can() -> None:
    speaker = Speaker("chat")
    rest = speaker.think(*PIECES * 3) + speaker.say("It is", " 4.") + speaker.finish()
    found = played("chat", [thinking_loop("chat")], ends=lambda: rest)
    assert found.controls == 1
    assert found.read == 1
    assert found.session.completion == "chatcmpl-1"
    assert 1 <= copies(reasoning(found.out)) <= 2
    assert content(found.out) == "It is 4."
    assert found.out.endswith(b"data: [DONE]\n\n")
    assert b"; the reasoning is to end\n\n" in found.out


def test_reasoning_that_does_not_end_is_cut() -> None:
    speaker = Speaker("chat")
    rest = speaker.think(*["more "] * (MOST_DROPPED + 5))
    found = played("chat", [thinking_loop("chat")], ends=lambda: rest)
    assert [one.step for one in found.session.findings] == [Step.END_REASONING, Step.RETRY]
    assert found.session.wants is Step.RETRY
    assert copies(reasoning(found.out)) <= 2


@pytest.mark.parametrize("native", [True, False])
def test_a_server_that_cannot_end_reasoning_is_asked_again(native: bool) -> None:
    found = played("chat", [thinking_loop("chat"), well("chat", 2)], native=native)
    assert found.controls == int(native)
    assert found.session.attempt == 1
    message = found.bodies[0]["messages"][-2]
    assert message["content"] == ""
    assert message["reasoning_content"].startswith("So. ")
    assert content(found.out) == "The answer is 4."


@pytest.mark.parametrize("dialect", ["messages", "responses"])
def test_elsewhere_reasoning_is_cut_and_asked_again(dialect: str) -> None:
    found = played(dialect, [thinking_loop(dialect), well(dialect, 2)])
    assert found.controls == 0
    assert content(found.out) == "The answer is 4."
    told = json.dumps(found.bodies[0])
    assert '"signature"' in told or '"reasoning_text"' in told


# Stopped


def ending(found: Played, dialect: str) -> Any:
    """The last events, as the dialect has them."""
    told: list[Any] = [one for _, one in events(found.out)]
    match dialect:
        case "chat" | "completions":
            return told[-2]["choices"][0]["finish_reason"]
        case "native":
            return told[-1]["stop_type"]
        case "messages":
            return told[-2]["delta"]["stop_reason"]
        case _:
            return told[-1]["response"]["status"]


HONEST = {
    "chat": "length", "completions": "length", "native": "limit", "messages": "max_tokens",
    "responses": "incomplete",
}  # fmt: skip


@pytest.mark.parametrize("dialect", ENDPOINTS)
def test_what_is_stopped_is_no_success(dialect: str) -> None:
    found = played(dialect, [looping(dialect)], retries=0)
    assert ending(found, dialect) == HONEST[dialect]
    assert content(found.out).endswith("\n\n[llmctl: the answer was stopped: it repeated itself]")
    assert found.session.is_over
    assert found.session.feed(looping(dialect)) == b"", "nothing follows an end"


@pytest.mark.parametrize("dialect", TALKING)
def test_after_a_tool_call_has_begun_there_is_no_second_attempt(dialect: str) -> None:
    speaker = Speaker(dialect)
    first = ("{", '"text": "')
    stream = speaker.begin() + speaker.call(*first, *(PIECES * (20 * ENOUGH)))
    found = played(dialect, [stream, well(dialect, 2)])
    assert found.read == 1
    assert ending(found, dialect) == HONEST[dialect]
    assert [one.channel for one in found.session.findings] == [Channel.TOOL]


def test_answers_with_several_choices_are_stopped_as_a_whole() -> None:
    told = [{"choices": [{"index": n, "delta": {"content": piece}}], "id": "x", "object": "y"}
            for piece in PIECES * ENOUGH for n in (0, 1)]  # fmt: skip
    stream = b"".join(b"data: %b\n\n" % json.dumps(one).encode() for one in told)
    found = played("chat", [stream, well("chat", 2)])
    assert found.read == 1
    last = [one["choices"] for _, one in events(found.out)[-3:-1] if isinstance(one, dict)]
    assert [(one["index"], one["finish_reason"]) for (one,) in last] == [
        (0, "length"),
        (1, "length"),
    ]


@pytest.mark.parametrize(
    ("dialect", "more"),
    [
        ("chat", {"response_format": {"type": "json_object"}}), ("chat", {"n": 2}),
        ("chat", {"grammar": "root ::= x"}), ("native", {"json_schema": {}, "grammar": "x"}),
        ("responses", {"text": {"format": {"type": "json_schema", "schema": {}}}}),
        ("chat", {"add_generation_prompt": False}),
    ],
)  # fmt: skip
def test_what_has_a_form_is_not_begun_anew(dialect: str, more: dict[str, Any]) -> None:
    body = body_of(dialect, **more)
    found = played(dialect, [looping(dialect), well(dialect, 2)], body=body)
    assert found.read == 1
    assert found.session.is_over


@pytest.mark.parametrize(
    ("dialect", "body"),
    [
        ("chat", {"messages": [{"role": "assistant", "content": "I"}]}),
        ("messages", {"messages": [{"role": "assistant", "content": "I"}]}),
        ("responses", {"input": [{"role": "assistant", "content": "I"}]}),
        ("native", {"prompt": [1, 2]}), ("native", {"prompt": "x", "input_prefix": "y"}),
        ("chat", {"messages": {}}), ("chat", {}),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_again_says_so(dialect: str, body: dict[str, Any]) -> None:
    raw = json.dumps({"stream": True, **body}).encode()
    session = session_of(dialect, raw)
    for data in reads(looping(dialect), 1):
        session.feed(data)
    assert session.wants is Step.RETRY
    tokens = session.tokens
    assert session.again(raw, ms=1.0) is None
    assert [one.step for one in session.findings] == [Step.STOP]
    assert session.comment.endswith(b"; stopped\n\n")
    assert session.tokens == tokens, "what was generated is counted once"


def test_an_endless_text_is_not_asked_for_again() -> None:
    class Endless:
        loop: Loop | None = None
        safe = 0

        def __init__(self, channel: Channel, *, window: int) -> None:
            del channel, window

        def feed(self, piece: bytes) -> int:
            self.loop = Loop("endless", 0, 1, len(piece))
            return 0

    found = plan("chat", body_of("chat"), session_of("chat").plan.settings)
    assert found is not None
    session = Session(found, Endless)
    session.feed(Speaker("chat").say("a"))
    assert session.is_over


# Held back


class Scripted:
    """A detector whose doubts are scripted. doubts: from where on, and until where, in bytes."""

    doubts: tuple[int, int] = (0, 0)
    loop: Loop | None = None

    def __init__(self, channel: Channel, *, window: int) -> None:
        del channel, window
        self.total = self.safe = 0

    def feed(self, piece: bytes) -> int:
        self.total += len(piece)
        begin, end = self.doubts
        doubtful = begin <= self.total < end  # as for any cut of the text
        self.safe = max(self.safe, begin - 1 if doubtful else self.total)
        return self.safe


@pytest.fixture
def doubting() -> Session:
    Scripted.doubts = (3, 6)
    found = plan("chat", body_of("chat"), session_of("chat").plan.settings)
    assert found is not None
    return Session(found, Scripted)


def test_what_is_doubtful_is_held_and_goes_out_unchanged(doubting: Session) -> None:
    speaker = Speaker("chat")
    parts = [speaker.begin(), *(speaker.say(one) for one in "abcdefgh"), speaker.finish()]
    outs = [doubting.feed(part) for part in parts]
    assert outs[:3] == parts[:3]
    assert outs[3:6] == [b"", b"", b""]
    assert outs[6] == b"".join(parts[3:7])
    assert outs[7:] == parts[7:]


def test_a_text_that_ends_was_no_loop(doubting: Session) -> None:
    speaker = Speaker("chat")
    stream = speaker.begin() + speaker.say(*"abcd") + speaker.finish()
    assert b"".join(doubting.feed(one) for one in reads(stream, 1)) == stream


def test_a_text_after_which_another_begins_was_no_loop(doubting: Session) -> None:
    speaker = Speaker("chat")
    held = speaker.think(*"abcd")
    assert doubting.feed(held) == speaker.think(*"ab")
    more = speaker.say("x")
    assert doubting.feed(more) == speaker.think(*"cd") + more


def test_comments_go_out_while_something_is_held(doubting: Session) -> None:
    speaker = Speaker("chat")
    doubting.feed(speaker.begin() + speaker.say(*"abcd"))
    assert doubting.feed(b":\n\n") == b":\n\n"


@pytest.mark.parametrize("endpoint", ["chat", "completions", "messages", "responses"])
def test_an_error_goes_out_after_what_was_held(endpoint: str) -> None:
    Scripted.doubts = (3, 1000)
    found = plan(endpoint, body_of(endpoint), session_of(endpoint).plan.settings)
    assert found is not None
    session, speaker = Session(found, Scripted), Speaker(endpoint)
    stream = speaker.begin() + speaker.say(*"abcdefg") + ERRORS[endpoint]
    assert b"".join(session.feed(one) for one in reads(stream, 1)) == stream


def test_what_is_held_has_a_bound(doubting: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmctl.proxy.guard.hold.MOST_HELD", 1000)
    Scripted.doubts = (1, 1 << 60)
    speaker = Speaker("chat")
    stream = speaker.begin() + speaker.say(*"a" * 50)
    out = b"".join(doubting.feed(one) for one in reads(stream, 1))
    assert len(stream) - 1300 < len(out) < len(stream)
    assert stream.startswith(out)


# Only looked at


@pytest.mark.parametrize("dialect", ENDPOINTS)
def test_what_is_only_logged_passes_unchanged_and_at_once(dialect: str) -> None:
    stream = looping(dialect)
    session = session_of(dialect, mode="log")
    for data in reads(stream, 1):
        assert session.feed(data) == data
    assert [one.step for one in session.findings] == [Step.NOTE]
    assert not session.is_over


# Whole answers


@pytest.mark.parametrize("dialect", ENDPOINTS)
def test_a_healed_answer_can_be_put_together(dialect: str) -> None:
    found = played(dialect, [looping(dialect), well(dialect, 2, usage=dialect == "chat")])
    assembler = Assembler("completions" if dialect == "native" else dialect)
    assembler.feed(found.out)
    whole = assembler.whole()
    assert whole is not None
    assert "The answer is 4." in whole.decode()


@pytest.mark.parametrize("dialect", ENDPOINTS)
def test_half_an_answer_is_none(dialect: str) -> None:
    assembler = Assembler("completions" if dialect == "native" else dialect)
    speaker = Speaker(dialect)
    assembler.feed(speaker.begin() + speaker.say("a", "b"))
    assert assembler.whole() is None
