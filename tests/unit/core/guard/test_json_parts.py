"""core/guard/json_parts.py: one value in another's place, and every other byte as it was."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmctl.core.guard.json_parts import fields, items, longer, text, with_item, with_one_more
from llmctl.core.guard.json_parts import with_value as put

_KEYS = st.text(max_size=4)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6),
    lambda some: st.lists(some, max_size=4) | st.dictionaries(_KEYS, some, max_size=4),
    max_leaves=12,
)
_LAYOUTS = st.sampled_from([None, 2])


@given(st.dictionaries(_KEYS, _VALUES), _KEYS, _VALUES, _LAYOUTS)
def test_a_value_takes_anothers_place(
    given: dict[str, Any], key: str, value: Any, indent: int | None
) -> None:
    data = json.dumps(given, indent=indent).encode()
    changed = put(data, key, json.dumps(value).encode())
    assert json.loads(changed) == {**given, key: value}
    assert list(json.loads(changed)) == list({**given, key: value})


@given(st.lists(_VALUES, min_size=1), _VALUES, _LAYOUTS, st.data())
def test_so_does_an_item(given: list[Any], value: Any, indent: int | None, data: Any) -> None:
    index = data.draw(st.integers(0, len(given) - 1))
    raw = json.dumps(given, indent=indent).encode()
    wanted = [*given[:index], value, *given[index + 1 :]]
    assert json.loads(with_item(raw, index, json.dumps(value).encode())) == wanted
    assert json.loads(with_one_more(raw, json.dumps(value).encode())) == [*given, value]


def test_bytes_that_are_not_meant_stay() -> None:
    data = b' { "a" :  1.50 ,\n"b"\t: "\\u00e9" , "c":[ 1 ,2 ] } '
    assert put(data, "b", b"2") == b' { "a" :  1.50 ,\n"b"\t: 2 , "c":[ 1 ,2 ] } '
    assert put(data, "d", b"2") == b' { "a" :  1.50 ,\n"b"\t: "\\u00e9" , "c":[ 1 ,2 ] ,"d":2} '
    assert with_item(b"[ 1 ,2 ]", 1, b"3") == b"[ 1 ,3 ]"


@pytest.mark.parametrize("data", [b'{"a": 1, "b": 2, "a": 3}', b'{"b": 2, "a": 3, "a": 3}'])
def test_a_key_that_stands_twice_is_made_one(data: bytes) -> None:
    assert json.loads(put(data, "a", b"9")) == {"a": 9, "b": 2}
    assert json.loads(put(data, "b", b"9")) == {"a": 3, "b": 9}


def test_an_item_that_is_not_there_is_a_fault() -> None:
    with pytest.raises(IndexError):
        with_item(b"[1]", 1, b"2")


@pytest.mark.parametrize("data", [None, b"", b"{", b"nul", b"\xff", b"[" * 100_000, b'"\\ud800"'])
def test_what_is_no_json_has_no_parts(data: bytes | None) -> None:
    assert (fields(data), items(data), text(data)) == ({}, [], None)


@given(st.text(), st.text())
def test_a_text_grows(one: str, two: str) -> None:
    assert json.loads(longer(json.dumps(one).encode(), two)) == one + two
