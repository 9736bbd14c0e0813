"""core/guard/tool_loops.py and history.py: which conversations go round in circles.

To add a case: a line in LOOPS or in NO_LOOPS. Each is tried in every shape that clients send.
"""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.talks import KINDS, SHAPES, Turn, call, calls, human, json_of, says

from llmctl.core.guard.history import canonical, steps
from llmctl.core.guard.settings import GuardSettings
from llmctl.core.guard.tool_loops import Cycle, tool_loop

if TYPE_CHECKING:
    from llmctl.core.guard.history import Shape

ASKED = human("Fix the tests, please.")
UUID = "123e4567-e89b-12d3-a456-42661417400"
LONG = "All is well on line {}, at 2026-11-21T10:00:{}, id {:08x}. " * 40
A = call("read", {"path": "a.py"}, "print(1)")
B = call("edit", {"path": "a.py", "text": "print(2)"}, "ok")
C = call("run", {"command": "pytest"}, "2 failed")
SIX = [call("read", {"path": f"{n}.py"}, f"text of file {'abcdef'[n]}") for n in range(6)]

LOOPS: list[tuple[str, list[Turn], tuple[int, int, bool]]] = [
    # what, the turns after a human's question, (period in steps, repetitions, results are equal)
    ("the same call, the same result", [A] * 3, (1, 3, True)),
    ("nine times", [A] * 9, (1, 9, True)),
    ("a failure that repeats", [call(result="Error: no such file")] * 3, (1, 3, True)),
    ("a success that repeats", [call("edit", result="The file was changed.")] * 4, (1, 4, True)),
    ("an empty result", [call(result="")] * 3, (1, 3, True)),
    ("after other work", [B, C, A, A, A], (1, 3, True)),
    ("with words between", [A, says("Let me look again."), A, says("Once more."), A], (1, 3, True)),
    ("a period of 2", [A, B] * 3, (2, 3, True)),
    ("a period of 2, begun in its midst", [B, *[A, B] * 3], (2, 3, True)),
    ("a period of 3", [A, B, C] * 3, (3, 3, True)),
    ("a period of 4", [A, B, C, SIX[1]] * 3, (4, 3, True)),
    ("a period of 5", SIX[:5] * 3, (5, 3, True)),
    ("a period of 6", SIX * 4, (6, 4, True)),
    ("a success with a timestamp",
     [call(result=f"Written at 2026-11-21T10:{n:02}:00Z") for n in range(5)], (1, 5, False)),
    ("a duration in other units",
     [call(result=f"3 tests passed in {took}") for took in ("990ms", "1.02 s", "2 s", "800 ms")],
     (1, 4, False)),
    ("a counter", [call(result=f"attempt {n} failed") for n in (8, 9, 10, 11)], (1, 4, False)),
    ("a UUID", [call(result=f"job {UUID}{n} queued") for n in range(3)], (1, 3, False)),
    ("a hex id", [call(result=f"at 0x7f{n}e01a fault") for n in range(3)], (1, 3, False)),
    ("a made-up id", [call(result=f"run Zk{n}9aQwLmPx7TtUv ended") for n in range(3)],
     (1, 3, False)),
    ("a date in words", [call(result=f"{day} 2026: ok") for day in ("Sat Nov 21", "Sun Nov 22",
     "Tue Dec 1")], (1, 3, False)),
    ("long results that differ by times and ids",
     [call(result=LONG.format(*[n] * 120)) for n in range(3)], (1, 3, False)),
    ("keys in another order",
     [call(arguments=one) for one in ({"a": 1, "b": 2}, {"b": 2, "a": 1}, {"a": 1, "b": 2})],
     (1, 3, True)),
    ("a reminder that a program put between, as a message",
     [A, A, human("<system-reminder>Mind the list.</system-reminder>"), A], (1, 3, True)),
    ("a cycle within a longer one", [A, A, A, B] * 2 + [A, A, A], (1, 3, True)),
]  # fmt: skip

NO_LOOPS: list[tuple[str, list[Turn]]] = [
    ("nothing was called", [says("Hello.")]),
    ("twice", [A, A]),
    ("a period of 2, twice", [A, B, A, B]),
    ("a period of 7", [*SIX, A] * 3),
    ("a human spoke in between", [A, A, human("Go on."), A]),
    ("a human spoke last", [A, A, A, human("Stop that.")]),
    ("a human spoke beside a reminder",
     [A, A, human("<system-reminder>x</system-reminder> Look at b.py!"), A]),
    ("a human's words that are an element", [A, A, human("<task>Look at b.py!</task>"), A]),
    ("other arguments", [call(arguments={"page": n}) for n in range(9)]),
    ("other tools", [call(name) for name in ("read", "edit", "run")]),
    ("the same call, and its result is another",
     [call(result=text) for text in ("queued", "running", "done")]),
    ("long results, one word is another", [call(result=LONG.format(*[1] * 120) + word)
     for word in ("one", "two", "three")]),
    ("the loop was left", [A, A, A, B]),
    ("progress in between", [A, C, B, A, C, call("edit", {"path": "b.py"}, "ok"), A, C]),
]  # fmt: skip


def loop(shape: str, turns: list[Turn], **more: Any) -> Cycle | None:
    kind: Shape = KINDS[shape]  # type: ignore[assignment]  # as the table says
    return tool_loop(json_of(shape, [ASKED, *turns]), kind, GuardSettings(**more))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("what", "turns", "told"), LOOPS, ids=[one[0] for one in LOOPS])
def test_a_loop_is_found(
    shape: str, what: str, turns: list[Turn], told: tuple[int, int, bool]
) -> None:
    found = loop(shape, turns)
    assert found is not None, what
    assert (found.period, found.repeats, found.is_exact) == told


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("what", "turns"), NO_LOOPS, ids=[one[0] for one in NO_LOOPS])
def test_what_is_no_loop_is_left_alone(shape: str, what: str, turns: list[Turn]) -> None:
    assert loop(shape, turns) is None, what


@pytest.mark.parametrize("shape", ["chat", "messages", "responses"])
def test_calls_at_once_are_one_step_in_whatever_order(shape: str) -> None:
    one, two = ("read", {"path": "a"}, "x"), ("run", {"command": "b"}, "y")
    assert loop(shape, [calls(one, one, one, one)]) is None  # none could learn from another
    found = loop(shape, [calls(one, two), calls(two, one), calls(one, two)])
    assert found is not None
    assert (found.period, found.repeats, found.tools) == (1, 3, ("read", "run"))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("exempt", "is_free"),
    [(["wait_for_job"], True), (["wait_*"], True), (["*"], True), (["wait_?or_job"], True),
     (["wait"], False), (["WAIT_*"], False), ([], False)],
)  # fmt: skip
def test_tools_that_poll_are_exempt(shape: str, exempt: list[str], is_free: bool) -> None:
    poll = call("wait_for_job", {"id": 7}, "still running, 10 s")
    assert (loop(shape, [poll] * 9, exempt_tools=tuple(exempt)) is None) == is_free
    between = [poll, A] * 9  # what waits may look around in between
    assert (loop(shape, between, exempt_tools=tuple(exempt)) is None) == is_free


@pytest.mark.parametrize("first", [2, 3, 4])
def test_the_first_threshold_is_a_setting(first: int) -> None:
    settings = {"tool_nudges": (first, 8, 9)}
    assert loop("chat", [A] * (first - 1), **settings) is None
    assert loop("chat", [A] * first, **settings) is not None


# Whom a message is from


BESIDE: list[tuple[str, list[dict[str, Any]], bool]] = [
    ("nothing", [], True),
    ("a reminder", [{"type": "text", "text": "<system-reminder>Mind!</system-reminder>\n"}], True),
    ("an agent's notes",
     [{"type": "text", "text": "<environment_details>\n# Time\n10:00\n</environment_details>"}],
     True),
    ("two of them",
     [{"type": "text", "text": "<a>1</a>\n<b x='y'>2</b>"}, {"type": "text", "text": " "}], True),
    ("an image of a tool", [{"type": "image", "source": {"data": "AAAA"}}], True),
    ("a human's words", [{"type": "text", "text": "Look at b.py instead."}], False),
    ("a human's words after a reminder",
     [{"type": "text", "text": "<system-reminder>x</system-reminder>No, b.py"}], False),
]  # fmt: skip


@pytest.mark.parametrize(
    ("what", "blocks", "is_loop"), BESIDE, ids=[one[0] for one in BESIDE]
)  # fmt: skip
def test_what_stands_beside_anthropics_results(
    what: str, blocks: list[dict[str, Any]], is_loop: bool,
) -> None:  # fmt: skip
    body = json.loads(json_of("messages", [ASKED, A, A, A]))
    body["messages"][-1]["content"] += blocks
    found = tool_loop(json.dumps(body).encode(), "messages", GuardSettings())
    assert (found is not None) == is_loop, what


@pytest.mark.parametrize(
    ("content", "is_human"),
    [
        ([{"type": "text", "text": "Go on."}], True),
        ([{"type": "image_url", "image_url": {"url": "data:..."}}], True),
        ([{"type": "text", "text": "<system-reminder>x</system-reminder>"}], False),
        ("", False),
    ],
)
def test_a_human_may_send_parts(content: Any, is_human: bool) -> None:
    assert (loop("chat", [A, A, human(content), A]) is None) == is_human


@pytest.mark.parametrize("role", ["system", "developer"])
def test_programs_speak_as_system(role: str) -> None:
    body = json.loads(json_of("chat", [ASKED, A, A, A]))
    body["messages"].insert(-2, {"role": role, "content": "Mind the list."})
    assert tool_loop(json.dumps(body).encode(), "chat", GuardSettings()) is not None


# What clients get wrong


def test_ids_may_be_the_same_in_every_step() -> None:
    body = json.loads(json_of("chat", [ASKED, *SIX]))
    for message in body["messages"]:
        for one in message.get("tool_calls", ()):
            one["id"] = "call_0"
        if "tool_call_id" in message:
            message["tool_call_id"] = "call_0"
    found = steps(json.dumps(body).encode(), "chat")
    assert [one.calls[0].result for one in found] == [
        json.dumps(f"text of file {'abcdef'[n]}").encode() for n in range(6)
    ]


def test_ids_may_be_missing() -> None:
    body = json.loads(json_of("messages", [ASKED, calls(("a", {}, "1"), ("b", {}, "2"))]))
    for message in body["messages"][1:]:
        for one in message["content"]:
            one.pop("id", None)
            one.pop("tool_use_id", None)
    (found,) = steps(json.dumps(body).encode(), "messages")
    assert [(one.name, one.result) for one in found.calls] == [("a", b'"1"'), ("b", b'"2"')]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (b'"{\\"b\\": 1, \\"a\\": [2]}"', b'{"a":[2],"b":1}'),
        (b'{"b": 1, "a": [2]}', b'{"a":[2],"b":1}'),
        (b'" not JSON "', b"not JSON"),
        (b'"{\\"cut"', b'{"cut'),
        (b'""', b""),
        (None, b"null"),
        (b"1e999", b""),
        (b"[" * 100_000, b""),
        (msgspec.json.encode("[" * 100_000), b"[" * 100_000),
    ],
)
def test_arguments_have_one_spelling(given: bytes | None, told: bytes) -> None:
    assert canonical(given) == told


_SCALARS = st.none() | st.booleans() | st.integers() | st.text(max_size=8)
_WORDS = st.sampled_from(
    ["role", "content", "type", "tool", "user", "assistant", "tool_calls", "tool_result", "id",
     "tool_use", "function", "function_call", "function_call_output", "name", "arguments", "input",
     "output", "messages", "tool_use_id", "tool_call_id", "call_id", "text"]
)  # fmt: skip
_ANY = st.recursive(
    _SCALARS | _WORDS,
    lambda some: st.lists(some, max_size=6) | st.dictionaries(_WORDS, some, max_size=6),
    max_leaves=30,
)


@settings(max_examples=100, deadline=None)
@given(body=_ANY | st.fixed_dictionaries({"messages": st.lists(_ANY), "input": st.lists(_ANY)}))
@pytest.mark.parametrize("kind", ["chat", "messages", "responses"])
def test_what_is_malformed_never_raises(kind: Shape, body: Any) -> None:
    data = json.dumps(body).encode()
    steps(data, kind)
    tool_loop(data, kind, GuardSettings(tool_nudges=(2, 3, 4)))


@pytest.mark.parametrize("shape", SHAPES)
def test_a_history_that_is_damaged_anywhere_never_raises(shape: str) -> None:
    whole = json_of(shape, [ASKED, A, A, B, A, A])
    chance = random.Random(5)
    kind: Shape = KINDS[shape]  # type: ignore[assignment]  # as the table says
    for _ in range(400):
        at = chance.randrange(len(whole))
        for data in (whole[:at], whole[:at] + bytes([chance.randrange(256)]) + whole[at + 1 :]):
            tool_loop(data, kind, GuardSettings(tool_nudges=(2, 3, 4)))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "how", [{"indent": 2}, {"separators": (",", ":")}, {"ensure_ascii": False}]
)
def test_spaces_and_escapes_change_nothing(shape: str, how: dict[str, Any]) -> None:
    body = json.loads(json_of(shape, [ASKED, *[call(result="grün\n")] * 3]))
    kind: Shape = KINDS[shape]  # type: ignore[assignment]  # as the table says
    assert tool_loop(json.dumps(body, **how).encode(), kind, GuardSettings()) is not None
