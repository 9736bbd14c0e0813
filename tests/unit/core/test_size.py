"""core/size.py: sizes as people write them."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmctl.core.size import MOST_BYTES, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("24GiB", 24 << 30),
        ("15.9GiB", 17072495001),
        ("16000MiB", 16000 << 20),
        ("512 MiB", 512 << 20),
        ("1tib", 1 << 40),
        ("4KiB", 4096),
        ("0", 0),
        ("17179869184", 16 << 30),
        (17179869184, 16 << 30),
        (" 1GiB ", 1 << 30),
    ],
)
def test_a_size_is_read(text: str | int, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    ["24GB", "24G", "-1", "1.5", "GiB", "", "24GiB free", "1e9", "\u0663GiB", ".5GiB", True, -1,
     "9" * 400, "9" * 400 + "GiB"],
)  # fmt: skip
def test_what_is_no_size_or_two_is_refused(text: str | int) -> None:
    with pytest.raises(ValueError, match="expected a size such as 24GiB, 16000MiB or whole bytes"):
        parse_size(text)


def test_a_forgotten_unit_is_asked_for() -> None:
    with pytest.raises(ValueError, match="24 without a unit is bytes; expected 24GiB or 24MiB"):
        parse_size(24)


@pytest.mark.parametrize("text", ["9" * 20, "99999999TiB"])
def test_a_size_that_no_box_has_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="more than any box has"):
        parse_size(text)


@given(st.integers(min_value=1 << 20, max_value=MOST_BYTES))
def test_bytes_are_themselves(size: int) -> None:
    assert parse_size(str(size)) == parse_size(size) == size


@given(st.text(max_size=30))
def test_any_text_is_a_size_or_refused(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert parse_size(text) >= 0
