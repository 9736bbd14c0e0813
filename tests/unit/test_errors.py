"""errors.py: exit statuses are a contract with scripts."""

from __future__ import annotations

import pytest

from llmctl import errors


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (errors.LlmctlError, 1),
        (errors.UsageError, 2),
        (errors.ProfileError, 3),
        (errors.DoesNotFitError, 4),
        (errors.HostError, 5),
        (errors.NoAnswerError, 5),
        (errors.LostError, 5),
        (errors.SwitchError, 6),
        (errors.NothingRunsError, 7),
    ],
)
def test_a_failure_has_its_exit_status(kind: type[errors.LlmctlError], status: int) -> None:
    assert kind("it failed.").exit_status == status


def test_a_failure_says_what_to_do() -> None:
    assert errors.LlmctlError("it failed.", hint="Try again.").hint == "Try again."


def test_all_problems_of_a_document_are_one_message() -> None:
    error = errors.ProfileError(["a: wrong", "b: wrong"])
    assert (error.message, error.problems) == ("a: wrong\nb: wrong", ("a: wrong", "b: wrong"))


@pytest.mark.parametrize(
    ("text", "whole"),
    [("it is so", "it is so."), ("it is so.", "it is so."), ("so?", "so?"), ("so!", "so!")],
)
def test_a_message_becomes_a_sentence_once(text: str, whole: str) -> None:
    assert errors.sentence(text) == whole


def test_a_failed_switch_carries_the_servers_last_words() -> None:
    assert errors.SwitchError("x", evidence=["a", "b"]).evidence == ("a", "b")
