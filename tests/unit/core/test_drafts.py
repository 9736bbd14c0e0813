"""The words that have a build draft: each build has its own."""

from __future__ import annotations

import pytest
from support.world import HELP, OLD_HELP

from llmctl.core.argv import argv_complaints
from llmctl.core.drafts import Chosen, Seat, model_words, mtp_words, ngram_words, unplanned
from llmctl.core.flags import Flags, parse_help
from llmctl.core.profile import Profile
from llmctl.core.profile_parts import Draft, KvTypes

NEW, OLD = parse_help(HELP), parse_help(OLD_HELP)
OLDER = Flags(help={"-md": "", "--draft-max": "", "-devd": "", "-ngld": ""})
"""Of 2025: `-md` alone drafts, with types of K and V that nobody can choose."""
BETWEEN = Flags(help={"-md": "", "--spec-type": "none,ngram-cache,ngram-mod", "--draft-max": ""})
"""`--spec-type` is of texts alone yet."""
SEAT = Seat("q8_0", "q4_0", 29, "CUDA1")


@pytest.mark.parametrize("build", [NEW, OLD], ids=["new", "old"])
def test_a_draft_model_is_named_with_its_type_its_place_and_its_cache(build: Flags) -> None:
    assert model_words("/d", 3, build, SEAT) == (
        *("-md", "/d", "--spec-type", "draft-simple", "--spec-draft-n-max", "3"),
        *("-ctkd", "q8_0", "-ctvd", "q4_0", "-devd", "CUDA1", "-ngld", "29"),
    )


def test_older_builds_get_what_they_have() -> None:
    words = ("-md", "/d", "--draft-max", "3", "-devd", "CUDA1", "-ngld", "29")
    assert model_words("/d", 3, OLDER, SEAT) == words
    assert model_words("/d", 3, BETWEEN, SEAT) == ("-md", "/d", "--draft-max", "3")


def test_on_the_cpu_no_device_is_used() -> None:
    words = model_words("/d", 3, NEW, Seat(layers=0, device="none"))
    assert words[-4:] == ("-devd", "none", "-ngld", "0")


def test_what_needs_no_model() -> None:
    kinds = ("--spec-type", "draft-mtp", "--spec-draft-n-max", "2", "-ctkd", "f16", "-ctvd", "f16")
    assert mtp_words(2, NEW, Seat()) == kinds
    assert ngram_words() == ("--spec-type", "ngram-mod")


@pytest.mark.parametrize(
    ("draft", "kv", "words"),
    [
        ("off", "f16", ()),
        ("auto", "f16", ()),
        ("ngram", "q8_0", ngram_words()),
        ("mtp", "q8_0", mtp_words(3, NEW, Seat("q8_0", "q8_0"))),
        (Draft(model="mtp", n_max=2), "f16", mtp_words(2, NEW, Seat())),
        ("d.gguf", KvTypes(k="q8_0", v="f16"), model_words("/d", 3, NEW, Seat("q8_0"))),
        (Draft(model="d.gguf", kv="f16"), "q4_0", model_words("/d", 3, NEW, Seat())),
    ],
)
def test_without_a_plan_the_profile_says(
    draft: str | Draft, kv: str | KvTypes, words: tuple[str, ...]
) -> None:
    profile = Profile(name="a", model="m.gguf", draft=draft, kv=kv)
    path = "/d" if "d.gguf" in str(draft) else None
    assert unplanned(profile, path, NEW) == words


@pytest.mark.parametrize(("draft", "kind"), [("mtp", "draft-mtp"), ("ngram", "ngram-mod")])
def test_a_build_that_cannot_draft_so_is_told_at_the_key(draft: str, kind: str) -> None:
    build = Flags(help=NEW.help | {"--spec-type": "none,draft-simple"})
    found = argv_complaints(Profile(name="a", model="m.gguf", draft=draft), build)
    assert found == [(("draft",), f"this llama-server's --spec-type does not take {kind}")]


@pytest.mark.parametrize("flag", ["-ngld", "--gpu-layers-draft", "--spec-draft-device", "-ctkd"])
def test_flags_of_drafts_are_llmctls_to_render(flag: str) -> None:
    profile = Profile(name="a", model="m.gguf", args=(flag, "x"))
    ((path, text),) = argv_complaints(profile, NEW)
    assert path == ("args", 0)
    assert text.endswith("use the key draft")


def test_what_is_told_of_it() -> None:
    assert Chosen().told == "off"
    assert Chosen(None, "there is no smaller model").told == "none: there is no smaller model"
    assert Chosen(None, "repeats", ("--spec-type", "ngram-mod")).told == "repeats"
    assert Chosen("/d", "the smallest", ("-md", "/d")).told == "/d: the smallest"
