"""Budgets of one answer, kept with the session that counts what it spends."""

from collections.abc import Callable

from llmctl.core.guard.budget import Act, Budget, Over
from llmctl.core.guard.verdict import Channel
from llmctl.proxy.guard.session import Session


class Spending:
    """One answer's."""

    def __init__(self, session: Session, now: Callable[[], float]) -> None:
        self._session = session
        self._budget = Budget(session.plan.settings, now)
        self._reasoning = self._others = 0
        self._done: set[Act] = set()

    def over(self) -> Over | None:
        """Something has come, or time has passed. What is to be done is told once."""
        session, budget = self._session, self._budget
        reasoning = session.texts.reasoning_tokens
        others = session.tokens - reasoning
        if reasoning > self._reasoning:
            budget.feed(Channel.REASONING, reasoning - self._reasoning)
        if others > self._others:
            budget.feed(Channel.CONTENT, others - self._others)
        self._reasoning, self._others = reasoning, others
        return self._told(budget.look())

    def again(self) -> None:
        """A further attempt begins."""
        self._budget.again()
        self._done.discard(Act.END_REASONING)

    def cannot_end(self) -> Over | None:
        """The server did not end its reasoning."""
        return self._told(self._budget.cannot_end())

    def _told(self, over: Over | None) -> Over | None:
        if over is None or over.act in self._done:
            return None
        self._done.add(over.act)
        return over
