"""core/words.py: names of profiles and units."""

from __future__ import annotations

import pytest

from llmctl.core.words import (
    instance_of,
    profile_of,
    replica_template,
    replica_unit_name,
    replicated,
    unit_name,
)


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


@pytest.mark.parametrize("name", ["a", "qwen3.6-27b", "7b_x"])
def test_a_replicas_unit_tells_its_profile_and_number(name: str) -> None:
    assert instance_of(replica_unit_name(name, 2)) == (name, 2)
    assert instance_of(replica_unit_name(name, 64)) == (name, 64)
    assert instance_of(unit_name(name)) == (name, 1)
    assert replicated(replica_template(name)) == name


@pytest.mark.parametrize(
    "unit",
    ["llm-a@.service", "llm-a@1.service", "llm-a@0.service", "llm-a@02.service", "llm-a@x.service",
     "llm-@2.service", "llm-A@2.service", "llm-a@2@3.service", "llm-a@1000.service",
     "llm-a@2.socket", "a@2.service", "ollama.service", "llm-a@٢.service", ""],
)  # fmt: skip
def test_other_units_are_no_instance(unit: str) -> None:
    assert instance_of(unit) is None


@pytest.mark.parametrize(
    "unit", ["llm-a.service", "llm-a@2.service", "llm-@.service", "a@.service"]
)
def test_other_units_are_no_template(unit: str) -> None:
    assert replicated(unit) is None
