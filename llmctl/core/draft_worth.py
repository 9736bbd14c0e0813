"""Whether a draft gives more than it costs, from what was counted.

Leviathan, Kalman, Matias: Fast Inference from Transformers via Speculative Decoding (ICML 2023),
section 3.3: a step that drafts n tokens takes 1 + n * c of the model's own, where c is what one
drafted token costs (making it, and checking it beside the others), and writes 1 + accepted tokens.
So it is faster than without by (1 + accepted) / (1 + n * c), and gives more than it costs exactly
where the share of drafted tokens that are accepted is above c.
"""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from llmctl.core.bench import Record
from llmctl.core.bench_words import is_drafting, without_draft

ENOUGH = 200
"""Drafted tokens below which a share says little: at 25 % its standard error is 3 %."""
ASSUMED_COST = 0.25
"""Where nothing was measured: `draft: auto` takes what reads at most a quarter of the bytes that
the model reads (core/memory/drafting.py: WORTH), and both are as fast as memory is."""
_COUNTS = {
    "drafts": "llamacpp:spec_decode_num_drafts_total",
    "drafted": "llamacpp:spec_decode_num_draft_tokens_total",
    "accepted": "llamacpp:spec_decode_num_accepted_tokens_total",
}
_BY_POSITION = "llamacpp:spec_decode_num_accepted_tokens_per_pos_total"


class Drafts(msgspec.Struct, frozen=True):
    """What a server counted since its start: drafts, tokens in them, those that were accepted, and
    of these how many at each position."""

    drafts: int
    drafted: int
    accepted: int
    by_position: tuple[int, ...] = ()

    @property
    def acceptance(self) -> float:
        """The share of drafted tokens that was accepted."""
        return self.accepted / self.drafted if self.drafted else 0.0

    @property
    def tokens_per_step(self) -> float:
        """Tokens that a step with a draft writes."""
        return 1 + self.accepted / max(1, self.drafts)

    def speed(self, cost: float) -> float:
        """How much faster than without a draft: 1.2; below 1 it is slower."""
        return self.tokens_per_step / (1 + cost * self.drafted / max(1, self.drafts))

    def best(self, cost: float) -> tuple[int, float]:
        """How many tokens to draft at a time, and how fast it would be then; 0: none.

        Of positions beyond those that were drafted nothing is known."""
        found, written = (0, 1.0), 1.0
        for number, count in enumerate(self.by_position, 1):
            written += count / max(1, self.drafts)
            found = max(found, (number, written / (1 + cost * number)), key=lambda one: one[1])
        return found


class Worth(msgspec.Struct, frozen=True):
    """What drafts did. cost: of a drafted token, in steps of the model; measured: by a benchmark,
    else assumed. speed: how much faster that is than without. better: how many tokens to draft at a
    time where it is slower, 0 for none; None: nothing is wrong, or too little is known."""

    counted: Drafts
    cost: float
    measured: bool
    speed: float
    better: int | None = None

    def remedy(self, draft: str) -> str | None:
        """In the words of a profile. draft: what the profile says drafts."""
        if not self.better:
            return None if self.better is None else "draft: off"
        return f"draft: {{model: {draft}, n_max: {self.better}}}"


def drafts_of(samples: Mapping[str, float]) -> Drafts | None:
    """From the samples of a server's /metrics, by name and labels; None: it drafts nothing."""
    counts = {key: int(samples.get(name, 0)) for key, name in _COUNTS.items()}
    if not counts["drafted"]:
        return None
    found: list[int] = []
    while (name := f'{_BY_POSITION}{{position="{len(found)}"}}') in samples:
        found.append(int(samples[name]))
    return Drafts(**counts, by_position=tuple(found))


def worth(counted: Drafts, cost: float | None) -> Worth:
    """cost: as measured; None: it was not."""
    used = ASSUMED_COST if cost is None else cost
    slower = counted.drafted >= ENOUGH and counted.acceptance < used
    better = counted.best(used)[0] if slower else None
    return Worth(counted, used, cost is not None, counted.speed(used), better)


def cost_of(with_draft: Record, without: Record) -> float:
    """What a drafted token costs, in steps of the model without a draft; never below nothing."""
    alone = 1 / without.figures.generation_per_s.median
    more = with_draft.figures.step_s / alone - 1
    return round(max(0.0, more / with_draft.figures.drafted_per_step), 4)


def counterpart(now: Record, known: Sequence[Record]) -> Record | None:
    """The last measurement of the same case that differs in nothing but that nothing drafted."""
    case = msgspec.structs.replace(now.case, drafting=True)
    for one in reversed(known):
        alike = (one.profile, one.build) == (now.profile, now.build) and not one.figures.drafted
        same_case = msgspec.structs.replace(one.case, drafting=True) == case
        off = not one.case.drafting or not is_drafting(one.flags)
        if alike and same_case and off and without_draft(one.flags) == without_draft(now.flags):
            return one
    return None


def measured_cost(known: Iterable[Record], profile: str, flags: dict[str, str]) -> float | None:
    """What the last benchmark of a profile with these flags found a drafted token to cost."""
    found = [
        one.draft_cost for one in known
        if one.profile == profile and one.flags == flags and one.draft_cost is not None
    ]  # fmt: skip
    return found[-1] if found else None


def worth_of(one: Record) -> Worth | None:
    """What a benchmark says of a draft; None: nothing without a draft was measured beside it."""
    seen = one.figures
    if one.draft_cost is None or not seen.drafted:
        return None
    steps = max(1, seen.tokens - seen.accepted)
    return worth(Drafts(steps, seen.drafted, seen.accepted), one.draft_cost)
