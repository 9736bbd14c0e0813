"""core/guard/nudges.py: what a model is told, and that nothing else of its request changes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.talks import KINDS, SHAPES, call, calls, human, json_of, says

from llmctl.core.guard.nudges import Nudge, nudge_for, nudged, words
from llmctl.core.guard.tool_loops import Cycle

if TYPE_CHECKING:
    from llmctl.core.guard.history import Shape

ASKED = human("Fix the tests, please.")
TOLD = 'Told "so" \\ grün.\nTwice.'
TALK = [ASKED, call(), calls(("read", {}, "one"), ("edit", {}, "two"))]


def kind_of(shape: str) -> Shape:
    return KINDS[shape]  # type: ignore[return-value]  # as the table says


@pytest.mark.parametrize(
    ("repeats", "due"),
    [(0, None), (2, None), (3, Nudge.STATE), (4, Nudge.STATE), (5, Nudge.FORBID),
     (6, Nudge.FORBID), (7, Nudge.NO_TOOLS), (99, Nudge.NO_TOOLS)],
)  # fmt: skip
def test_nudges_grow_firmer(repeats: int, due: Nudge | None) -> None:
    assert nudge_for(repeats, (3, 5, 7)) is due


@pytest.mark.parametrize("nudge", Nudge)
def test_the_words_name_the_tools_and_how_often(nudge: Nudge) -> None:
    told = words(Cycle(2, 5, is_exact=True, tools=("read", "edit")), nudge)
    assert "the calls of read, edit have been made 5 times" in told
    assert "the same result" in told
    assert told.startswith("[llmctl guard")
    assert told.endswith("]")


def test_the_words_say_where_results_only_resemble_each_other() -> None:
    told = words(Cycle(1, 3, is_exact=False, tools=("read",)), Nudge.STATE)
    assert "the call of read has been made 3 times" in told
    assert "differs only in numbers" in told


def test_each_firmness_has_its_own_words() -> None:
    one = Cycle(1, 3, is_exact=True, tools=("read",))
    state, forbid, no_tools = (words(one, nudge) for nudge in Nudge)
    assert "Do not call" in forbid
    assert "no tools" in no_tools
    assert "Do not call" not in state
    assert "no tools" not in state + forbid


def test_the_words_stay_short_whatever_tools_are_called() -> None:
    told = words(Cycle(6, 3, is_exact=True, tools=("x" * 5000,) * 9), Nudge.STATE)
    assert len(told) < 800


# The request


def results(shape: str, body: bytes) -> list[Any]:
    """The contents of all results, in order."""
    found = json.loads(body)
    if shape == "responses":
        return [one["output"] for one in found["input"] if "output" in one]
    messages = found["messages"]
    if shape == "messages":
        blocks = [b for m in messages if isinstance(m["content"], list) for b in m["content"]]
        return [one.get("content") for one in blocks if one["type"] == "tool_result"]
    return [one["content"] for one in messages if one["role"] in ("tool", "function")]


@pytest.mark.parametrize("shape", SHAPES)
def test_the_last_result_is_longer_and_no_other(shape: str) -> None:
    changed = nudged(json_of(shape, TALK), kind_of(shape), TOLD)
    assert changed is not None
    assert results(shape, changed) == ["same", "one", f"two\n\n{TOLD}"]


LAYOUTS: list[dict[str, Any]] = [
    {"separators": (",", ":")}, {"indent": 3}, {"ensure_ascii": False},
    {"separators": (" , ", " : "), "sort_keys": True},
]  # fmt: skip


@pytest.mark.parametrize("how", LAYOUTS, ids=str)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_other_byte_stays_as_it_was(shape: str, how: dict[str, Any]) -> None:
    body = json.loads(json_of(shape, TALK, temperature=0.70, note="grün \u2028 \\ é"))
    data = b"  " + json.dumps(body, **how).encode() + b"\r\n"
    changed = nudged(data, kind_of(shape), TOLD)
    assert changed is not None
    added = json.dumps(f"\n\n{TOLD}", ensure_ascii=False)[1:-1].encode()
    assert changed.replace(added, b"", 1) == data


@pytest.mark.parametrize("shape", ["chat", "responses"])
@pytest.mark.parametrize("given", ["auto", "required", None])
def test_tools_are_forbidden_for_one_turn(shape: str, given: str | None) -> None:
    more = {} if given is None else {"tool_choice": given}
    data = json_of(shape, TALK, **more)
    changed = nudged(data, kind_of(shape), TOLD, no_tools=True)
    assert changed is not None
    told = json.loads(changed)
    assert told["tool_choice"] == "none"
    assert told["tools"] == json.loads(data)["tools"]


def test_on_messages_the_tools_go() -> None:
    """llama-server heeds no `tool_choice` of the type none there."""
    data = json_of("messages", TALK, tool_choice={"type": "auto"})
    changed = nudged(data, "messages", TOLD, no_tools=True)
    assert changed is not None
    assert json.loads(changed)["tools"] == []


CONTENTS: list[tuple[Any, Any]] = [
    ("", f"\n\n{TOLD}"),
    (None, TOLD),
    ([], [{"type": "text", "text": TOLD}]),
    ([{"type": "text", "text": "a"}], [{"type": "text", "text": "a"},
                                       {"type": "text", "text": TOLD}]),
    ("ends in a quote\"", f"ends in a quote\"\n\n{TOLD}"),
    ("ends in a \\", f"ends in a \\\n\n{TOLD}"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "told"), CONTENTS)
@pytest.mark.parametrize("shape", ["chat", "messages"])
def test_results_of_every_form_take_more(shape: str, content: Any, told: Any) -> None:
    changed = nudged(json_of(shape, [ASKED, call(result=content)]), kind_of(shape), TOLD)
    assert changed is not None
    assert results(shape, changed) == [told]


def test_parts_of_responses_have_their_own_type() -> None:
    parts = [{"type": "input_text", "text": "a"}]
    changed = nudged(json_of("responses", [ASKED, call(result=parts)]), "responses", TOLD)
    assert changed is not None
    assert results("responses", changed) == [[*parts, {"type": "input_text", "text": TOLD}]]


def test_a_result_without_content_gets_one() -> None:
    body = json.loads(json_of("messages", [ASKED, call()]))
    del body["messages"][-1]["content"][0]["content"]
    changed = nudged(json.dumps(body).encode(), "messages", TOLD)
    assert changed is not None
    assert results("messages", changed) == [TOLD]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_result_that_was_answered_is_left_alone(shape: str) -> None:
    assert nudged(json_of(shape, [ASKED, call(), says("So")]), kind_of(shape), TOLD) is None
    assert nudged(json_of(shape, [ASKED]), kind_of(shape), TOLD) is None


def test_what_follows_the_results_may_stay() -> None:
    body = json.loads(json_of("chat", [ASKED, call()]))
    body["messages"].append({"role": "system", "content": "Mind the list."})
    changed = nudged(json.dumps(body).encode(), "chat", TOLD)
    assert changed is not None
    assert json.loads(changed)["messages"][-1] == body["messages"][-1]
    assert results("chat", changed) == [f"same\n\n{TOLD}"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b'{"messages": 3}', b'{"messages": []}'])
@pytest.mark.parametrize("kind", ["chat", "messages", "responses"])
def test_what_is_malformed_is_left_alone(kind: Shape, body: bytes) -> None:
    assert nudged(body, kind, TOLD, no_tools=True) is None


def test_of_a_key_that_stands_twice_the_last_counts() -> None:
    """As with llama-server (nlohmann::json)."""
    good = json_of("chat", TALK)
    twice = good[:-1] + b', "messages": ' + json.dumps(json.loads(good)["messages"]).encode() + b"}"
    changed = nudged(twice, "chat", TOLD)
    assert changed is not None
    assert results("chat", changed) == ["same", "one", f"two\n\n{TOLD}"]


@given(st.text(), st.text())
def test_any_text_takes_any_more(result: str, told: str) -> None:
    shown = json.loads(json.dumps(f"{result}\n\n{told}").encode("utf-8", "surrogatepass"))
    changed = nudged(json_of("chat", [ASKED, call(result=result)]), "chat", told)
    assert changed is not None
    assert results("chat", changed) == [shown]
