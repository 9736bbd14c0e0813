"""core/draft_worth.py: when a draft costs more than it gives."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from unit.core.test_bench import record, sample

from llmctl.core.bench import Case, Record, figures
from llmctl.core.draft_worth import (
    ASSUMED_COST,
    ENOUGH,
    Drafts,
    cost_of,
    counterpart,
    drafts_of,
    measured_cost,
    worth,
    worth_of,
)

NAME = "llamacpp:spec_decode_num_"
SAMPLES = {
    f"{NAME}drafts_total": 100.0, f"{NAME}draft_tokens_total": 300.0,
    f"{NAME}accepted_tokens_total": 90.0,
    f'{NAME}accepted_tokens_per_pos_total{{position="0"}}': 60.0,
    f'{NAME}accepted_tokens_per_pos_total{{position="1"}}': 25.0,
    f'{NAME}accepted_tokens_per_pos_total{{position="2"}}': 5.0,
}  # fmt: skip
COUNTED = Drafts(100, 300, 90, (60, 25, 5))
FLAGS = {"model": "a", "spec_type": "draft-simple", "n_draft": "3"}


def test_counts_are_the_servers_own() -> None:
    assert drafts_of(SAMPLES) == COUNTED
    assert drafts_of({}) is None
    assert drafts_of({f"{NAME}draft_tokens_total": 0.0}) is None


def test_old_builds_do_not_count_by_position() -> None:
    found = drafts_of({key: one for key, one in SAMPLES.items() if "position" not in key})
    assert found == replace(COUNTED, by_position=())


@pytest.mark.parametrize(("cost", "faster"), [(0.1, True), (0.29, True), (0.31, False)])
def test_a_draft_pays_exactly_while_its_share_is_above_its_cost(cost: float, faster: bool) -> None:
    assert COUNTED.acceptance == 0.3
    assert (COUNTED.speed(cost) > 1) is faster
    assert (worth(COUNTED, cost).better is None) is faster


def test_the_remedy_is_the_number_that_pays_most() -> None:
    found = worth(COUNTED, 0.31)  # 1.6 / 1.31 with one, 1.85 / 1.62 with two, 1.9 / 1.93 with three
    assert found.better == 1
    assert found.remedy("small.gguf") == "draft: {model: small.gguf, n_max: 1}"


def test_where_none_pays_the_remedy_is_off() -> None:
    found = worth(COUNTED, 0.7)
    assert found.better == 0
    assert found.remedy("small.gguf") == "draft: off"
    assert worth(replace(COUNTED, by_position=()), 0.7).remedy("x") == "draft: off"


def test_few_tokens_prove_nothing() -> None:
    few = Drafts(50, ENOUGH - 1, 0, (0,))
    assert worth(few, 0.9).remedy("x") is None
    assert worth(replace(few, drafted=ENOUGH), 0.9).remedy("x") == "draft: off"


def test_a_cost_that_was_not_measured_is_assumed_and_said_to_be() -> None:
    found = worth(COUNTED, None)
    assert (found.cost, found.measured) == (ASSUMED_COST, False)
    assert worth(COUNTED, ASSUMED_COST).measured


def drafting(*, seconds: float = 2.0, draft_cost: float | None = None) -> Record:
    seen = figures([(3.0, [sample(seconds=seconds, drafted=150, accepted=50)])])
    return record(flags=FLAGS, figures=seen, draft_cost=draft_cost)


def plain(*, seconds: float = 2.0) -> Record:
    return record(flags={"model": "a"}, figures=figures([(3.0, [sample(seconds=seconds)])]))


def test_the_cost_is_what_a_step_takes_longer() -> None:
    # 50 steps in 2 s, each 40 ms with 3 drafted tokens; without: 20 ms.
    assert cost_of(drafting(), plain()) == pytest.approx(1 / 3, abs=0.0001)
    assert cost_of(drafting(), plain(seconds=8.0)) == 0


def test_cost_and_share_give_the_speed_that_was_measured() -> None:
    with_draft, without = drafting(seconds=2.5), plain()
    found = worth_of(replace(with_draft, draft_cost=cost_of(with_draft, without)))
    assert found is not None
    assert found.speed == pytest.approx(2.0 / 2.5, abs=0.001)


def test_without_a_measurement_without_one_nothing_is_said_of_a_draft() -> None:
    assert worth_of(drafting()) is None
    assert worth_of(replace(plain(), draft_cost=0.1)) is None


def test_the_counterpart_differs_in_the_draft_alone() -> None:
    other = replace(plain(), flags={"model": "a", "ctx": "1"})
    strangers = [other, replace(plain(), build="b2"), replace(plain(), profile="b"), drafting(),
                 replace(plain(), case=Case(prompt=1, generate=1))]  # fmt: skip
    assert counterpart(drafting(), strangers) is None
    assert counterpart(drafting(), [plain(), *strangers]) == plain()


def test_a_request_that_switched_the_draft_off_is_one_too() -> None:
    case = replace(drafting().case, drafting=False)
    off = replace(plain(), flags=FLAGS, case=case)
    assert counterpart(drafting(), [off]) == off
    assert counterpart(drafting(), [replace(off, case=drafting().case)]) is None


def test_a_measured_cost_is_that_of_the_same_flags() -> None:
    known = [drafting(draft_cost=0.2), drafting(draft_cost=0.3), drafting()]
    assert measured_cost(known, "a", FLAGS) == 0.3
    assert measured_cost(known, "b", FLAGS) is None
    assert measured_cost(known, "a", {**FLAGS, "n_draft": "8"}) is None
