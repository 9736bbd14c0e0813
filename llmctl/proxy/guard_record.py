"""What the guard found and did, as it is told: in its log, in /metrics, as an event, on an answer.

Nothing of what was said is in it, but the names of tools, which one needs to exempt them, and a
short sample where the settings allow that.
"""

from typing import Any, Literal

import msgspec

from llmctl.proxy.record import MOST_NAME, Record

MOST_SAMPLE = 200
"""Characters."""
_MOST_TOOLS = 12

Kind = Literal["exact", "drift", "endless", "tool", "time", "tokens", "reasoning"]
"""A loop in a text, by what repeats; one of tool calls; or a budget that is spent."""
Did = Literal["none", "native", "retry", "stop", "state", "forbid", "no_tools"]
"""What the guard did: for texts and budgets the first four, for tool calls the last three."""
Outcome = Literal["logged", "healed", "stopped", "failed", "nudged"]
"""What came of it: logged (mode: log), the answer went on and ended well, it was ended with a
reason, it broke off, the model was told."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was found. attempt: which try at the answer, from 1. block, copies: bytes of a
    loop's block, and how many there were; of tool calls, steps and repetitions. held: characters
    that the client has not seen. saved: tokens that the answer might still have had, at most."""

    kind: Kind
    step: Did
    outcome: Outcome
    channel: str | None = None
    attempt: int | None = None
    block: int | None = None
    copies: float | None = None
    held: int = 0
    saved: int = 0
    tools: tuple[str, ...] = ()
    sample: str | None = None

    @property
    def header(self) -> str:
        """For X-Llmctl-Guard: `tool; step=forbid; repeats=5`. What was stopped in the end, though
        milder steps were taken, says so."""
        words = [self.kind, f"step={self.step}"]
        if self.copies is not None:
            words.append(f"repeats={round(self.copies, 1):g}")
        if self.outcome == "stopped" and self.step != "stop":
            words.append("outcome=stopped")
        return "; ".join(words)


def finding_entry(finding: Finding, record: Record, *, time: str) -> dict[str, Any]:
    """A line of the guard's log. time: when it was found, in UTC."""
    return {
        "time": time, "key": record.key, "endpoint": record.endpoint, "model": record.served,
        "kind": finding.kind, "channel": finding.channel, "step": finding.step,
        "outcome": finding.outcome, "attempt": finding.attempt, "block": finding.block,
        "copies": finding.copies and round(finding.copies, 2), "held_characters": finding.held,
        "saved_tokens": finding.saved,
        "tools": [name[:MOST_NAME] for name in finding.tools[:_MOST_TOOLS]],
        "sample": finding.sample and finding.sample[:MOST_SAMPLE],
    }  # fmt: skip
