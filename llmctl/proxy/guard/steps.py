"""What is done about a loop, mildest first, and what is remembered of it."""

import enum

import msgspec

from llmctl.core.guard.verdict import Channel, Loop


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
