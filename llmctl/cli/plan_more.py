"""`llmctl plan --observed` and `--verify`: what a start, and llama.cpp, say beside the plan."""

import itertools
from typing import Any

import msgspec

from llmctl.cli.output import answer, table, warn
from llmctl.core.memory.need import Need
from llmctl.core.memory.observed import Row, Verdict
from llmctl.core.memory.settings import MIB
from llmctl.core.memory.wanted import Plan
from llmctl.engine.box import Box
from llmctl.engine.learning import Observed
from llmctl.engine.observing import observe
from llmctl.engine.planning import Planned
from llmctl.engine.verify import TOOL, Verified
from llmctl.errors import LlmctlError

_WORDS = {
    Verdict.EQUAL: "equal",
    Verdict.WITHIN: "estimate",
    Verdict.BEYOND: "estimate, further off than it may be",
    Verdict.DEVIATES: "DEVIATES",
    Verdict.UNJUDGED: "not comparable: laid out anew, or a span of the file",
}


class More(msgspec.Struct, frozen=True):
    """What was asked for beside a plan. observed: None, though asked for: no start was seen."""

    wants_observed: bool = False
    observed: Observed | None = None
    verified: Verified | None = None


def read_now(box: Box, name: str) -> None:
    """Read what runs; that it cannot be read is no reason not to plan."""
    try:
        observe(box, name)
    except LlmctlError as error:
        warn(f"what runs was not read: {error.message}")


def more_facts(more: More) -> dict[str, Any]:
    """The keys of `plan --json` that only these options give; docs/reference/json.md has them."""
    told: dict[str, Any] = {}
    if more.wants_observed:
        told["observed"] = _observed_facts(more.observed)
    if more.verified:
        told["verified"] = _verified_facts(more.verified)
    return told


def show_more(found: Planned, more: More) -> None:
    """For people, below the plan."""
    if more.wants_observed:
        _show_observed(found.name, more.observed)
    if more.verified:
        _show_verified(found.plan, more.verified)


def _observed_facts(found: Observed | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "build": found.build,
        "differs": list(found.apart),
        "devices": [
            {"name": name, "parts": [_part(row) for row in rows]}
            for name, rows in itertools.groupby(found.rows, lambda row: row.device)
        ],
        "reason": found.reason,
        "report": found.report,
    }


def _part(row: Row) -> dict[str, Any]:
    return {
        "part": row.part,
        "predicted_bytes": row.predicted_bytes,
        "observed_bytes": row.observed_bytes,
        "difference_bytes": row.difference_bytes,
        "verdict": row.verdict.value,
    }


def _show_observed(name: str, found: Observed | None) -> None:
    answer("")
    if found is None:
        answer(f"observed: nothing yet. `llmctl switch {name}` starts it and reads its log.")
        return
    build = f" of build {found.build}" if found.build else ""
    answer(f"observed: a start{build}, {'with other settings' if found.apart else 'as planned'}")
    for one in found.apart:
        answer(f"  differs: {one}")
    if not found.rows:
        answer(f"  what it allocated says nothing of this plan. `llmctl switch {name}` starts it.")
        return
    header = ("DEVICE", "PART", "PREDICTED MIB", "OBSERVED MIB", "DIFFERENCE", "")
    table(header, [_observed_row(row) for row in found.rows])
    if found.reason:
        warn(f"what was allocated is not what was predicted; {found.reason}")
        answer(f"report: {found.report}")


def _observed_row(row: Row) -> tuple[str, ...]:
    sizes = (row.predicted_bytes, row.observed_bytes)
    mib = tuple(f"{one / MIB:.2f}" for one in sizes)
    off = round(row.difference_bytes / MIB, 2) + 0.0  # -0.0 is nothing, too
    return (row.device, row.part, *mib, f"{off:+.2f}", _WORDS[row.verdict])


def _verified_facts(found: Verified) -> dict[str, Any]:
    return {
        "tool": found.tool,
        "devices": [
            {
                "name": one.name,
                "weights_bytes": one.weights_bytes,
                "context_bytes": one.context_bytes,
                "compute_bytes": one.compute_bytes,
            }
            for one in found.opinions
        ],
    }


def _show_verified(plan: Plan, found: Verified) -> None:
    """Our numbers beside the tool's, in whole MiB as it has them."""
    answer("")
    answer(f"verified: {found.tool}")
    needs = {need.name: need for need in (*plan.estimate.devices, plan.estimate.host)}
    rows = []
    for one in found.opinions:
        need = needs.pop(one.name, Need(name=one.name))
        context = need.kv_bytes + need.state_bytes
        rows += [
            _verified_row(one.name, "weights", need.weights_bytes, one.weights_bytes),
            _verified_row(one.name, "context", context, one.context_bytes),
            _verified_row(one.name, "compute", need.compute_bytes, one.compute_bytes),
        ]
    table(("DEVICE", "PART", "OURS MIB", f"{TOOL.upper()} MIB", "DIFFERENCE"), rows)
    answer("It counts no mmproj and nothing that drafts, and the logits of a whole batch.")


def _verified_row(name: str, part: str, ours: int, theirs: int) -> tuple[str, ...]:
    difference = round((theirs - ours) / MIB)
    return (name, part, f"{ours / MIB:.0f}", f"{theirs / MIB:.0f}", f"{difference:+d}")
