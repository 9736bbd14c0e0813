"""The text of a new profile: it is the profile that was meant, and so is every key it offers."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.oracle import header_of, oracle

from llmctl.core.document import parse_yaml
from llmctl.core.gguf_facts import Facts, Kind, facts_of
from llmctl.core.memory.advice import advised
from llmctl.core.memory.model import model_of
from llmctl.core.memory.planner import Planner
from llmctl.core.memory.request import wanted_of
from llmctl.core.memory.wanted import Room
from llmctl.core.new_notes import Known, notes_of
from llmctl.core.profile import Profile, parse_profile
from llmctl.core.profile_text import Notes, profile_text

GIB = 1 << 30
GOLDEN = Path(__file__).resolve().parents[2] / "data" / "new-profile.yaml"


def read(text: str, name: str = "x") -> Profile:
    return parse_profile(parse_yaml(text, file="x"), name=name, file="x")


def facts_and_plan(profile: Profile, model: str, *gpus: int, **more: Any) -> Known:
    one = oracle()["models"][model]
    header = header_of({**one["metadata"], **more}, one["tensors"])
    rooms = [Room(f"CUDA{n}", size * GIB, size * GIB) for n, size in enumerate(gpus)]
    planner = Planner(model_of(header), rooms, Room("RAM", 64 * GIB, 64 * GIB), build=11434)
    return Known(
        file="/srv/models/x.gguf", facts=facts_of(header, "x.gguf"), size_bytes=header.size,
        models_dir="/srv/models", plan=advised(planner, wanted_of(profile)), units=planner.units,
    )  # fmt: skip


def test_a_profile_is_written_word_for_word() -> None:
    """After a wanted change: LLMCTL_UPDATE_GOLDEN=1, then read the difference."""
    model = "Qwen3-Coder-30B-A3B-Instruct-Q4_K_M.gguf"
    raw = {"model": model, "ctx": 98304, "sampling": {"temperature": 0.7, "top_k": 20}}
    profile = parse_profile(raw, name="coder", file="x")
    known = facts_and_plan(profile, "qwen3_30b", 16, **{"general.file_type": 15})
    text = profile_text(profile, notes_of(profile, known))
    if os.environ.get("LLMCTL_UPDATE_GOLDEN"):
        GOLDEN.write_text(text, "utf-8")
    assert text == GOLDEN.read_text("utf-8")
    assert read(text, "coder") == profile


def test_lines_are_as_editors_leave_them() -> None:
    lines = GOLDEN.read_text("utf-8").split("\n")
    assert lines[-1] == ""
    assert [one for one in lines if one != one.rstrip() or "\t" in one or len(one) > 100] == []


OFFERED = re.findall(r"^# (([a-z_]+): .*)$", GOLDEN.read_text("utf-8"), re.M)


@pytest.mark.parametrize(("line", "key"), OFFERED)
def test_a_key_may_be_taken_out_of_its_comment(line: str, key: str) -> None:
    text = GOLDEN.read_text("utf-8").replace(f"# {line}", line)
    text = text.replace("group: gpu", "group: none") if key == "port" else text
    assert f"\n{line}" in text
    assert getattr(read(text), key) is not None


def test_every_key_is_there_as_itself_or_offered() -> None:
    text = GOLDEN.read_text("utf-8")
    keys = set(re.findall(r"^(?:# )?([a-z_]+): ", text, re.M))
    assert keys >= {one.name for one in msgspec.structs.fields(Profile)} - {"name"}


# Whatever is in a file


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
FACTS = st.builds(
    Facts,
    kind=st.just(Kind.MODEL),
    architecture=TEXT, name=st.none() | TEXT, family=TEXT,
    parameters=st.integers(0, 1 << 50), active=st.none() | st.integers(1, 1 << 50), quant=TEXT,
    ctx_train=st.none() | st.integers(0, 1 << 40), width=st.none(), mtp=st.integers(0, 3),
)  # fmt: skip
PROFILES = st.fixed_dictionaries(
    {"model": TEXT},
    optional={
        "binary": TEXT, "ctx": st.just("auto") | st.integers(256, 1 << 20),
        "kv": st.sampled_from(["f16", "q8_0", {"k": "q8_0", "v": "q8_0"}]), "mmproj": TEXT,
        "group": st.from_regex(r"[a-z0-9][a-z0-9._-]{0,10}", fullmatch=True).filter(
            lambda one: one != "none"
        ),
        "sampling": st.fixed_dictionaries({}, optional={
            "temperature": st.floats(0, 1e6), "top_p": st.floats(0, 1),
            "top_k": st.integers(0, 1 << 40),
        }),
        "args": st.lists(TEXT | st.integers(0, 9), max_size=3),
    },
)  # fmt: skip


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(PROFILES, FACTS, TEXT, st.lists(TEXT, max_size=3))
def test_what_is_written_is_what_was_meant(
    raw: dict[str, Any], facts: Facts, file: str, names: list[str]
) -> None:
    profile = parse_profile(raw, name="x", file="x")
    known = Known(
        file=file, facts=facts, size_bytes=1, models_dir=file, fitting=names,
        there=dict.fromkeys(names, facts), unused=names,
    )  # fmt: skip
    assert read(profile_text(profile, notes_of(profile, known))) == profile


@pytest.mark.parametrize("model", oracle()["models"])
@pytest.mark.parametrize("gpus", [(), (16,), (24, 12)])
def test_every_plan_has_its_words(model: str, gpus: tuple[int, ...]) -> None:
    profile = parse_profile({"model": "x.gguf"}, name="x", file="x")
    known = facts_and_plan(profile, model, *gpus)
    text = profile_text(profile, notes_of(profile, known))
    assert read(text) == profile
    plan = known.plan
    assert plan is not None
    said = f"  # {plan.settings.ctx} of the {known.facts.ctx_train} it was trained for;"
    assert (said in text) is plan.fits
    assert ("It did not fit" in text) is not plan.fits
    if gpus and plan.fits and known.facts.active:
        assert f"experts of {plan.moved_layers} layers" in text or not plan.moved_layers


def test_comments_may_be_left_out() -> None:
    text = profile_text(parse_profile({"model": "x.gguf"}, name="x", file="x"), Notes())
    assert text.startswith("model: x.gguf\nbinary: upstream\ngroup: gpu\n\nctx: auto\n")


def test_a_path_that_is_no_text_is_refused() -> None:
    profile = parse_profile({"model": "a\udcff.gguf"}, name="x", file="x")
    with pytest.raises(ValueError, match="UTF-8"):
        profile_text(profile, Notes())
