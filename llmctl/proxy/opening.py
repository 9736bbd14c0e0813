"""The beginning of an answer, held back until it is known to be one.

A server can fail after its head: a stream begins with comments while the prompt is read, and its
first event may be an error. So of a request that somebody else could answer nothing goes out before
the first event of a stream is there, or an answer of an error's status is whole.
"""

import re
from typing import Protocol

from llmctl.proxy.delivery import Recipient
from llmctl.proxy.fallback import Failure, may_fail, of_answer, of_event
from llmctl.proxy.head import AnswerHead

MOST_HELD = 256 << 10
"""Bytes; an error is short, and what is longer is an answer."""
_COMMENTS = re.compile(rb"(?::[^\n]*\r?\n|\r?\n)*")
_END = re.compile(rb"\n\r?\n")


class Judge(Protocol):
    """Who decides what becomes of it (Falling)."""

    @property
    def is_far(self) -> bool:
        """Is it another box that answers?"""
        ...

    @property
    def hides_progress(self) -> bool:
        """Do clients not get the server's progress (the guard asked for it)?"""
        ...

    def retries(self, head: AnswerHead) -> bool:
        """Is the same server asked again, as without a chain?"""
        ...

    def began(self, head: AnswerHead) -> None:
        """It is an answer, and goes to the client."""
        ...

    def failed(self, failure: Failure, held: "Held | None") -> bool:
        """It is none. held: all that the server said, where that is an answer. False: nobody else
        can answer, and the client gets this."""
        ...

    def heard(self) -> None:
        """Something came, be it a comment."""
        ...


class Held:
    """A server's whole answer: to be told if nobody does better."""

    def __init__(self, head: AnswerHead, body: bytes) -> None:
        self.head, self.body = head, body

    def goes_to(self, recipient: Recipient) -> None:
        """Tell it."""
        recipient.head(self.head)
        recipient.data(self.body, is_last=True)
        recipient.end()


class Opening:
    """A Recipient before another one (Delivery)."""

    def __init__(self, recipient: Recipient, judge: Judge) -> None:
        self._to, self._judge = recipient, judge
        self._head: AnswerHead | None = None
        self._held = b""
        self._at = 0
        """Where in it the first event begins that says anything."""
        self._is_open = False

    def head(self, head: AnswerHead) -> None:
        """See Recipient."""
        self._judge.heard()
        is_events = head.status == 200 and head.is_events
        if self._judge.retries(head):
            self._to.head(head)
            self._is_open = True
        elif is_events or may_fail(head.status, is_far=self._judge.is_far):
            self._head = head
        else:
            self._open(head)

    def _open(self, head: AnswerHead, *, is_last: bool = False) -> None:
        """It is an answer: from here on everything passes."""
        held, self._held, self._is_open = self._held, b"", True
        self._judge.began(head)
        self._to.head(head)
        if held:
            self._to.data(held, is_last=is_last)

    def data(self, data: bytes, *, is_last: bool = False) -> None:
        """See Recipient."""
        if self._is_open or self._head is None:
            self._to.data(data, is_last=is_last)
            return
        self._judge.heard()
        self._held += data
        if self._head.is_events:
            self._look(self._head, is_last=is_last)
        elif len(self._held) > MOST_HELD:
            self._open(self._head)

    def _look(self, head: AnswerHead, *, is_last: bool) -> None:
        """Is there a first event?"""
        event = self._event()
        if event is None and len(self._held) <= MOST_HELD:
            return
        failure = of_event(event) if event is not None else None
        if failure is None or not self._judge.failed(failure, None):
            self._open(head, is_last=is_last)

    def _event(self) -> bytes | None:
        """The first that is no comment, and no progress that the client does not get."""
        while (end := _END.search(self._held, self._skipped())) is not None:
            event = self._held[self._at : end.start()]
            if not (self._judge.hides_progress and b'"prompt_progress"' in event):
                return event
            self._at = end.end()
        return None

    def _skipped(self) -> int:
        comments = _COMMENTS.match(self._held, self._at)
        self._at = comments.end() if comments is not None else self._at
        return self._at

    def end(self) -> None:
        """See Recipient."""
        if self._is_open or self._head is None:
            self._to.end()
            return
        head = self._head
        if head.is_events and len(self._held) == self._skipped():
            self._to.lost("it ended its answer before there was one")
            return
        failure = None if head.is_events else of_answer(
            head.status, self._held, is_far=self._judge.is_far
        )  # fmt: skip
        if failure is None or not self._judge.failed(failure, Held(head, self._held)):
            self._open(head, is_last=True)
            self._to.end()

    def raw(self, data: bytes) -> None:
        """See Recipient."""
        self._to.raw(data)

    def full(self) -> None:
        """See Recipient."""
        self._to.full()

    def drained(self) -> None:
        """See Recipient."""
        self._to.drained()

    def lost(self, why: str) -> None:
        """See Recipient."""
        self._to.lost(why)

    def nothing_came(self, why: str) -> None:
        """See Recipient."""
        self._to.nothing_came(why)
