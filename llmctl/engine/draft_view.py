"""What `llmctl status` tells of a running model's drafts: how many are accepted, and what to do
where they cost more than they give."""

from collections.abc import Mapping
from typing import Any

import msgspec

from llmctl.core.draft_worth import Worth, drafts_of, measured_cost, worth
from llmctl.core.profile import Profile
from llmctl.engine import bench_log
from llmctl.engine.bench_flags import running_flags
from llmctl.engine.box import Box


class DraftView(msgspec.Struct, frozen=True):
    """See core/draft_worth.py. remedy: in the words of the profile; None: nothing is wrong."""

    profile: str
    worth: Worth
    remedy: str | None = None

    @property
    def told(self) -> tuple[str, ...]:
        """For people."""
        counted = self.worth.counted
        share = f"{counted.acceptance:.0%} of {counted.drafted} tokens accepted"
        return (f"draft: {share}, {counted.tokens_per_step:.1f} tokens per step", *self._warning())

    def _warning(self) -> tuple[str, ...]:
        if self.remedy is None:
            return ()
        how = "costs" if self.worth.measured else "is taken to cost"
        measure = "" if self.worth.measured else f"; `llmctl tune {self.profile} --draft` measures"
        return (
            f"its draft costs more than it gives: a drafted token {how} {self.worth.cost:.0%} of a"
            f" step of the model, so it is {self.worth.speed:.2f} times as fast as without;"
            f" say {self.remedy}{measure}",
        )

    @property
    def facts(self) -> dict[str, Any]:
        """Its JSON shape; docs/reference/json.md holds it."""
        counted = self.worth.counted
        return {
            "drafted_tokens": counted.drafted,
            "accepted_tokens": counted.accepted,
            "acceptance": round(counted.acceptance, 4),
            "tokens_per_step": round(counted.tokens_per_step, 3),
            "accepted_by_position": list(counted.by_position),
            "cost": self.worth.cost,
            "cost_measured": self.worth.measured,
            "speedup": round(self.worth.speed, 3),
            "remedy": self.remedy,
        }


def draft_view(
    box: Box, profile: Profile, pid: int, samples: Mapping[str, float]
) -> DraftView | None:
    """What a server's own counts say of its drafts; None: it drafts nothing."""
    counted = drafts_of(samples)
    if counted is None:
        return None
    cost = measured_cost(bench_log.known(box), profile.name, running_flags(box, pid))
    found = worth(counted, cost)
    return DraftView(profile.name, found, found.remedy(profile.drafting.model))
