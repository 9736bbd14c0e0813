"""One attempt to have a request answered: a connection, the request on it, what comes back."""

from typing import Protocol

from llmctl.proxy.head import AnswerHead
from llmctl.proxy.lane import END_OF_BOTH
from llmctl.proxy.pool import Pool
from llmctl.proxy.spool import Spool
from llmctl.proxy.upstream import Take, Upstream


class Recipient(Protocol):
    """Who asked. Each is called from the loop, at most until `drop`."""

    def head(self, head: AnswerHead) -> None:
        """The head of the answer; `data` or `raw` follows at once."""
        ...

    def data(self, data: bytes, *, is_last: bool = False) -> None:
        """More of its body. is_last: `end` follows at once."""
        ...

    def raw(self, data: bytes) -> None:
        """After a 101."""
        ...

    def full(self) -> None:
        """After a 101: the server takes no more now."""
        ...

    def drained(self) -> None:
        """It does again."""
        ...

    def end(self) -> None:
        """It is whole."""
        ...

    def lost(self, why: str) -> None:
        """The connection ended before it was."""
        ...

    def nothing_came(self, why: str) -> None:
        """There was no connection to be had."""
        ...


class Delivery:
    """An attempt. What `drop` has ended reports nothing more. is_repeatable: it may be sent twice.
    has_sent: it was sent, or a part of it. upstream: it has gone out on this connection already."""

    __slots__ = (
        "_body", "_head", "_heard", "_is_head", "_is_paused", "_is_repeatable",
        "_may_switch", "_pool", "_recipient", "_upstream", "has_sent",
    )  # fmt: skip

    def __init__(
        self, recipient: Recipient | None, head: bytes, body: Spool | None, *,
        is_head: bool = False, may_switch: bool = False, is_repeatable: bool = True,
        pool: Pool | None = None, upstream: Upstream | None = None,
    ) -> None:  # fmt: skip
        self._recipient = recipient
        self._head, self._body = head, body
        self._is_head, self._may_switch = is_head, may_switch
        self._is_repeatable, self.has_sent = is_repeatable, upstream is not None
        self._upstream, self._pool = upstream, pool
        self._heard = self._is_paused = False

    def begin(self, pool: Pool) -> None:
        """Get a connection, and send. One that was idle may be closed in the moment in which it is
        used, so it is nothing for what may be sent but once."""
        self._pool = pool
        pool.take(self._connected, self._unreachable, fresh=not self._is_repeatable)

    def _connected(self, upstream: Upstream) -> None:
        if self._recipient is None:
            upstream.give_back()
            return
        self._upstream, self.has_sent = upstream, True
        if self._is_paused:
            upstream.pause()
        upstream.send(
            self._head, self._body, self, is_head=self._is_head, may_switch=self._may_switch
        )

    def _unreachable(self, why: str) -> None:
        if self._recipient is not None:
            self._recipient.nothing_came(why)

    def drop(self) -> None:
        """Give it up: the server is told by the end of its connection (Upstream.close)."""
        self._recipient = None
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.close()

    def pause(self) -> None:
        """Nobody can take more now."""
        self._is_paused = True
        if self._upstream is not None:
            self._upstream.pause()

    def resume(self) -> None:
        """Go on."""
        self._is_paused = False
        if self._upstream is not None:
            self._upstream.resume()

    def hurry(self, take: Take, after: bytes = END_OF_BOTH) -> None:
        """See Upstream."""
        if self._upstream is not None:
            self._upstream.hurry(take, after)

    def write_raw(self, data: bytes) -> None:
        """After a 101."""
        if self._upstream is not None and data:
            self._upstream.write(data)

    # Receiver

    def upstream_head(self, head: AnswerHead) -> None:
        """See Receiver."""
        self._heard = True
        if self._recipient is not None:
            self._recipient.head(head)

    def upstream_data(self, data: bytes, *, is_last: bool = False) -> None:
        """See Receiver."""
        if self._recipient is not None:
            self._recipient.data(data, is_last=is_last)

    def upstream_raw(self, data: bytes) -> None:
        """See Receiver."""
        if self._recipient is not None:
            self._recipient.raw(data)

    def upstream_full(self) -> None:
        """See Receiver."""
        if self._recipient is not None:
            self._recipient.full()

    def upstream_drained(self) -> None:
        """See Receiver."""
        if self._recipient is not None:
            self._recipient.drained()

    def upstream_end(self) -> None:
        """See Receiver."""
        self._upstream = None
        if self._recipient is not None:
            self._recipient.end()

    def upstream_lost(self, *, why: str) -> None:
        """See Receiver. A connection that was used before may have been closed for its age, in the
        moment in which it was used again: that says nothing of the server."""
        upstream, self._upstream = self._upstream, None
        if self._recipient is None:
            return
        pool, self._pool = self._pool, None
        if pool is not None and upstream is not None and upstream.was_used and not self._heard:
            pool.take(self._connected, self._unreachable, fresh=True)
        else:
            self._recipient.lost(why)


NONE = Delivery(None, b"", None)
"""Where there is no attempt: it takes what is asked of it, and does nothing."""
