"""Events that are known by the shape of earlier ones: of them the same comes as of those that are
parsed."""

from __future__ import annotations

import random
import re
from typing import TYPE_CHECKING, Any

import pytest
from support.guarding import body_of, reads, session_of
from support.speaking import ENDPOINTS, Speaker, name_of

from llmctl.core.guard.verdict import Channel
from llmctl.proxy.guard.event import parsed
from llmctl.proxy.guard.shape import Shape, learned
from llmctl.proxy.guard.steps import Step

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmctl.proxy.guard.session import Session

WORDS = (" a", " b", "\n", '"q"', " é", '"id":"x"', '"created":7', " more")
BLOCK = ("Wait", ",", " let", " me", " look", " at", " that", ".")


def shape_of(raw: bytes, dialect: str = "chat") -> Shape:
    found = learned(parsed(raw, name_of(dialect)), name_of(dialect))
    assert found is not None
    return found


def said(number: int, *words: str) -> bytes:
    return Speaker("chat", number).say(*words)


def test_a_shape_is_renewed_for_another_second_and_another_answer() -> None:
    shape = shape_of(said(1, "one"))
    for number, word in ((2, "one"), (3, "something else"), (1, "")):
        raw = said(number, word)
        found = shape.renewed(raw)
        assert found is not None
        assert raw == found.before + word.encode() + found.after
        assert (found.choice, found.channel) == (0, Channel.CONTENT)


OTHERS = {
    "another channel": Speaker("chat", 2).think("one"),
    "another choice": said(2, "one").replace(b'"index":0', b'"index":1'),
    "another model": said(2, "one").replace(b'"coder"', b'"coded"'),
    "a finish": said(2, "one").replace(b'"finish_reason":null', b'"finish_reason":"stop"'),
    "another key": said(2, "one").replace(b'"object"', b'"usage":{},"object"'),
    "an id that is no id": said(2, "one").replace(b"chatcmpl-2", b"chatcmpl 2"),
    "two events": said(2, "one", "two"),
    "another line end": said(2, "one").replace(b"\n", b"\r\n"),
    "a part of one": said(2, "one")[:-40],
    "nothing": b"",
}


@pytest.mark.parametrize("how", OTHERS)
def test_of_another_shape_nothing_is_taken_for_granted(how: str) -> None:
    assert shape_of(said(1, "one")).renewed(OTHERS[how]) is None


# Sessions


def stream(dice: random.Random, dialect: str, number: int) -> bytes:
    """An answer, over several seconds."""
    speaker = Speaker(dialect, number)
    talks = dialect not in {"completions", "native"}
    out = [speaker.begin()]
    for _ in range(dice.randint(0, 9)):
        say = speaker.think if talks and dice.random() < 0.2 else speaker.say
        out.append(say(dice.choice(WORDS)))
    if dice.random() < 0.5:
        say = speaker.think if talks and dice.random() < 0.3 else speaker.say
        out += [say(*BLOCK) for _ in range(dice.choice((2, 80)))]
    out += [speaker.say(" so", "."), speaker.finish(usage=True)]
    if dialect not in {"chat", "completions"}:
        return b"".join(out)
    second = iter(range(1000, 10_000))

    def told(_: re.Match[bytes]) -> bytes:
        return b'],"created":%d' % (next(second) // 7)

    return re.sub(rb'\],"created":\d+', told, b"".join(out))


def answered(
    dice: random.Random, dialect: str, body: bytes, likely: Shape | None,
    looks: Callable[[Any], None],
) -> tuple[tuple[object, ...], Shape | None]:  # fmt: skip
    """All that a session makes of an answer and of those that are asked for instead."""
    session, out = session_of(dialect, body), list[object]()
    session.likely.shape = likely
    looks(session)
    is_left = True
    while is_left:
        is_left = False
        for data in reads(stream(dice, dialect, dice.randint(1, 99)), dice.choice((1, 1, 3))):
            out.append(session.feed(data))
            if session.wants is Step.END_REASONING:
                session.wants = None
                out.append(session.not_ended())
            if session.wants is Step.RETRY:
                out.append(session.again(body, ms=5.0))
                is_left = True
            if session.wants is not None or is_left:
                break
    texts = [(one.choice, one.channel, one.count, one.total, one.sent, one.seen())
             for one in session.texts._texts.values() if one.total]  # fmt: skip
    facts = out, texts, session.findings, session.tokens, session.completion
    return facts, session.likely.shape


@pytest.mark.parametrize("seed", range(60))
@pytest.mark.parametrize("dialect", ENDPOINTS)
def test_what_is_likely_changes_nothing(dialect: str, seed: int) -> None:
    """Three answers, each of which knows the shapes of the one before, or nothing."""
    body = body_of(dialect, stream=bool(seed % 3))

    def forgets(session: Any) -> None:
        session._is_likely = lambda *_: False

    found = []
    for looks in (lambda _: None, forgets):
        dice, likely, all_of_it = random.Random(seed), None, []
        for _ in range(3):
            facts, likely = answered(dice, dialect, body, likely, looks)
            all_of_it.append(facts)
        found.append(all_of_it)
    assert found[0] == found[1]


def test_what_is_hidden_does_not_tell_which_answer_it_is() -> None:
    """The progress of the prompt is all that came: the first text is still the first event."""
    body = body_of("completions", stream=False)
    speaker, session = Speaker("completions", 2), session_of("completions", body)
    session.likely.shape = shape_of(Speaker("completions", 1).say("one"), "completions")
    told = [{"finish_reason": None, "index": 0, "text": ""}]
    assert not session.feed(speaker._openai(told, prompt_progress={"total": 14, "processed": 7}))
    session.feed(speaker.say("one"))
    assert session.completion == "chatcmpl-2"
    assert b'"chatcmpl-2"' in session.stopped()


def test_each_choice_is_ended_that_has_begun() -> None:
    """That there is another choice is learned of its first event."""
    session: Session = session_of("completions", body_of("completions", n=2))
    speaker = Speaker("completions", 2)
    second = speaker.say("two").replace(b'"index":0', b'"index":1')
    session.likely.shape = shape_of(second, "completions")
    session.feed(speaker.say("\n"))
    session.feed(second)
    assert session.stopped().count(b'"finish_reason":"length"') == 2
