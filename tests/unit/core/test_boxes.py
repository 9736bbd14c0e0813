"""core/boxes.py: other boxes that config.yaml names, and how profiles name their models."""

from __future__ import annotations

import pytest

from llmctl.core.boxes import RemoteBox, box_of, parse_url
from llmctl.core.config import Config, parse_config
from llmctl.core.document import parse_yaml
from llmctl.core.fleet import clashes
from llmctl.core.profile import Profile
from llmctl.errors import ProfileError


def problems(text: str) -> tuple[str, ...]:
    with pytest.raises(ProfileError) as caught:
        parse_config(parse_yaml(text, file="config.yaml"), file="config.yaml")
    return caught.value.problems


def test_a_word_is_a_profile_or_a_boxs_model() -> None:
    assert box_of("coder") == (None, "coder")
    assert box_of("attic/coder") == ("attic", "coder")


@pytest.mark.parametrize(("url", "found"), [
    ("http://attic:1234", ("attic", 1234)), ("http://attic", ("attic", 1234)),
    ("http://attic.tail1234.ts.net:80/", ("attic.tail1234.ts.net", 80)),
    ("http://100.64.0.2:1234", ("100.64.0.2", 1234)), ("http://[fd7a::2]:99", ("fd7a::2", 99)),
])  # fmt: skip
def test_urls(url: str, found: tuple[str, int]) -> None:
    assert parse_url(url) == found


@pytest.mark.parametrize("url", [
    "attic:1234", "https://attic", "http://", "http://attic/v1", "http://user:pw@attic",
    "http://attic:0", "http://attic:65536", "http://attic:123456", "http://at tic", "ftp://attic",
])  # fmt: skip
def test_what_is_no_url_of_a_box_is_refused(url: str) -> None:
    (text,) = problems(f"boxes: {{attic: {{url: '{url}'}}}}")
    assert text.startswith("config.yaml: boxes.attic.url: ")


def test_names_and_keys_of_boxes() -> None:
    assert "boxes.Attic: expected a name" in problems("boxes: {Attic: {url: 'http://x'}}")[0]
    assert "boxes.attic.url: missing" in problems("boxes: {attic: {}}")[0]
    assert "unknown key" in problems("boxes: {attic: {url: 'http://x', key: abc}}")[0]


def complaints(*fallback: str) -> list[str]:
    config = Config(boxes={"attic": RemoteBox("http://attic:1234")})
    others = [Profile(name="b", model="b.gguf", aliases=("big",))]
    profile = Profile(name="a", model="a.gguf", fallback=fallback)
    return [f"{path}: {text}" for path, text in clashes(profile, [profile, *others], config)]


def test_a_chain_names_what_there_is() -> None:
    assert complaints("b", "big", "attic/coder") == []
    assert complaints("c") == ["('fallback', 0): there is no other profile c"]
    assert complaints("a") == ["('fallback', 0): there is no other profile a"]
    (text,) = complaints("b", "cellar/coder")
    assert "there is no box cellar; in config.yaml: boxes: {cellar: {url:" in text
    (text,) = complaints("attic/Coder 2")
    assert "expected a model of attic such as attic/coder" in text
