"""cli/bench.py, cli/tune.py: what people and scripts read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace
from support import cards as real
from support.heads import write_head
from support.oracle import oracle
from support.small import small
from support.world import DATA
from unit.core.test_bench import record, sample

from llmctl.cli.bench import row, show_cases, show_facts
from llmctl.cli.requests import row as request_row
from llmctl.cli.tune import show_points
from llmctl.core.bench import Case, Record, compared, figures
from llmctl.core.profile import parse_profile
from llmctl.core.tuning import Point, moe_point, now_point
from llmctl.engine.bench_target import Running
from llmctl.engine.tune import Tried

if TYPE_CHECKING:
    from support.commandline import CommandLine

ONE_CARD = "Available devices:\n  CUDA0: NVIDIA GeForce RTX 5060 Ti (15849 MiB, 14960 MiB free)\n"
TARGET = Running(
    name="a", port=1, key=None, build="b1", ctx=4096, slots=1, flags={"ctx": "4096"}, digest="d1"
)


def shown(capsys: pytest.CaptureFixture[str], one: Record, *before: Record) -> list[str]:
    show_cases(TARGET, [one], [compared(one, before)])
    return capsys.readouterr().out.splitlines()


def test_a_measurement_is_a_row() -> None:
    one = record(50, 40)
    assert row(one) == (
        "512+100", "500.0 (500.0 to 500.0)", "45.0 (40.0 to 50.0)", "-", "1.10 s", "-",
    )  # fmt: skip
    at_once = replace(one, case=Case(prompt=512, generate=100, concurrency=2))
    assert row(at_once)[0] == "512+100 x2"
    assert row(at_once)[3] == "31.2 (31.2 to 31.2)"


def test_changes_are_told_with_what_differs(capsys: pytest.CaptureFixture[str]) -> None:
    other = record(40, digest="d2", flags={"n_cpu_moe": "16"}, time="2026-11-19T08:00:00+00:00")
    now = record(50, flags={"n_cpu_moe": "14"})
    _, _, _, same, against = shown(capsys, now, record(50), other)
    assert same == "512+100: +0% (prompt +0%) since 2026-11-20 10:00, within the spread"
    assert against == (
        "512+100: +25% (prompt +0%) against 2026-11-19 08:00: n_cpu_moe 16 -> 14"
    )  # fmt: skip


def test_a_draft_that_pays_or_does_not_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    seen = figures([(3.0, [sample(drafted=150, accepted=50)])])
    one = record(figures=seen, draft_cost=0.2)
    assert row(one)[5] == "33% of 150"
    *_, told = shown(capsys, one)
    assert told == "512+100: with its draft 1.25 times as fast as without"
    *_, told = shown(capsys, replace(one, draft_cost=0.5))
    assert told == (
        "512+100: with its draft 0.80 times as fast as without: 33% are accepted, and a drafted"
        " token costs 50% of a step; `llmctl tune a --draft` finds how many pay"
    )


def test_nothing_measured_is_nothing_shown(capsys: pytest.CaptureFixture[str]) -> None:
    show_cases(TARGET, [], [])
    assert capsys.readouterr().out == ""


def test_requests_tell_what_was_accepted() -> None:
    assert request_row({"draft_tokens": 346, "draft_accepted": 184})[11] == "53%"
    assert request_row({"draft_tokens": 10, "draft_accepted": 0})[11] == "0%"
    assert request_row({"draft_tokens": 0, "draft_accepted": 0})[11] == "-"


# Not ready


def test_a_model_that_does_not_run_is_an_error_with_the_next_command(llmctl: CommandLine) -> None:
    said = llmctl("bench", "coder")
    assert said.status == 2
    assert said.stderr.splitlines()[-2:] == [
        "error: coder is not ready: it is stopped.", "hint: llmctl switch coder",
    ]  # fmt: skip
    assert llmctl("bench", "nobody").status == 3


# Tune


@pytest.fixture
def served(llmctl: CommandLine) -> CommandLine:
    """Two cards and a model of 48 layers of experts."""
    llmctl.program("nvidia-smi", "exit 6")
    (llmctl.home / "devices").write_text(real.CUDA)
    llmctl.program(
        "llama-server",
        f"""case "$1" in
--version) echo "version: 0.7.0 (build 11669, commit x)";;
--list-devices) cat '{llmctl.home}/devices';;
*) cat '{DATA / "llama-server-help-0.7.0.txt"}';;
esac""",
    )
    write_head(llmctl.home / "models/coder-Q4_K_M.gguf", oracle()["models"]["qwen3_30b"])
    write_head(llmctl.home / "models/gemma4-Q4_K_M.gguf", small(layers=40))
    return llmctl


def points(llmctl: CommandLine, *words: str) -> dict[str, dict[str, Any]]:
    found = llmctl("tune", *words, "--check", "--json").json
    return {one["point"]: one for one in found["points"]}


def test_what_would_be_tried_lies_around_the_plan(served: CommandLine) -> None:
    (served.home / "devices").write_text(ONE_CARD)
    args = served("plan", "coder", "--json").json["args"]
    planned = int(args[args.index("--n-cpu-moe") + 1])
    found = points(served, "coder")
    (now,) = (one for one in found.values() if one["now"])
    assert (now["point"], now["keys"], now["fits"]) == (f"n_cpu_moe {planned}", {}, True)
    others = [one for one in found.values() if not one["now"]]
    assert all(one["keys"] == {"n_cpu_moe": int(one["point"].split()[1])} for one in others)
    assert len(others) >= 2
    assert list((served.home / ".config/systemd").rglob("llm-*")) == []


def test_values_can_be_given_and_what_does_not_fit_is_said(served: CommandLine) -> None:
    (served.home / "devices").write_text(ONE_CARD)
    found = points(served, "coder", "--values", "0,48")
    assert "CUDA0 needs" in found["n_cpu_moe 0"]["why_not"]
    assert found["n_cpu_moe 48"]["fits"]
    said = served("tune", "coder", "--values", "0,48", "--check").stdout
    assert "n_cpu_moe 0   no: CUDA0 needs" in said
    assert ", as it is now" in said
    assert served("tune", "coder", "--values", "x", "--check").status == 2


def test_where_nothing_can_be_tried_the_reason_is_told(served: CommandLine) -> None:
    dense = served("tune", "gemma4")
    assert dense.status == 2
    assert "gemma4 is no mixture of experts" in dense.stderr
    undrafted = served("tune", "coder", "--draft")
    assert undrafted.status == 2
    assert "coder drafts nothing (off)" in undrafted.stderr


def test_drafts_are_tried_with_the_context_of_the_plan(served: CommandLine) -> None:
    write_head(served.home / "models/tiny.gguf", small(layers=1))
    served.profile("gemma4", "draft: {model: tiny.gguf, n_max: 3}\n")
    write_head(served.home / "models/gemma4-Q4_K_M.gguf", small(layers=40))
    found = points(served, "gemma4", "--draft")
    labels = ["draft off", *(f"n_max {one}" for one in (1, 2, 3, 5, 8))]
    assert list(found) == labels
    assert found["n_max 3"]["now"]
    assert found["draft off"]["keys"] == {"draft": "off", "ctx": 32768}


def tried(point: Point, seconds: float | None) -> Tried:
    if seconds is None:
        return Tried(point, failure="a is not ready: out of memory.")
    return Tried(point, record(100 / seconds))


def curve(capsys: pytest.CaptureFixture[str], best: int, *, written: str | None = None) -> str:
    profile = parse_profile({"model": "m.gguf", "ctx": 4096}, name="a", file="a.yaml")
    asked = [
        replace(moe_point(profile, 10, 4096), why_not="too large"),
        now_point(profile, "n_cpu_moe 12"), moe_point(profile, 14, 4096),
        moe_point(profile, 16, 4096),
    ]  # fmt: skip
    found = [tried(asked[1], 2.0), tried(asked[2], 1.0), tried(asked[3], None)]
    show_points("a", asked, found, asked[best], written)
    return capsys.readouterr().out


def test_the_curve_has_every_point_and_why_some_have_none(
    capsys: pytest.CaptureFixture[str],
) -> None:
    _, ten, twelve, fourteen, sixteen, told = curve(capsys, 2).splitlines()
    assert ten.endswith("too large")
    assert "##########  " in twelve
    assert twelve.endswith("now")
    assert "#" * 20 in fourteen
    assert fourteen.endswith("best")
    assert sixteen.endswith("a is not ready: out of memory.")
    assert told == "a: n_cpu_moe: 14 is fastest; llmctl tune writes it with --write."


def test_what_was_written_is_told_with_the_next_command(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert curve(capsys, 2, written="/p/a.yaml").splitlines()[-1] == (
        "a: n_cpu_moe: 14 is written to /p/a.yaml; llmctl switch a runs it."
    )
    assert curve(capsys, 1).splitlines()[-1] == (
        "a: nothing is clearly faster than what the profile says."
    )


def test_the_facts_of_a_case_are_those_of_the_reference(
    capsys: pytest.CaptureFixture[str],
) -> None:
    one = record(50)
    show_facts(TARGET, [one], [compared(one, [one])])
    text = (DATA.parents[1] / "docs/reference/json.md").read_text("utf-8")
    keys = {part for part in capsys.readouterr().out.split('"') if part.isidentifier()}
    values = {"a", "b1", "d1"}
    assert {key for key in keys - values if f'"{key}"' not in text} == set()
