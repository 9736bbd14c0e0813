"""Sampling that a file recommends."""

from __future__ import annotations

from struct import pack, unpack
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmctl.core.recommended import recommended


def single(number: float) -> float:
    """As a GGUF file keeps it."""
    return float(unpack("<f", pack("<f", number))[0])


def test_what_a_profile_has_keys_for_is_taken() -> None:
    given_: dict[str, Any] = {
        "general.sampling.temp": single(0.7), "general.sampling.top_k": 20,
        "general.sampling.top_p": single(0.8), "general.sampling.min_p": 0.0,
        "general.sampling.penalty_repeat": single(1.05), "general.sampling.mirostat": 2,
        "general.name": "x",
    }  # fmt: skip
    assert recommended(given_) == (
        {"temperature": 0.7, "top_k": 20, "top_p": 0.8, "min_p": 0, "repeat_penalty": 1.05},
        ("mirostat",),
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [("temp", -1.0), ("temp", float("nan")), ("temp", float("inf")), ("top_p", 1.5),
     ("top_k", -1), ("top_k", 0.5), ("temp", True), ("temp", "hot"), ("min_p", (0.1,))],
)  # fmt: skip
def test_what_a_profile_may_not_say_is_named(key: str, value: Any) -> None:
    assert recommended({f"general.sampling.{key}": value}) == ({}, (key,))


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.floats(0, 2, width=32))
def test_a_number_stays_the_same_single(number: float) -> None:
    (taken,) = recommended({"general.sampling.temp": number})[0].values()
    assert pack("<f", taken) == pack("<f", number)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.decimals(0, 2, places=2))
def test_a_number_is_as_it_was_written(number: Any) -> None:
    (taken,) = recommended({"general.sampling.temp": single(float(number))})[0].values()
    assert taken == float(number)
