"""core/bench.py, bench_text.py, bench_words.py, http_body.py: what is measured and compared."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from llmctl.core.bench import (
    Case,
    Record,
    Sample,
    Spread,
    apart,
    compared,
    figures,
    sample_of,
    spread,
    timings_of,
)
from llmctl.core.bench_text import TASK, prompt, words
from llmctl.core.bench_words import flags_of, is_drafting, without_draft
from llmctl.core.http_body import split_answer

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def sample(*, tokens: int = 100, seconds: float = 2.0, **keys: Any) -> Sample:
    given: dict[str, Any] = {
        "prompt_tokens": 500, "prompt_s": 1.0, "tokens": tokens, "generation_s": seconds,
        "ttft_s": 1.1, "wall_s": 3.2,
    }  # fmt: skip
    return Sample(**given | keys)


def record(
    *speeds: float, digest: str = "d1", build: str = "b1", flags: dict[str, str] | None = None,
    **keys: Any,
) -> Record:  # fmt: skip
    rounds = [(3.2, [sample(seconds=100 / speed)]) for speed in speeds or (50.0,)]
    given: dict[str, Any] = {
        "time": "2026-11-20T10:00:00+00:00", "profile": "a", "build": build, "flags": flags or {},
        "digest": digest, "case": Case(prompt=512, generate=100), "figures": figures(rounds),
    }  # fmt: skip
    return Record(**given | keys)


# Answers


def test_timings_are_in_the_last_event_that_has_some() -> None:
    events = (
        b'data: {"choices":[{"delta":{"content":"\\"timings\\""}}]}\n\n'
        b'data: {"choices":[],"timings":{"prompt_n":3}}\n\n: ping\n\ndata: [DONE]\n\n'
    )
    assert timings_of(events) == {"prompt_n": 3}


@pytest.mark.parametrize("events", [b"", b"data: [DONE]\n\n", b"data: {broken\n\n", b":\n\n"])
def test_a_stream_without_timings_has_none(events: bytes) -> None:
    assert timings_of(events) is None


def test_an_error_in_a_stream_is_told() -> None:
    with pytest.raises(ValueError, match="Context size"):
        timings_of(b'data: {"error":{"message":"Context size has been exceeded."}}\n\n')


def test_a_sample_is_in_seconds() -> None:
    found = sample_of(
        {"prompt_n": 10, "prompt_ms": 500.0, "predicted_n": 4, "predicted_ms": 80.0,
         "draft_n": 6, "draft_n_accepted": 2},
        ttft_s=0.6, wall_s=0.7,
    )  # fmt: skip
    assert (found.prompt_s, found.generation_s, found.drafted, found.accepted) == (0.5, 0.08, 6, 2)


@pytest.mark.parametrize("timings", [{}, {"prompt_n": "x"}])
def test_timings_without_times_are_refused(timings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="neither tokens nor times"):
        sample_of(timings, ttft_s=0, wall_s=0)


@pytest.mark.parametrize(
    ("raw", "status", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", 200, b"hi"),
        (CHUNKED + b"2\r\nhi\r\n3;x=y\r\n yo\r\n0\r\n\r\n", 200, b"hi yo"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\nff\r\nshort", 200, b"short"),
        (CHUNKED + b"zz\r\nno", 200, b""),
        (b"HTTP/1.1 503 Busy\r\n\r\n", 503, b""),
        (b"SSH-2.0-x\r\n", None, b""),
        (b"", None, b""),
    ],
)  # fmt: skip
def test_the_body_of_an_answer(raw: bytes, status: int | None, body: bytes) -> None:
    assert split_answer(raw) == (status, body)


# Figures


@pytest.mark.parametrize(
    ("values", "median"), [((3, 1, 2), 2), ((4, 1, 2, 3), 2.5), ((7,), 7)]
)  # fmt: skip
def test_a_spread_is_the_median_and_the_range(values: tuple[int, ...], median: float) -> None:
    assert spread(values) == Spread(median, min(values), max(values))


def test_figures_are_those_of_all_requests() -> None:
    rounds = [(4.0, [sample(seconds=2.0), sample(seconds=4.0)]), (5.0, [sample(), sample()])]
    found = figures(rounds)
    assert found.runs == 2
    assert found.generation_per_s == Spread(50.0, 25.0, 50.0)
    assert found.total_per_s == Spread(45.0, 40.0, 50.0)
    assert (found.tokens, found.prompt_tokens, found.acceptance) == (400, 500, None)


def test_a_step_of_the_model_writes_a_token_and_the_accepted_ones() -> None:
    found = figures([(3.0, [sample(tokens=100, drafted=150, accepted=50)])])
    assert found.acceptance == pytest.approx(1 / 3)
    assert found.drafted_per_step == 3
    assert found.step_s == pytest.approx(2 / 50)


def test_what_is_too_quick_for_the_clock_is_no_error() -> None:
    assert figures([(0.0, [sample(prompt_s=0.0, generation_s=0.0)])]).total_per_s.median > 0


def test_a_record_survives_its_file() -> None:
    one = record(50, 60)
    assert msgspec.json.decode(msgspec.json.encode(one), type=Record) == one


# Comparisons


def test_the_last_of_the_same_and_the_last_of_others_are_compared_with() -> None:
    known = [
        record(10), record(40, time="2026-11-21T10:00"),
        record(25, digest="d2", flags={"n_cpu_moe": "12"}, time="2026-11-22T10:00"),
        record(1, profile="b"), record(1, case=Case(prompt=64, generate=100)),
    ]  # fmt: skip
    same, other = compared(record(50, flags={"n_cpu_moe": "14"}), known)
    assert (same.time, same.same, same.apart) == ("2026-11-21T10:00", True, ())
    assert same.generation == pytest.approx(0.25)
    assert (other.time, other.same) == ("2026-11-22T10:00", False)
    assert other.generation == pytest.approx(1.0)
    assert other.apart == ("n_cpu_moe 12 -> 14",)


def test_a_first_measurement_is_compared_with_nothing() -> None:
    assert compared(record(), []) == ()


@pytest.mark.parametrize(("before", "clear"), [((48, 51), False), ((30, 40), True)])
def test_runs_that_overlap_prove_no_change(before: tuple[float, ...], clear: bool) -> None:
    (found,) = compared(record(50, 52), [record(*before)])
    assert found.clear is clear


def test_a_new_build_is_another() -> None:
    (found,) = compared(record(build="b2"), [record()])
    assert found.apart == ("build b1 -> b2",)


def test_a_draft_that_comes_or_goes_is_one_difference() -> None:
    flags = {"draft": "/m/small.gguf", "spec_type": "draft-simple", "n_draft": "3"}
    flags |= {"draft_type_k": "f16", "ctx": "4096"}
    told = apart(record(flags={"ctx": "4096"}), record(flags=flags))
    assert told == ("draft none -> small.gguf", "spec_type none -> draft-simple")
    assert apart(record(flags=flags), record(flags=flags | {"n_draft": "8"})) == ("n_draft 3 -> 8",)


def test_cases_are_told_apart() -> None:
    case = Case(prompt=512, generate=128)
    assert case.told == "512+128"
    assert replace(case, concurrency=4, drafting=False).told == "512+128 x4, no draft"


# Prompts and words


def test_a_prompt_has_its_words_and_its_task() -> None:
    text = prompt(100, seed=7)
    assert len(text.split()) == 100
    assert text.endswith(TASK)
    assert prompt(1, seed=7).endswith(TASK)


def test_prompts_differ_from_the_first_word_on_and_are_the_same_for_a_seed() -> None:
    assert words(300, seed=1) == words(300, seed=1)
    assert words(300, seed=1).split()[0] != words(300, seed=2).split()[0]
    assert words(300, seed=1).split()[1:] != words(300, seed=2).split()[1:]


def test_a_prompt_does_not_repeat_itself() -> None:
    sentences = words(4000, seed=3).split(". ")
    assert len(set(sentences)) > 0.98 * len(sentences)


def test_flags_are_what_speed_depends_on() -> None:
    argv = ["llama-server", "--port", "1", "-m", "/m/a.gguf", "-c", "4096", "-t", "6",
            "--api-key-file", "/secret", "--threads-batch=8"]  # fmt: skip
    assert flags_of(argv) == {
        "model": "/m/a.gguf", "ctx": "4096", "threads": "6", "threads_batch": "8",
    }  # fmt: skip


def test_a_draft_can_be_taken_out_of_the_flags() -> None:
    flags = flags_of(["-m", "a", "-md", "b", "--spec-type", "draft-simple", "-ctkd", "f16",
                      "--spec-draft-n-max", "3", "-td", "2"])  # fmt: skip
    assert is_drafting(flags)
    assert without_draft(flags) == {"model": "a"}
    assert not is_drafting(without_draft(flags))
