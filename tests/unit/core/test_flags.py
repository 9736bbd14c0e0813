"""core/flags.py: flags from --help."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.world import HELP, OLD_HELP

from llmctl.core.flags import Flags, parse_help

NEW, OLD = parse_help(HELP), parse_help(OLD_HELP)


@pytest.mark.parametrize(
    "flag",
    ["-c", "--ctx-size", "-ngl", "--gpu-layers", "--n-gpu-layers", "--host", "--port", "-a",
     "--alias", "-ctk", "-ctv", "-ub", "-b", "-np", "--fit", "-fit", "-lv", "--metrics", "--slots",
     "--no-slots", "--sse-ping-interval", "-ncmoe", "--n-cpu-moe", "-ts", "-dev", "--spec-type",
     "--jinja", "-mm", "--mmproj", "-md", "--api-key-file", "-h", "--help", "--usage",
     "--reasoning-budget", "--temp", "--temperature"],
)  # fmt: skip
def test_the_real_help_has_the_flag(flag: str) -> None:
    assert flag in NEW


@pytest.mark.parametrize("flag", ["--fit", "-lv", "--sse-ping-interval", "--moe-cache-mib"])
def test_an_old_build_lacks_the_flag(flag: str) -> None:
    assert flag not in OLD


@pytest.mark.parametrize("flag", ["--draft-max", "--draft-min"])
def test_a_removed_flag_is_not_there(flag: str) -> None:
    assert flag not in NEW


def test_a_build_says_what_to_use_instead_of_a_removed_flag() -> None:
    said = NEW.removed("--draft-max")
    assert said is not None
    assert "--spec-draft-n-max" in said


def test_a_flag_that_is_there_was_not_removed() -> None:
    assert NEW.removed("-c") is None


def test_nothing_is_said_of_a_flag_that_never_was() -> None:
    assert NEW.removed("--nonsense") is None


def test_every_line_that_begins_with_a_dash_gives_its_flags() -> None:
    words = [
        line.split()[0].rstrip(",")
        for line in HELP.splitlines()
        if line.startswith("-") and not line.startswith("-----")
    ]
    assert [word for word in words if word not in NEW.help] == []


@pytest.mark.parametrize(
    ("build", "flag", "word", "said"),
    [
        (NEW, "-fa", "auto", True),
        (OLD, "-fa", "auto", False),
        (NEW, "-ngl", "all", True),
        (NEW, "-ctk", "q4_0", True),
        (NEW, "-ctk", "q4", False),
        (NEW, "-ctk", "q6_k", False),
        (NEW, "--nonsense", "x", False),
    ],
)
def test_help_mentions_whole_words_only(build: Flags, flag: str, word: str, said: bool) -> None:
    assert build.says(flag, word) is said


def test_the_first_spelling_that_a_build_has_is_found() -> None:
    assert NEW.first("--draft-max", "--spec-draft-n-max") == "--spec-draft-n-max"


def test_no_spelling_is_found_in_a_build_that_has_none() -> None:
    assert NEW.first("--nonsense") is None


def test_a_mistyped_flag_is_recognised() -> None:
    assert NEW.near("--reasoning-bugdet") == "--reasoning-budget"


def test_a_removed_flag_is_never_proposed() -> None:
    assert NEW.near("--draft-maxx") != "--draft-max"


def test_nothing_is_proposed_for_gibberish() -> None:
    assert NEW.near("--zzzzqqqq") is None


def test_indented_lines_belong_to_the_flag_above() -> None:
    text = "-x, --extra N    what it does\n                 and more\n"
    assert parse_help(text).help == dict.fromkeys(("-x", "--extra"), "N what it does and more")


def test_headings_are_no_flags() -> None:
    assert parse_help("----- common params -----\n\nusage: x\n").help == {}


@given(st.text(alphabet="-,abN <>[]|.\n\t \x00é=", max_size=200) | st.text(max_size=200))
@settings(max_examples=300, deadline=None)
def test_any_text_parses(text: str) -> None:
    assert all(flag.startswith("-") for flag in parse_help(text).help)
