"""core/suspend.py: logind's answer, the rule for sudo, and cards that are armed."""

from __future__ import annotations

import pytest

from llmctl.core.suspend import can_be_woken, parse_can, sudo_rule


@pytest.mark.parametrize(
    ("told", "word"),
    [
        ('s "yes"\n', "yes"),
        ('s "challenge"\n', "challenge"),
        ('s "na"', "na"),
        ("b true\n", ""),
        ("", ""),
    ],
)
def test_logind_says_a_word(told: str, word: str) -> None:
    assert parse_can(told) == word


def test_the_rule_is_for_one_user_and_one_command() -> None:
    assert sudo_rule("llm", "/usr/bin/systemctl") == (
        "echo 'llm ALL=(root) NOPASSWD: /usr/bin/systemctl suspend'"
        " | sudo tee /etc/sudoers.d/llmctl-suspend"
    )


@pytest.mark.parametrize(
    ("cards", "can"),
    [
        ({}, None), ({"a": ""}, None), ({"a": "disabled"}, False),
        ({"a": "disabled", "b": "enabled"}, True), ({"a": "", "b": "disabled"}, False),
    ],
)  # fmt: skip
def test_a_box_can_be_woken_by_an_armed_card(cards: dict[str, str], can: bool | None) -> None:
    assert can_be_woken(cards) is can
