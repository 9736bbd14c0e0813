"""core/finding.py: the word for several findings, and commands for who is elsewhere."""

from __future__ import annotations

import pytest

from llmctl.core.finding import Finding, Grade, advice, from_elsewhere, worst

WRONG, UNKNOWN = (Finding("", "", "", grade) for grade in (Grade.WRONG, Grade.UNKNOWN))
ADVICE = advice("", why="", do="")


@pytest.mark.parametrize(
    ("findings", "word"),
    [
        ([], Grade.OK), ([ADVICE], Grade.ADVICE), ([ADVICE, UNKNOWN], Grade.UNKNOWN),
        ([UNKNOWN, ADVICE, WRONG], Grade.WRONG),
    ],
)  # fmt: skip
def test_the_worst_counts(findings: list[Finding], word: Grade) -> None:
    assert worst(findings) is word


@pytest.mark.parametrize(
    ("here", "elsewhere"),
    [
        ("llmctl apply --prune", "llmctl apply --host big --prune"),
        ("llmctl proxy install", "llmctl proxy install --host big"),
        ("llmctl logs a; then llmctl switch a",
         "llmctl logs --host big a; then llmctl switch --host big a"),
        ("`llmctl status` and llmctl new NAME FILE",
         "`llmctl status --host big` and llmctl new --host big NAME FILE"),
        ("llmctl status --host big; llmctl off", "llmctl status --host big; llmctl off --host big"),
        ("sudo loginctl enable-linger me", "on big: sudo loginctl enable-linger me"),
        ("Run llmctl without sudo, as me.", "on big: Run llmctl without sudo, as me."),
    ],
)  # fmt: skip
def test_commands_are_as_they_are_typed_elsewhere(here: str, elsewhere: str) -> None:
    finding = Finding("it is so", "and so", here)
    assert from_elsewhere(finding, "big") == Finding("it is so", "and so", elsewhere)
