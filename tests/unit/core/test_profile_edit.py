"""core/profile_edit.py: keys change, and nothing else that a person wrote."""

from __future__ import annotations

from typing import Any

import pytest

from llmctl.core.document import parse_yaml
from llmctl.core.profile_edit import edited
from llmctl.errors import ProfileError

TEXT = """\
# my model
model: m.gguf   # the good one

n_cpu_moe: auto    # planned
env: {A: "x # y"}  # why
draft:             # speculation
  # found by hand
  model: d.gguf    # small
  n_max: 8         # too many?

# the end
ctx: 4096
"""
OFF = "draft: off             # speculation"


def said(text: str) -> Any:
    return parse_yaml(text, file="a.yaml")


@pytest.mark.parametrize(
    ("keys", "lines"),
    [
        ({"n_cpu_moe": 14}, ["n_cpu_moe: 14    # planned"]),
        ({"threads": 4}, ["threads: 4"]),
        ({"ctx": 8192, "n_cpu_moe": 1}, ["ctx: 8192", "n_cpu_moe: 1    # planned"]),
        ({"draft": {"model": "d.gguf", "n_max": 3}}, ["  n_max: 3         # too many?"]),
        ({"draft": {"model": "d.gguf", "n_max": 3, "kv": "q8_0"}}, ["  kv: q8_0"]),
        ({"draft": "off"}, [OFF, "#   n_max: 8         # too many?"]),
        ({"env": "x"}, ["env: x  # why"]),
    ],
)  # fmt: skip
def test_only_what_is_set_changes(keys: dict[str, Any], lines: list[str]) -> None:
    found = edited(TEXT, keys)
    assert said(found) == {**said(TEXT), **keys}
    new = set(found.splitlines()) - set(TEXT.splitlines())
    assert set(lines) <= new
    comments = [line for line in TEXT.splitlines() if line.lstrip().startswith("#")]
    assert all(one.strip() in found for one in comments)
    assert "# too many?" in found


@pytest.mark.parametrize("text", ["model: m", "model: m\n", '"model": m\n', "model: m\r\n"])
def test_a_file_may_end_as_it_likes(text: str) -> None:
    assert said(edited(text, {"model": "n", "ctx": 1})) == {"model": "n", "ctx": 1}


def test_an_inline_draft_is_one_line_again() -> None:
    found = edited("draft: {model: d, n_max: 8} # x\n", {"draft": {"model": "d", "n_max": 2}})
    assert found == "draft: {model: d, n_max: 2} # x\n"


def test_a_key_that_only_begins_so_is_left_alone() -> None:
    assert edited("ctx_x: 1\n", {"ctx": 2}) == "ctx_x: 1\nctx: 2\n"


def test_a_document_in_one_line_is_not_understood_and_that_shows() -> None:
    """Whoever writes it compares, and leaves the file alone."""
    with pytest.raises(ProfileError):
        said(edited("{model: m, ctx: 1}\n", {"ctx": 2}))
