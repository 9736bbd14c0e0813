"""The proxy's event loop: asyncio's, with a short way for the connections that carry answers.

Before a protocol hears that its socket can be read, asyncio calls six functions of Python's: keys
are looked up and listed, a callback is queued, taken out again and run in a context. Where each
token wakes the proxy for itself none of that is in the processor's caches, and it costs more than
reading does. What is watched here is called by the selector itself.
"""

import asyncio
import select
import selectors
import time
from collections import deque
from collections.abc import Callable
from contextvars import Context
from typing import TypeVarTuple

READ, WRITE = select.EPOLLIN, select.EPOLLOUT
_MOST = 64
"""Events that are taken at once; the others come next time."""

_Given = TypeVarTuple("_Given")
Ready = Callable[[int], None]
"""Is called with what epoll says of a descriptor (epoll_ctl(2)). It must not raise."""
Work = Callable[[], object]
BUGS = Exception, asyncio.CancelledError
"""What is handled like an error of asyncio's own callbacks."""


class _Selector(selectors.EpollSelector):
    """Watches what asyncio registers, and in an epoll of its own, which contains the other one,
    what is called at once."""

    def __init__(self, wrong: Callable[[BaseException], None]) -> None:
        """wrong: gets what work raises."""
        super().__init__()
        self._wrong = wrong
        self._epoll = select.epoll()
        self._epoll.register(self.fileno(), READ)
        self._called: dict[int, Ready] = {self.fileno(): self._others}
        self._has_others = self.is_wanted = False
        """Has asyncio something to do now?"""
        self.soon: deque[Work] = deque()
        self.leisure: deque[Work] = deque()
        """What is to be done after what is called now, and when nothing is to be called."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """See selectors.BaseSelector. What is watched here is waited for again and again, until
        there is something for asyncio or the time is over."""
        called, poll, self.is_wanted = self._called, self._epoll.poll, False
        soon, leisure = self.soon, self.leisure
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            found = poll(0 if soon or leisure else timeout, _MOST)
            for descriptor, events in found:
                ready = called.get(descriptor)
                if ready is not None:  # else one before it has ended it
                    ready(events)
            while soon:
                self._do(soon.popleft())
            is_free = not (found or timeout == 0 or self.is_wanted)
            if leisure and is_free:
                self._do(leisure.popleft())
            for _ in range(len(leisure) - _MOST):
                self._do(leisure.popleft())
            if self._has_others or self.is_wanted:
                break
            if end is not None:
                timeout = end - time.monotonic()
                if timeout <= 0:
                    break
        if not self._has_others:
            return []
        self._has_others = False
        return super().select(0)  # not before: what is called may replace a reader that is found

    def _others(self, events: int) -> None:
        del events
        self._has_others = True

    def _do(self, work: Work) -> None:
        try:
            work()
        except BUGS as error:
            self._wrong(error)

    def watch(self, descriptor: int, events: int, ready: Ready) -> None:
        """See Loop."""
        if not events:
            if self._called.pop(descriptor, None) is not None:
                self._epoll.unregister(descriptor)
        elif descriptor in self._called:
            self._epoll.modify(descriptor, events)
            self._called[descriptor] = ready
        else:
            self._epoll.register(descriptor, events)
            self._called[descriptor] = ready

    def close(self) -> None:
        """See selectors.BaseSelector."""
        self._epoll.close()
        super().close()


def at_leisure(work: Work) -> None:
    """Do it when nobody waits for anything; in another loop than this one, or in none, now."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        loop = None
    if isinstance(loop, Loop):
        loop.at_leisure(work)
    else:
        work()


class Loop(asyncio.SelectorEventLoop):
    """asyncio's loop. Run it with asyncio.Runner(loop_factory=Loop)."""

    time = staticmethod(time.monotonic)  # asyncio's own is a call of Python's around it

    def __init__(self) -> None:
        self._watching = _Selector(self._wrong)
        super().__init__(self._watching)
        self.watch = self._watching.watch
        """watch(descriptor, events, ready): call `ready` while one of these events (READ, WRITE) is
        there; no events: not any more. asyncio's own add_reader is for other descriptors."""
        self.soon = self._watching.soon.append
        """soon(work): do it after what is being done; a call_soon without a turn of asyncio's."""
        self.at_leisure = self._watching.leisure.append
        """at_leisure(work): do it when nobody waits for anything; or when much of it is to be done.
        """

    def _wrong(self, error: BaseException) -> None:
        self.call_exception_handler({"message": "work that was put off failed", "exception": error})

    def stop(self) -> None:
        """See asyncio.loop."""
        self._watching.is_wanted = True
        super().stop()

    def call_soon(
        self, callback: Callable[[*_Given], object], *args: *_Given,
        context: Context | None = None,
    ) -> asyncio.Handle:  # fmt: skip
        """See asyncio.loop."""
        self._watching.is_wanted = True
        return super().call_soon(callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[[*_Given], object], *args: *_Given,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:  # fmt: skip
        """See asyncio.loop."""
        self._watching.is_wanted = True
        return super().call_at(when, callback, *args, context=context)
