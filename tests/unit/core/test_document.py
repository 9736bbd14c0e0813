"""core/document.py: YAML text to structs, and complaints a person can act on."""

from __future__ import annotations

import contextlib
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmctl.core.document import build, complain, parse_yaml, show_path, show_value
from llmctl.core.profile import Profile
from llmctl.errors import ProfileError


class Inner(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    size: int


class Sample(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    name: str
    count: Annotated[int, msgspec.Meta(title="a whole number")] = 1
    inner: Inner | None = None
    words: tuple[str, ...] = ()


def problems(text: str) -> tuple[str, ...]:
    with pytest.raises(ProfileError) as caught:
        build(Sample, parse_yaml(text, file="x.yaml"), file="x.yaml")
    return caught.value.problems


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("on", "on"),
        ("off", "off"),
        ("yes", "yes"),
        ("No", "No"),
        ("True", "True"),
        ("true", True),
        ("false", False),
        ("010", "010"),
        ("1:30", "1:30"),
        ("1_000", "1_000"),
        ("0x10", "0x10"),
        ("12", 12),
        ("-3", -3),
        ("0", 0),
        ("0.5", 0.5),
        ("1.5e3", 1500.0),
        ("2001-01-01", "2001-01-01"),
        ("~", None),
        ("null", None),
        ("", None),
        ("=", "="),
        ("'12'", "12"),
        ("[a, 1]", ["a", 1]),
    ],
)
def test_scalars_are_read_as_yaml_1_2_reads_them(text: str, value: object) -> None:
    found = parse_yaml(f"key: {text}", file="x.yaml")["key"]
    assert (found, type(found)) == (value, type(value))


def test_an_anchor_and_its_alias_are_the_same_value() -> None:
    assert parse_yaml("a: &x [1]\nb: *x", file="x.yaml") == {"a": [1], "b": [1]}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a: 1\nb: 2\na: 3\n", "x.yaml:3: a: given twice"),
        ("a: {b: 1, b: 2}\n", "x.yaml:1: b: given twice"),
        ("a: 1\nb: [1, 2\n", "x.yaml:3: "),
        ("a: *nothing\n", "x.yaml:1: "),
        ("a: 1\n--- \nb: 2\n", "x.yaml:2: "),
        ("a: \x01\n", "x.yaml: not valid YAML: "),
        ("a: !!python/object:os.system x\n", "x.yaml:1: "),
    ],
)
def test_what_is_not_yaml_is_refused_with_file_and_line(text: str, complaint: str) -> None:
    with pytest.raises(ProfileError) as caught:
        parse_yaml(text, file="x.yaml")
    assert str(caught.value).startswith(complaint)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "? [1, 2]\n: x\n",
        "? {a: b}\n: x\n",
        "{[1, 2]: 3}\n",
        "a: !!bool maybe\n",
        "a: !!int ''\n",
        "!!map [1]\n",
        "&a {name: *a}\n",
        "name: &a [*a]\n",
        "inner: &a {size: *a}\n",
        "&a [*a]\n",
    ],
)
def test_odd_but_valid_yaml_is_a_complaint_and_not_a_crash(text: str) -> None:
    assert problems(text)


def test_a_document_that_is_no_mapping_is_refused() -> None:
    assert problems("- a\n") == ('x.yaml: expected keys and values, got ["a"]',)


def test_an_empty_document_lacks_what_is_required() -> None:
    assert problems("") == ("x.yaml: name: missing",)


def test_every_complaint_comes_at_once() -> None:
    found = problems("count: many\ncolour: red\n")
    assert [one.split(":")[1].strip() for one in found] == ["count", "colour", "name"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("count: many", 'x.yaml: count: expected a whole number, got "many"'),
        ("inner: {size: big}", 'x.yaml: inner.size: expected a whole number, got "big"'),
        ("inner: {}", "x.yaml: inner.size: missing"),
        ("inner: {size: 1, colour: 2}", "x.yaml: inner.colour: unknown key"),
        ("words: [a, 2]", "x.yaml: words[1]: expected text, got 2"),
        ("cuont: 2", "x.yaml: cuont: unknown key; did you mean count?"),
        ("colour: 2", "x.yaml: colour: unknown key; there is name, count, inner, words"),
    ],
)
def test_a_complaint_names_file_path_value_and_remedy(text: str, complaint: str) -> None:
    assert problems(f"name: n\n{text}") == (complaint,)


def test_a_fixed_field_cannot_be_given() -> None:
    raw = {"name": "other"}
    with pytest.raises(ProfileError, match="name: unknown key"):
        build(Sample, raw, file="x.yaml", fixed={"name": "mine"})


def test_a_fixed_field_is_set() -> None:
    assert build(Sample, None, file="x.yaml", fixed={"name": "mine"}) == Sample(name="mine")


def test_what_types_cannot_say_is_complained_of_too() -> None:
    with pytest.raises(ProfileError, match=r"x.yaml: words\[0\]: too short"):
        build(Sample, {"name": "n"}, file="x.yaml", check=lambda _: [(("words", 0), "too short")])


def test_rules_between_keys_wait_until_each_key_is_right() -> None:
    def check(_: Sample) -> list[Any]:
        raise AssertionError("not to be asked")

    with pytest.raises(ProfileError):
        build(Sample, {"name": 1}, file="x.yaml", check=check)


@pytest.mark.parametrize(
    ("path", "text"),
    [(("kv", "k"), "kv.k"), (("args", 2), "args[2]"), (("a", 0, "b"), "a[0].b"), ((), "")],
)
def test_a_path_is_shown_as_it_is_typed(path: tuple[str | int, ...], text: str) -> None:
    assert show_path(path) == text


def test_a_complaint_about_the_whole_has_no_path() -> None:
    assert complain((), "is empty", file="x.yaml") == "x.yaml: is empty"


@pytest.mark.parametrize(
    ("value", "text"),
    [("a", '"a"'), (1, "1"), (True, "true"), (None, "null"), ([1, "a"], '[1,"a"]')],
)
def test_a_value_is_shown_as_it_was_written(value: object, text: str) -> None:
    assert show_value(value) == text


def test_a_long_value_is_cut() -> None:
    assert len(show_value("x" * 1000)) == 60


YAMLISH = st.text(alphabet="ab1:-?[]{},&*!|>'\"%@ \n\t#~.<=\x00é\ud800", max_size=60)
KEYS = st.sampled_from([f.name for f in msgspec.structs.fields(Profile)])


@given(YAMLISH | st.text(max_size=60) | st.builds("{}: {}".format, KEYS, YAMLISH))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_text_is_a_document_or_a_profile_error(text: str) -> None:
    with contextlib.suppress(ProfileError):
        build(Profile, parse_yaml(text, file="x.yaml"), file="x.yaml", fixed={"name": "n"})
