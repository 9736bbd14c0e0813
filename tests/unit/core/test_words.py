"""core/words.py: names of profiles and units."""

from __future__ import annotations

import pytest

from llmctl.core.words import profile_of, unit_name


def test_a_profile_has_a_unit() -> None:
    assert unit_name("qwen3.6") == "llm-qwen3.6.service"


@pytest.mark.parametrize("name", ["a", "qwen3.6-27b", "7b_x"])
def test_a_unit_tells_its_profile(name: str) -> None:
    assert profile_of(unit_name(name)) == name


@pytest.mark.parametrize(
    "unit",
    ["llm.slice", "llmctl-proxy.service", "llm-.service", "llm-A.service", "llm-a@2.service",
     "llm-a.socket", "ollama.service", "coder", "llm-a.service\n", ""],
)  # fmt: skip
def test_other_units_stand_for_no_profile(unit: str) -> None:
    assert profile_of(unit) is None
