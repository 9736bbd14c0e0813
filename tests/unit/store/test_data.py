"""store/data.py: what comes with llmctl."""

from __future__ import annotations

import pytest

from llmctl.store.data import data_dir, example_profiles, template

TEMPLATES = (
    "llm.service",
    "llm@.service",
    "llm.slice",
    "llmctl-proxy.service",
    "llmctl-proxy.socket",
)


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_is_there(name: str) -> None:
    assert "[Unit]" in template(name)


def test_example_profiles_are_there() -> None:
    assert {name for name, _ in example_profiles()} >= {"coder", "steward"}


def test_every_template_in_the_directory_is_used() -> None:
    names = {path.name for path in (data_dir() / "units").iterdir()}
    assert names == {f"{name}.j2" for name in TEMPLATES}
