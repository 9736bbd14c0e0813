"""What the guard puts into requests, and which it leaves alone."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.guarding import ASKED, session_of
from support.speaking import Speaker

from llmctl.core.guard.budget import Act
from llmctl.core.guard.settings import GuardSettings
from llmctl.proxy.guard.plan import MOST_SHORT, Plan, amended, plan
from llmctl.proxy.guard.replay import Said, replayed
from llmctl.proxy.guard.spending import Spending
from llmctl.proxy.spool import IN_MEMORY, Amended, Spool

if TYPE_CHECKING:
    from pathlib import Path

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-1000, 1000) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def planned(endpoint: str, settings: GuardSettings | None = None, **body: Any) -> Plan | None:
    return plan(endpoint, json.dumps(body).encode(), settings or GuardSettings())


@given(
    body=st.dictionaries(st.text(), JSON, max_size=5),
    added=st.dictionaries(st.sampled_from(["stream", "x"]), JSON, min_size=1),
    space=st.text(" \n\r\t", max_size=5), indent=st.sampled_from([None, 2]),
)  # fmt: skip
def test_added_keys_are_there_and_win(
    body: dict[str, Any], added: dict[str, Any], space: str, indent: int | None
) -> None:
    raw = (json.dumps(body, indent=indent) + space).encode()
    change = amended(raw, added)
    assert change is not None
    spool = Spool()
    spool.write(raw)
    made = Amended(spool, *change)
    sent = b"".join(made.pieces())
    assert len(sent) == made.nbytes
    assert json.loads(sent) == {**body, **added} == json.loads(made.whole())


@pytest.mark.parametrize("raw", [b"", b"[]", b"{", b'"x"', b"{} x"])
def test_what_is_no_object_is_left_alone(raw: bytes) -> None:
    assert amended(raw, {"stream": True}) is None


@pytest.mark.parametrize("extra", [0, 1, 5, 70])
def test_a_body_on_the_disk_gets_another_end(tmp_path: Path, extra: int) -> None:
    spool = Spool(directory=str(tmp_path))
    spool.write(b'{"x":"' + b"y" * (IN_MEMORY + extra) + b'"}')
    change = amended(bytes(spool.whole()[-20:]), {"stream": True})
    assert change is not None
    made = Amended(spool, *change)
    sent = b"".join(made.pieces())
    assert json.loads(sent) == {"x": "y" * (IN_MEMORY + extra), "stream": True}
    assert made.nbytes == len(sent)
    spool.close()


UNGUARDED: list[tuple[str, dict[str, Any]]] = [
    ("chat", {"n": 2}), ("chat", {"logprobs": True}), ("native", {"n_probs": 3}),
    ("completions", {"logprobs": 1}), ("completions", {"best_of": 2}), ("chat", {"verbose": True}),
    ("completions", {"echo": True}), ("native", {"prompt": [1, 2]}), ("native", {"n_cmpl": 2}),
    ("native", {"prompt": ["a", "b"]}), ("native", {"response_fields": ["content"]}),
    ("chat", {"max_tokens": MOST_SHORT}), ("chat", {"max_completion_tokens": 1}),
    ("responses", {"max_output_tokens": 16}), ("native", {"n_predict": 3}),
    ("messages", {"max_tokens": 0}), ("chat", {"return_progress": True}),
]  # fmt: skip


@pytest.mark.parametrize(("dialect", "more"), UNGUARDED)
def test_what_cannot_be_put_together_is_not_guarded(dialect: str, more: dict[str, Any]) -> None:
    endpoint = "completions" if dialect == "native" else dialect
    body = {**ASKED[dialect], **more}
    assert planned(endpoint, **body) is None
    assert planned(endpoint, **body, stream=True) is not None


USUAL: list[dict[str, Any]] = [
    {}, {"n": 1}, {"n": None}, {"max_tokens": MOST_SHORT + 1}, {"max_tokens": -1},
    {"logprobs": False}, {"stream": None},
]  # fmt: skip


@pytest.mark.parametrize("more", USUAL)
def test_the_usual_whole_answer_is_put_together(more: dict[str, Any]) -> None:
    found = planned("chat", **{**ASKED["chat"], **more})
    assert found is not None
    assert found.assembles
    assert found.added["stream"] is True
    assert found.added["stream_options"] == {"include_usage": True}


def test_a_stream_is_asked_for_no_more_than_it_needs() -> None:
    found = planned("chat", stream=True)
    assert found is not None
    assert found.added == {"reasoning_control": True}
    off = planned("chat", GuardSettings(native=False), stream=True)
    assert off is not None
    assert off.added == {}
    log = planned(
        "chat", GuardSettings(mode="log"), stream=True, stream_options={"include_usage": 1}
    )
    assert log is not None
    assert log.added == {}


def test_what_is_off_or_generates_nothing_is_not_read() -> None:
    assert planned("chat", GuardSettings(mode="off"), stream=True) is None
    assert planned("embeddings", stream=True) is None
    assert plan("chat", b"{", GuardSettings()) is None
    assert plan("chat", b"[1]", GuardSettings()) is None


# Asked again


def again(dialect: str, attempt: int = 1, said: Said | None = None, **more: Any) -> Any:
    endpoint = "completions" if dialect == "native" else dialect
    raw = json.dumps({**ASKED[dialect], **more}).encode()
    body = replayed(raw, endpoint, said or Said("good", "why", 100), attempt=attempt, more={})
    assert body is not None
    return json.loads(body)


@pytest.mark.parametrize("key", ["max_tokens", "max_completion_tokens", "n_predict"])
@pytest.mark.parametrize(("most", "left"), [(500, 400), (100, 1), (50, 1), (-1, -1), (None, None)])
def test_a_limit_holds_for_all_attempts(key: str, most: int | None, left: int | None) -> None:
    limit: dict[str, Any] = {key: most}
    assert again("chat", **limit)[key] == left


def test_sampling_is_less_greedy_unless_it_was_chosen() -> None:
    assert again("chat")["dry_multiplier"] == 0.8
    assert again("chat", dry_multiplier=0.1)["dry_multiplier"] == 0.1
    assert again("chat", temperature=0)["temperature"] == 0
    assert again("chat", 2, temperature=0)["temperature"] == 0.7
    assert again("chat", 2, temperature=0.9)["temperature"] == 0.9
    assert "temperature" not in again("chat", 3)


def test_a_prompt_goes_on_with_what_was_good() -> None:
    assert again("native")["prompt"].startswith("Higood\n\n[A notice")
    assert again("native", prompt=["Hi"])["prompt"].startswith("Higood\n\n[A notice")


@pytest.mark.parametrize("told", [[], ["Hi"], [None], {}, None, 7, "Hi"])
@pytest.mark.parametrize("endpoint", ["chat", "messages"])
def test_what_is_no_conversation_is_not_asked_again(endpoint: str, told: object) -> None:
    """A server may answer it all the same, and fall into a loop."""
    body = json.dumps({"messages": told}).encode()
    assert replayed(body, endpoint, Said("So"), attempt=1, more={}) is None


def test_a_text_of_responses_becomes_a_message() -> None:
    told = again("responses")["input"]
    assert told[0] == {"role": "user", "content": "Hi"}
    assert [one.get("type", one.get("role")) for one in told] == [
        "user", "reasoning", "message", "user",
    ]  # fmt: skip


def test_blocks_of_messages_are_as_anthropic_has_them() -> None:
    message = again("messages")["messages"][-2]
    assert message["content"] == [
        {"type": "thinking", "thinking": "why", "signature": ""}, {"type": "text", "text": "good"},
    ]  # fmt: skip
    empty = again("messages", said=Said("", "", 5))["messages"][-2]
    assert empty["content"] == [{"type": "text", "text": ""}]


# Budgets


class Clock:
    """Seconds that a test lets pass."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_tokens_are_counted_as_they_come() -> None:
    session = session_of("chat", max_tokens=4)
    spending, speaker = Spending(session, Clock()), Speaker("chat")
    session.feed(speaker.begin() + speaker.think("a", "b"))
    assert spending.over() is None
    session.feed(speaker.say("c", "d"))
    over = spending.over()
    assert over is not None
    assert (over.kind, over.act) == ("tokens", Act.STOP)
    assert spending.over() is None, "it is told once"


def test_reasoning_is_ended_first() -> None:
    session = session_of("chat", max_reasoning_tokens=2)
    spending, speaker = Spending(session, Clock()), Speaker("chat")
    session.feed(speaker.begin() + speaker.think("a", "b"))
    over = spending.over()
    assert over is not None
    assert (over.kind, over.act) == ("reasoning", Act.END_REASONING)
    stop = spending.cannot_end()
    assert stop is not None
    assert stop.act is Act.STOP


def test_time_runs_from_the_first_token_and_without_events() -> None:
    clock, session = Clock(), session_of("chat", max_time="5s")
    spending, speaker = Spending(session, clock), Speaker("chat")
    clock.now = 100
    assert spending.over() is None
    session.feed(speaker.begin() + speaker.say("a"))
    assert spending.over() is None
    clock.now = 104
    assert spending.over() is None
    clock.now = 105
    over = spending.over()
    assert over is not None
    assert over.kind == "time"


def test_without_a_budget_nothing_is_counted() -> None:
    spending = Spending(session_of("chat"), Clock())
    assert not GuardSettings().is_limited
    assert spending.over() is None
