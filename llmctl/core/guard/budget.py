"""Budgets: how long an answer may be, in seconds, tokens and tokens of reasoning.

    budget = Budget(settings, now)
    budget.begin()                           # the first event of the answer
    budget.feed(Channel.REASONING)           # each event with text is a token
    budget.look()                            # once a second: time passes without events, too

A machine without I/O. One of it lasts for all attempts at one answer: what was generated in vain
has been spent, too. `over` is the verdict: None, or what to do and why.
"""

import enum
from collections.abc import Callable
from typing import Literal

import msgspec

from llmctl.core.guard.settings import GuardSettings
from llmctl.core.guard.verdict import Channel

GRACE_TOKENS = 64
"""Of reasoning, after its end was asked for: what was under way, and the words of the end."""


class Act(enum.Enum):
    """What to do about a budget that is spent."""

    END_REASONING = "end_reasoning"
    """Natively; the answer goes on."""
    STOP = "stop"


class Over(msgspec.Struct, frozen=True):
    """A budget is spent. spent, limit: seconds for time, else tokens."""

    kind: Literal["time", "tokens", "reasoning"]
    act: Act
    spent: float
    limit: float

    @property
    def why(self) -> str:
        """In words."""
        what = {
            "time": f"{self.limit:g} seconds", "tokens": f"{self.limit:g} tokens",
            "reasoning": f"{self.limit:g} tokens of reasoning",
        }[self.kind]  # fmt: skip
        return f"an answer may have {what} here"


class Budget:
    """What one answer has spent."""

    def __init__(self, settings: GuardSettings, now: Callable[[], float]) -> None:
        self._time = settings.max_time_s
        self._most, self._most_reasoning = settings.max_tokens, settings.max_reasoning_tokens
        self._may_end = settings.native
        self._now = now
        self._began: float | None = None
        self._asked_at: int | None = None
        self.tokens = self.reasoning = 0
        self.over: Over | None = None

    def begin(self) -> None:
        """The answer begins: from here its time runs. Further attempts change nothing."""
        if self._began is None:
            self._began = self._now()

    def feed(self, channel: Channel, tokens: int = 1) -> Over | None:
        """More was generated."""
        self.begin()
        self.tokens += tokens
        if channel is Channel.REASONING:
            self.reasoning += tokens
        return self._judge()

    def again(self) -> None:
        """A further attempt: what is spent stays spent."""
        self._asked_at = None
        if self.over is not None and self.over.act is Act.END_REASONING:
            self.over = None

    def cannot_end(self) -> Over | None:
        """The server cannot end its reasoning: the answer is to stop instead."""
        self._may_end = False
        return self._judge()

    def look(self) -> Over | None:
        """Time has passed."""
        return self._judge()

    def _judge(self) -> Over | None:
        """A stop is final. The end of the reasoning is asked for once."""
        if self.over is not None and self.over.act is Act.STOP:
            return self.over
        spent = 0.0 if self._began is None else self._now() - self._began
        if self._time is not None and spent >= self._time:
            self.over = Over("time", Act.STOP, spent, self._time)
        elif self._most is not None and self.tokens >= self._most:
            self.over = Over("tokens", Act.STOP, self.tokens, self._most)
        elif self._most_reasoning is not None and self.reasoning >= self._most_reasoning:
            self._judge_reasoning(self._most_reasoning)
        return self.over

    def _judge_reasoning(self, most: int) -> None:
        if self._asked_at is None and self._may_end:
            self._asked_at = self.reasoning
            self.over = Over("reasoning", Act.END_REASONING, self.reasoning, most)
        elif (
            not self._may_end
            or self._asked_at is None
            or self.reasoning - self._asked_at >= GRACE_TOKENS
        ):
            self.over = Over("reasoning", Act.STOP, self.reasoning, most)
