"""What is remembered of one request: times and counts, and nothing of what was said."""

import contextlib
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from llmctl.proxy.answer import Answer

_TIMINGS = re.compile(rb'"timings":\s*(\{[^{}]*\})')
_OUT = re.compile(rb'"(?:completion|output)_tokens":\s*(\d+)')
_IN = re.compile(rb'"(?:prompt|input)_tokens":\s*(\d+)')
_CACHED = re.compile(rb'"cache_read_input_tokens":\s*(\d+)')
_MOST_TAIL = 16 << 10
MOST_OPENING = 4 << 10
"""Bytes. Anthropic's streams and embeddings count what came in at their beginning."""
MOST_NAME = 200
"""Characters of a model's name that a client sent."""


class Record(msgspec.Struct):
    """One request. Times are the loop's, in seconds; asked, served: names of models.

    opening: the first bytes of the answer's body, until they are counted. is_own: the proxy answers
    it itself. draft: tokens drafted, and of them accepted. fallback_from: who was asked before the
    one that served it. _last: the last pieces of the answer, from its end until they are counted.
    """

    began: float
    endpoint: str
    path: bytes
    peer: str
    key: str | None = None
    asked: str | None = None
    served: str | None = None
    instance: int | None = None
    stream: bool = False
    is_own: bool = False
    admitted: float | None = None
    first: float | None = None
    ended: float | None = None
    status: int = 0
    outcome: str = ""
    opening: bytes = b""
    tokens_in: int | None = None
    tokens_out: int | None = None
    tokens_per_s: float | None = None
    draft: tuple[int, int] | None = None
    fallback_from: tuple[str, ...] = ()
    _last: Sequence[bytes] = ()

    def saw(self, data: bytes, now: float) -> None:
        """The first piece of the answer's body. A comment (a ping) is no answer yet."""
        if not data.startswith(b":"):
            self.first, self.opening = now, data[:MOST_OPENING]

    def finish(self, now: float, answer: "Answer") -> None:
        """It has ended."""
        self.ended = now
        self.status = answer.status or self.status
        self.outcome = self.outcome or answer.outcome
        self._last = answer.last

    def count(self) -> None:
        """What the server counted is in the first and the last bytes of the answer."""
        if self.opening:
            with contextlib.suppress(ValueError, OverflowError):  # no count that anybody can read
                self._count(_end_of(self._last))
        self.opening, self._last = b"", ()

    def _count(self, tail: bytes) -> None:
        """`timings` is exact and has the speed; where there is none (/v1/messages), `usage`."""
        at = tail.rfind(b'"timings":')
        found = _TIMINGS.match(tail, at) if at >= 0 else None
        if found and self._take_timings(found[1]):
            return
        if self.endpoint == "count_tokens":
            return  # it counts what nobody has read
        text = tail if tail.startswith(self.opening) else self.opening + tail
        if (counts := _OUT.findall(text)) and self.outcome in {"ok", "stopped"}:
            self.tokens_out = int(counts[-1])
        if counts := _IN.findall(text):
            cached = _CACHED.findall(text)
            self.tokens_in = int(counts[0]) + (int(cached[0]) if cached else 0)

    def _take_timings(self, raw: bytes) -> bool:
        try:
            timings: dict[str, Any] = msgspec.json.decode(raw)
            if not timings:
                return False
            self.tokens_in = int(timings.get("prompt_n", 0)) + int(timings.get("cache_n", 0))
            self.tokens_out = int(timings.get("predicted_n", 0))
            speed = timings.get("predicted_per_second")
            self.tokens_per_s = None if speed is None else float(speed)
            if "draft_n" in timings:
                self.draft = int(timings["draft_n"]), int(timings.get("draft_n_accepted", 0))
        except (msgspec.DecodeError, TypeError, ValueError):
            return False
        return True


def _end_of(pieces: Sequence[bytes]) -> bytes:
    """The last bytes of all pieces, without joining what may be a megabyte."""
    found = b""
    for piece in reversed(pieces):
        found = piece[len(found) - _MOST_TAIL :] + found
        if len(found) >= _MOST_TAIL:
            break
    return found


def entry(record: Record, *, time: str) -> dict[str, Any]:
    """A line of the request log. time: when it began, in UTC."""
    drafted, accepted = record.draft or (None, None)
    found: dict[str, Any] = {
        "time": time, "key": record.key, "peer": record.peer, "endpoint": record.endpoint,
        "asked": record.asked and record.asked[:MOST_NAME], "served": record.served,
        "instance": record.instance, "fallback_from": list(record.fallback_from),
        "stream": record.stream, "status": record.status, "outcome": record.outcome,
        "queue_s": _since(record.began, record.admitted),
        "ttft_s": _since(record.began, record.first) if record.stream else None,
        "total_s": _since(record.began, record.ended),
        "tokens_in": record.tokens_in, "tokens_out": record.tokens_out,
        "tokens_per_s": record.tokens_per_s and round(record.tokens_per_s, 2),
        "draft_tokens": drafted, "draft_accepted": accepted,
    }  # fmt: skip
    if record.endpoint == "other":
        found["path"] = record.path[:MOST_NAME].decode("latin-1")
    return found


def _since(began: float, then: float | None) -> float | None:
    return None if then is None else round(then - began, 4)
