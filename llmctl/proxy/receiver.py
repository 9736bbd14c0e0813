"""Whom a connection to a server speaks to: who gets its answer, and who gets it back."""

from typing import TYPE_CHECKING, Protocol

from llmctl.proxy.head import AnswerHead

if TYPE_CHECKING:
    from llmctl.proxy.upstream import Upstream


class Receiver(Protocol):
    """Who gets an answer. Each is called from the loop, and must not raise."""

    def upstream_head(self, head: AnswerHead) -> None:
        """The head. What came of the body with it follows at once, be it nothing."""
        ...

    def upstream_data(self, data: bytes, *, is_last: bool = False) -> None:
        """More of the body. is_last: its end follows at once."""
        ...

    def upstream_end(self) -> None:
        """The body is whole."""
        ...

    def upstream_lost(self, *, why: str) -> None:
        """The connection ended before the answer did."""
        ...

    def upstream_raw(self, data: bytes) -> None:
        """After a 101: bytes that are no HTTP any more."""
        ...

    def upstream_full(self) -> None:
        """After a 101: the server takes no more now."""
        ...

    def upstream_drained(self) -> None:
        """It does again."""
        ...


class Releases(Protocol):
    """Who gets connections back. ends_streams: does the server end it with a stream?"""

    ends_streams: bool

    def released(self, upstream: "Upstream") -> None:
        """It can carry another request."""
        ...

    def ended(self, upstream: "Upstream") -> None:
        """Its server has ended it, while it carried no request."""
        ...

    def crossed(self, upstream: "Upstream") -> None:
        """Its server has ended it after a stream, and a further request was on its way already."""
        ...

    def spent(self, upstream: "Upstream") -> None:
        """It has carried a stream, and its server has ended it, or would."""
        ...

    def lost(self, upstream: "Upstream") -> None:
        """It is closed."""
        ...
