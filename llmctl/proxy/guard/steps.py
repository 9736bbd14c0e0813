"""What is done about a loop, mildest first, and what is remembered of it."""

import enum

import msgspec

from llmctl.core.guard.verdict import Channel, Loop
from llmctl.proxy.guard.plan import Plan

MOST_DROPPED = 512
"""Pieces of reasoning that may still come after the server was told to end it; at 50 tokens/s that
is ten seconds."""


class Step(enum.Enum):
    """What the relay is asked to do."""

    END_REASONING = "native"
    """Tell the server, on another connection, to end the reasoning of `completion`."""
    RETRY = "retry"
    """Close the server's connection and ask again, with `again`."""
    STOP = "stop"
    """Close it; all that the client gets has been given."""
    NOTE = "none"
    """Nothing: it is only noted."""


def mildest(
    plan: Plan, channel: Channel, loop: Loop, *, attempt: int, may_end_reasoning: bool
) -> Step:
    """What is left to be done about a loop. may_end_reasoning: the server knows the answer, and was
    not told yet."""
    may_end = plan.may_end_reasoning and may_end_reasoning and not attempt
    if channel is Channel.REASONING and may_end:
        return Step.END_REASONING
    may_retry = plan.may_retry and loop.kind != "endless" and attempt < plan.settings.retries
    return Step.RETRY if may_retry else Step.STOP


class Found(msgspec.Struct, frozen=True):
    """A loop, and what was done. attempt: from 1. tokens: generated until it was certain, in this
    attempt; held: bytes of text that the client was spared."""

    channel: Channel
    loop: Loop
    step: Step
    attempt: int
    tokens: int
    held: int = 0

    def comment(self, retries: int) -> bytes:
        """What is said of it in the stream: clients take no notice, people can read it."""
        done = {
            Step.END_REASONING: "the reasoning is to end",
            Step.RETRY: f"asked again ({self.attempt} of {retries})",
            Step.STOP: "stopped",
        }[self.step]
        loop = self.loop
        told = f"{loop.kind} repeat of {loop.block} bytes, {loop.copies:.0f} times"
        return f": llmctl-guard: {self.channel.value}: {told}; {done}\n\n".encode()
