"""core/tuning.py: what is tried, and what wins."""

from __future__ import annotations

import pytest
from unit.core.test_bench import sample

from llmctl.core.bench import Figures, figures
from llmctl.core.profile import Profile, parse_profile
from llmctl.core.tuning import (
    Point,
    draft_point,
    draft_values,
    moe_point,
    moe_values,
    now_point,
    winner,
)


def made(**keys: object) -> Profile:
    return parse_profile({"model": "m.gguf", **keys}, name="a", file="a.yaml")


@pytest.mark.parametrize(
    ("planned", "layers", "values"),
    [
        (0, 2, (0, 1, 2)),
        (12, 24, (10, 11, 12, 13, 14)),
        (12, 48, (6, 9, 12, 15, 18)),
        (48, 48, (42, 45, 48)),
    ],
)
def test_points_lie_around_the_plan(planned: int, layers: int, values: tuple[int, ...]) -> None:
    assert moe_values(planned, layers) == values


def test_the_context_stays_what_it_was_planned_to_be() -> None:
    point = moe_point(made(), 14, 32768)
    assert (point.profile.n_cpu_moe, point.profile.ctx) == (14, 32768)
    assert point.keys == {"n_cpu_moe": 14, "ctx": 32768}
    assert moe_point(made(ctx=32768), 14, 32768).keys == {"n_cpu_moe": 14}


def test_drafts_are_tried_from_none_to_many() -> None:
    assert draft_values(made(draft={"model": "d.gguf", "n_max": 4})) == (0, 1, 2, 3, 4, 5, 8)
    assert draft_values(made(draft="ngram")) == (0, 1)


def test_a_draft_keeps_what_else_is_said_of_it() -> None:
    given = made(draft={"model": "d.gguf", "n_max": 8, "kv": "q8_0"}, ctx=4096)
    off, three, now = (draft_point(given, one, 4096) for one in (0, 3, 8))
    assert (off.keys, off.profile.draft) == ({"draft": "off"}, "off")
    assert three.keys == {"draft": {"model": "d.gguf", "n_max": 3, "kv": "q8_0"}}
    assert three.profile.drafting.kv == "q8_0"
    assert now == now_point(given, "n_max 8")
    assert draft_point(made(draft="ngram"), 1, 4096).is_now


def point(label: str, *, is_now: bool = False) -> Point:
    return Point(label, made(), {}, is_now)


def walls(*seconds: float) -> Figures:
    return figures([(one, [sample()]) for one in seconds])


def test_the_soonest_answer_wins() -> None:
    tried = [(point("now", is_now=True), walls(5, 5.1)), (point("b"), walls(3, 3.1)),
             (point("c"), walls(4, 4.1))]  # fmt: skip
    assert winner(tried) == point("b")


def test_what_is_now_stays_where_runs_overlap() -> None:
    now = point("now", is_now=True)
    assert winner([(now, walls(4, 5)), (point("b"), walls(3.9, 4.2))]) == now


def test_without_the_present_one_the_soonest_wins() -> None:
    assert winner([(point("b"), walls(3, 4)), (point("c"), walls(3.5, 4.5))]) == point("b")
    assert winner([]) is None
