"""fallback.py: who answers in a model's stead, and when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmctl.proxy.dialect import Dialect, Trouble, error_body, error_event
from llmctl.proxy.fallback import (
    FIRST_REST_S,
    MOST_REST_S,
    Failure,
    Rests,
    Walk,
    chain,
    may_fail,
    of_answer,
    of_event,
    of_trouble,
)
from llmctl.proxy.routing import Far, Served, Table

if TYPE_CHECKING:
    from collections.abc import Collection

ATTIC = Far(box="attic", host="attic", port=1234, model="coder")
OVERFLOW = (
    b'{"error":{"code":400,"message":"request (12010 tokens) exceeds the available context size '
    b'(512 tokens), try increasing it","type":"exceed_context_size_error",'
    b'"n_prompt_tokens":12010,"n_ctx":512}}'
)
"""As llama-server 0.7.0 says it, on every endpoint that generates."""
FULL = b'{"error":{"code":500,"message":"Context size has been exceeded.","type":"server_error"}}'


def model(name: str, *fallback: str | Far, **more: Any) -> Served:
    return Served(name=name, group="gpu", port=1, fallback=fallback, **more)


def names(*served: Served, of: str = "a", allowed: Collection[str] | None = None) -> list[str]:
    return [one.name for one in chain(Table.of(served, {}), of, allowed)]


# Chains


def test_a_chain_is_ones_own_list_then_those_of_its_members() -> None:
    found = names(model("a", "b", "c"), model("b", "d"), model("c", "e"), model("d"), model("e"))
    assert found == ["a", "b", "c", "d", "e"]


def test_cycles_end() -> None:
    assert names(model("a", "b"), model("b", "a")) == ["a", "b"]
    assert names(model("a", "a", "b", "b"), model("b", "c", "b"), model("c", "a")) == [
        "a", "b", "c",
    ]  # fmt: skip


@given(st.dictionaries(st.sampled_from("abcdef"), st.lists(st.sampled_from("abcdefg"))))
def test_whatever_refers_to_whatever_each_is_asked_once(lists: dict[str, list[str]]) -> None:
    served = [model(name, *lists.get(name, [])) for name in "abcdef"]
    found = names(*served)
    assert found[0] == "a"
    assert len(set(found)) == len(found)
    linked = {"a"}.union(*(lists.get(one, []) for one in found)) - {"g"}
    assert set(found) == linked


def test_aliases_are_resolved_and_what_is_gone_is_left_out() -> None:
    assert names(model("a", "big", "gone", "b"), model("b", aliases=("big",))) == ["a", "b"]
    assert names(model("a", "gone")) == ["a"]


def test_another_boxs_model_is_one_of_the_chain() -> None:
    found = chain(Table.of((model("a", ATTIC, "b"), model("b")), {}), "a", None)
    assert [one.name for one in found] == ["a", "attic/coder", "b"]
    assert (found[1].far, found[1].group, found[1].guard.mode) == (ATTIC, None, "off")


def test_a_key_reaches_only_its_models_and_no_chain_leads_round_that() -> None:
    served = (model("a", ATTIC, "b"), model("b", "c"), model("c"))
    assert names(*served, allowed={"a", "c"}) == ["a"]
    assert names(*served, allowed={"a", "b", "attic/coder"}) == ["a", "attic/coder", "b"]


# What is a failure


@pytest.mark.parametrize(("kind", "why"), [
    ("switch_failed", "start"), ("given_up", "start"), ("no_answer", "crash"), ("hung", "hang"),
    ("stalled", "hang"),
])  # fmt: skip
def test_troubles_for_which_a_model_is_left(kind: str, why: str) -> None:
    assert of_trouble(Trouble(503, kind, "x"), is_first=True) == Failure(why, "x")


@pytest.mark.parametrize("kind", [
    "stopped", "queue_full", "cut_by_switch", "not_active", "invalid_json", "model_not_allowed",
    "proxy_stopped", "body_too_large",
])  # fmt: skip
def test_troubles_for_which_none_is(kind: str) -> None:
    """What a person did, what the queue says, what the client did."""
    assert of_trouble(Trouble(503, kind, "x"), is_first=True) is None


def test_whoever_stands_in_is_left_for_any_reason_but_a_persons() -> None:
    assert of_trouble(Trouble(409, "not_active", "x"), is_first=False) == Failure("refused", "x")
    assert of_trouble(Trouble(503, "stopped", "x"), is_first=False) is None
    assert of_trouble(Trouble(503, "proxy_stopped", "x"), is_first=False) is None


@pytest.mark.parametrize("status", [400, 401, 404, 413, 415, 422, 429, 501])
def test_the_clients_own_fault_is_its_own(status: int) -> None:
    assert of_answer(status, b'{"error":{"code":%d,"message":"x","type":"y"}}' % status) is None


@pytest.mark.parametrize("status", [500, 502, 503, 504])
@pytest.mark.parametrize("body", [FULL, b"", b"<html>", b'{"error":"text"}', b"[1]", b"null"])
def test_a_server_that_fails_is_left(status: int, body: bytes) -> None:
    failure = of_answer(status, body)
    assert failure is not None
    assert (failure.why, bool(failure.told), failure.need) == ("error", True, 0)


def test_a_context_that_is_too_small_wants_a_larger_one() -> None:
    failure = of_answer(400, OVERFLOW)
    assert failure is not None
    assert (failure.why, failure.need) == ("context", 12010)


def test_what_another_box_holds_against_this_one_is_not_the_clients_fault() -> None:
    for status in (401, 403, 404, 409, 429):
        failure = of_answer(status, b"{}", is_far=True)
        assert failure is not None
        assert failure.why == "refused"
        assert may_fail(status, is_far=True)
    assert of_answer(422, b"{}", is_far=True) is None
    assert not may_fail(404, is_far=False)
    assert may_fail(400, is_far=False)
    assert not may_fail(200, is_far=True)


@pytest.mark.parametrize("event", [
    b'data: {"error":{"code":500,"message":"Context size has been exceeded.","type":"x"}}',
    b'event: error\ndata: {"code":500,"message":"no memory","type":"server_error"}',
    b'error: {"code":500,"message":"no memory","type":"server_error"}',
    *(
        error_event(dialect, Trouble(503, "switch_failed", "it is broken")).rstrip(b"\n")
        for dialect in Dialect
    ),
])  # fmt: skip
def test_errors_that_are_the_first_event(event: bytes) -> None:
    failure = of_event(event)
    assert failure is not None
    assert failure.why in ("error", "start")
    assert failure.told


@pytest.mark.parametrize("event", [
    b'data: {"choices":[{"delta":{"content":"error"}}]}', b"event: message_start\ndata: {}",
    b"data: [DONE]", b'event: response.created\ndata: {"type":"response.created"}',
    b'data: {"error":{"code":400,"message":"x","type":"invalid_request_error"}}',
    error_event(Dialect.OPENAI, Trouble(400, "server_refused", "x")).rstrip(b"\n"),
    error_event(Dialect.ANTHROPIC, Trouble(503, "stopped", "x")).rstrip(b"\n"),
])  # fmt: skip
def test_what_is_none_or_is_the_clients_or_a_persons(event: bytes) -> None:
    assert of_event(event) is None


def test_an_overflow_within_a_stream_is_one_too() -> None:
    failure = of_event(b"data: " + OVERFLOW)
    assert failure is not None
    assert failure.need == 12010


@pytest.mark.parametrize("dialect", list(Dialect))
def test_another_boxs_own_errors_are_understood(dialect: Dialect) -> None:
    body = error_body(dialect, Trouble(503, "switch_failed", "it is broken"))
    failure = of_answer(503, body, is_far=True)
    assert failure is not None
    assert failure.told == "it is broken"


# The way along a chain


def walk(*steps: Served, rest: Collection[str] = ()) -> Walk:
    return Walk(steps, lambda one: one.name in rest)


CRASH = Failure("crash", "a went away.")


def test_one_after_the_other() -> None:
    made = walk(model("a"), model("b"), model("c"))
    assert (made.at.name, made.passed) == ("a", ())
    made.failed(CRASH)
    assert made.goes_on() is made.at
    assert (made.at.name, made.passed) == ("b", ("a",))
    made.failed(Failure("start", "b is broken."))
    made.goes_on()
    assert (made.at.name, made.passed) == ("c", ("a", "b"))
    made.failed(Failure("error", "no memory"))
    assert made.goes_on() is None


def test_what_is_told_when_nobody_can() -> None:
    trouble = Trouble(503, "switch_failed", "a could not be started.", retry_after_s=10)
    made = walk(model("a"), model("b"))
    made.failed(Failure("start", "a could not be started."))
    assert made.told(trouble) == trouble
    made.goes_on()
    made.failed(Failure("error", "no memory"))
    told = made.told(trouble)
    assert (told.status, told.kind, told.retry_after_s) == (503, "switch_failed", 10)
    assert told.message.startswith("a could not be started.")
    assert "b: no memory" in told.message


def test_an_overflow_skips_whatever_is_no_larger() -> None:
    steps = (
        model("a", ctx=512), model("small", ctx=512), model("unknown"), model("big", ctx=16384),
    )  # fmt: skip
    made = walk(*steps)
    made.failed(Failure("context", "too long", need=12010))
    assert made.goes_on() is steps[3]
    made = walk(*steps[:3])
    made.failed(Failure("context", "too long", need=12010))
    assert made.next is None


def test_who_is_too_small_stays_so_after_another_failure() -> None:
    made = walk(model("a", ctx=512), model("big", ctx=16384), model("small", ctx=4096))
    made.failed(Failure("context", "too long", need=12010))
    made.goes_on()
    made.failed(CRASH)
    assert made.goes_on() is None


def test_of_another_box_the_context_is_not_known_yet() -> None:
    far = Served(name="attic/coder", group=None, port=1234, far=ATTIC)
    made = walk(model("a", ctx=512), far)
    made.failed(Failure("context", "too long", need=12010))
    assert made.goes_on() is far


def test_who_rests_is_asked_last() -> None:
    made = walk(model("a"), model("b"), rest={"a"})
    assert (made.at.name, made.passed) == ("b", ("a",))
    assert made.tried[0][1].why == "resting"
    made.failed(CRASH)
    assert made.goes_on() is made.at
    assert (made.at.name, made.passed) == ("a", ("b",))


def test_where_all_rest_none_does() -> None:
    assert walk(model("a"), model("b"), rest={"a", "b"}).at.name == "a"
    assert walk(model("a"), rest={"a"}).at.name == "a"


# Rests


def test_one_failure_is_no_rest() -> None:
    rests = Rests()
    assert rests.failed("a", "crash", 100.0) == 0
    assert not rests.is_resting("a", 100.0)


def test_two_in_a_row_are_and_each_further_one_is_longer() -> None:
    rests, now, found = Rests(), 100.0, []
    rests.failed("a", "crash", now)
    for _ in range(8):
        now += 2
        rest_s = rests.failed("a", "hang", now)
        found.append(rest_s)
        assert rests.is_resting("a", now + rest_s - 0.1)
        now += rest_s
        assert not rests.is_resting("a", now)
    assert found == [10, 20, 40, 80, 160, 300, 300, MOST_REST_S]


def test_an_answer_ends_the_row() -> None:
    rests = Rests()
    rests.failed("a", "error", 0.0)
    rests.well("a")
    assert rests.failed("a", "error", 10.0) == 0


def test_what_fails_together_failed_once() -> None:
    rests = Rests()
    assert [rests.failed("a", "crash", 5.0 + 0.01 * n) for n in range(16)] == [0.0] * 16
    assert rests.failed("a", "crash", 7.0) == FIRST_REST_S


def test_a_start_that_failed_rests_at_once_until_it_runs() -> None:
    rests = Rests()
    assert rests.failed("a", "start", 0.0) == FIRST_REST_S
    assert rests.failed("a", "start", 0.0) == 0
    assert rests.left(4.0) == {"a": 6.0}
    assert rests.is_resting("a", 4.0)
    assert not rests.is_resting("a", 4.0, is_ready=True)


def test_a_running_model_that_crashes_rests_though_it_is_ready_again() -> None:
    rests = Rests()
    rests.failed("a", "crash", 0.0)
    rests.failed("a", "crash", 2.0)
    assert rests.is_resting("a", 3.0, is_ready=True)


@pytest.mark.parametrize("why", ["context", "refused", "resting"])
def test_these_say_nothing_of_its_health(why: str) -> None:
    rests = Rests()
    assert [rests.failed("a", why, now) for now in (0.0, 10.0, 20.0)] == [0.0] * 3


def test_a_changed_configuration_ends_all_rests() -> None:
    rests = Rests()
    rests.failed("a", "start", 0.0)
    rests.clear()
    assert not rests.is_resting("a", 0.0)
