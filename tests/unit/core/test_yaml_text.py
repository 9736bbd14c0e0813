"""Values as YAML: what is written is read again, by our parser and by YAML 1.1's."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmctl.core.document import parse_yaml
from llmctl.core.yaml_text import comment, flow, text

WORDS = [
    "plain.gguf", "a b", "on", "No", "y", "null", "~", "true", "010", "1:30", "1e5", "0x1f", "-",
    "- a", "a: b", "#a", "a #b", "a", "", " a", "a\nb", "a\tb", '"', "'", "\\", "é", "日本", "🙂",
    "\u2028", "\ufeff", "\x85", "\x7f", "\x1b[31m", "2026-11-21", "1_000", "=", "<<", ".inf", "*a",
    "&a", "!a", "%a", "@a", "`a", "{a}", "[a]", "a,b", "?", "|", ">", "30s", "1.5", "..", "a\r",
]  # fmt: skip


@pytest.mark.parametrize("word", WORDS)
def test_text_stays_text(word: str) -> None:
    for document in (f"key: {text(word)}  # comment\n", f"key: [{text(word)}, {text(word)}]\n"):
        read = parse_yaml(document, file="x")["key"]
        assert read in (word, [word, word])
        assert yaml.safe_load(document)["key"] == read


PLAIN = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"])), st.integers(),
    st.floats(allow_nan=False, allow_infinity=False), st.booleans(),
)  # fmt: skip


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.recursive(PLAIN, lambda one: st.lists(one) | st.dictionaries(st.text(
    st.characters(exclude_categories=["Cs"])), one), max_leaves=8))  # fmt: skip
def test_whatever_is_written_is_read(value: object) -> None:
    assert parse_yaml(f"key: {flow(value)}  # x\n", file="x") == {"key": value}


def test_half_a_character_is_refused() -> None:
    with pytest.raises(ValueError, match="no UTF-8"):
        text("a\udcff.gguf")


def test_words_of_old_yaml_may_be_said_to_be_plain() -> None:
    assert flow("on") == '"on"'
    assert flow({"a": ["on"]}, words=frozenset({"on"})) == "{a: [on]}"


def test_what_has_no_place_in_yaml_is_refused() -> None:
    with pytest.raises(TypeError, match="no place"):
        flow(object())


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text())
def test_a_comment_is_one_printable_line(said: str) -> None:
    line = comment(said)
    assert line.isprintable()
    assert len(line) <= 72
    assert parse_yaml(f"# {line}\nkey: 1\n", file="x") == {"key": 1}
