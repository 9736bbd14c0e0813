"""What is told of requests, models and switches: in the request log, in /metrics, as events."""

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from llmctl.proxy.broadcast import Events
from llmctl.proxy.gpu_watch import gpu_facts
from llmctl.proxy.guard_record import Finding, finding_entry
from llmctl.proxy.metrics import Metrics
from llmctl.proxy.record import MOST_NAME, Record, entry
from llmctl.proxy.request_log import RequestLog
from llmctl.proxy.tasks import log

if TYPE_CHECKING:
    from llmctl.core.gpu_reports import GpuReport
    from llmctl.proxy.dialect import Trouble
    from llmctl.proxy.loading import Loading

_SETTLE_S = 0.05
"""After so long what has ended is noted, be it a single request."""
_MOST_ENDED = 32
"""Requests that have ended; to note them takes half a millisecond, in which no answer moves."""
_ENCODER = msgspec.json.Encoder()


def utc(seconds: float) -> str:
    """Seconds since 1970 as `2026-11-20T12:00:00.123Z`."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


class Journal:
    """Its three readers. now: the loop's clock; wall: seconds since 1970. log, guard_log: None,
    where nothing is to be written down."""

    def __init__(
        self, now: Callable[[], float], wall: Callable[[], float], log: RequestLog | None = None,
        guard_log: RequestLog | None = None,
    ) -> None:  # fmt: skip
        self._now, self._wall = now, wall
        self.log, self.guard_log = log, guard_log
        self.events = Events()
        self.metrics = Metrics()
        self._states: dict[str, str] = {}
        self._ended: list[tuple[int, Record, bool]] = []
        self._writing = asyncio.Lock()

    # Requests

    def began(self, ticket: int, record: Record) -> None:
        """A model is asked."""
        if self.events:
            asked = record.asked and record.asked[:MOST_NAME]
            self._tell(ticket, "began", asked=asked, endpoint=record.endpoint, key=record.key)

    def admitted(self, ticket: int, record: Record) -> None:
        """Its turn has come."""
        if self.events:
            waited = round(self._now() - record.began, 4)
            self._tell(ticket, "admitted", served=record.served, queue_s=waited)

    def ended(self, ticket: int, record: Record, *, is_logged: bool) -> None:
        """However it did. Nobody waits for what is made of it, unless somebody watches: it is done
        for several at once, which costs a third."""
        self._ended.append((ticket, record, is_logged))
        if self.events.watchers or len(self._ended) >= _MOST_ENDED:
            self.settle()
        elif len(self._ended) == 1:
            try:
                asyncio.get_running_loop().call_later(_SETTLE_S, self.settle)
            except RuntimeError:  # there is none
                self.settle()

    def settle(self) -> None:
        """Count and write down what has ended."""
        ended, self._ended = self._ended, []
        for ticket, record, is_logged in ended:
            self._note(ticket, record, is_logged=is_logged)

    def _note(self, ticket: int, record: Record, *, is_logged: bool) -> None:
        """The proxy's own pages are only counted: who watches asks for them once a second."""
        record.count()
        self.metrics.ended(record)
        if record.is_own or not (self.events or (is_logged and self.log is not None)):
            return
        facts = entry(record, time=utc(self._wall() - (self._now() - record.began)))
        if is_logged and self.log is not None:
            self.log.add(_ENCODER.encode(facts))
        if self.events:
            self._tell(ticket, "ended", **facts)

    def found(self, ticket: int, record: Record, finding: Finding, *, is_logged: bool) -> None:
        """The guard found something."""
        self.metrics.found(record.served or "", finding)
        if not (self.events or (is_logged and self.guard_log is not None)):
            return
        facts = finding_entry(finding, record, time=utc(self._wall()))
        if is_logged and self.guard_log is not None:
            self.guard_log.add(_ENCODER.encode(facts))
        self.events.tell("guard", {"ticket": ticket, **facts})

    def fell(self, ticket: int, left: str, to: str, why: str) -> None:
        """A request left a model for the next of its chain."""
        self.metrics.fell(left, why=why)
        self.events.tell("fallback", {"ticket": ticket, "model": left, "to": to, "why": why})

    def rests(self, model: str, seconds: float, why: str) -> None:
        """A model or a box failed, and is asked last for so long."""
        log(f"{model} failed ({why}); for {seconds:.0f} s others of its chain are asked first.")
        told = {"model": model, "state": "resting", "why": why, "rest_s": round(seconds, 3)}
        self.events.tell("model", told)

    def _tell(self, ticket: int, state: str, **facts: Any) -> None:
        self.events.tell("request", {"ticket": ticket, "state": state, **facts})

    @property
    def wants_to_write(self) -> bool:
        """Are there lines for the log, and nobody at work on earlier ones?"""
        return any(log.has_lines for log in self._logs) and not self._writing.locked()

    async def write(self) -> None:
        """Write them, and what has just ended."""
        self.settle()
        async with self._writing:
            for log in self._logs:
                await asyncio.to_thread(log.flush)

    @property
    def _logs(self) -> list[RequestLog]:
        return [log for log in (self.log, self.guard_log) if log is not None]

    # Models

    def switching(self, model: str) -> None:
        """A switch of ours begins."""
        self.events.tell("switch", {"model": model, "state": "began"})

    def switched(self, model: str, seconds: float, *, why: str | None = None) -> None:
        """It has ended. why: it failed."""
        outcome = "ok" if why is None else "failed"
        self.metrics.switched(model, seconds, outcome=outcome)
        told = {"model": model, "state": outcome, "total_s": round(seconds, 3), "why": why}
        self.events.tell("switch", told)

    def restarting(self, model: str, trouble: "Trouble") -> None:
        """A server does not get on, and is restarted."""
        log(trouble.message)
        self.metrics.restarted(model, why=trouble.kind)
        self.events.tell("model", {"model": model, "state": "restarting", "why": trouble.kind})

    def given_up(self, model: str, trouble: "Trouble") -> None:
        """See Told."""
        log(trouble.message)
        self.metrics.restarted(model, why=trouble.kind)
        self.events.tell("model", {"model": model, "state": "given_up", "why": trouble.message})

    def gpu(self, report: "GpuReport", model: str | None) -> None:
        """See Told."""
        log(f"The kernel reports of a GPU: {report}.")
        self.metrics.gpu(report.kind)
        self.events.tell("gpu", {"model": model, **gpu_facts(report)})

    def instance(
        self, model: str, number: int, state: str, *, seconds: float = 0.0, why: str | None = None
    ) -> None:
        """See Told."""
        if state in ("ready", "failed"):
            self.metrics.replica(model, state)
        self.events.tell("instance", {
            "model": model, "instance": number, "state": state, "total_s": round(seconds, 3),
            "why": why,
        })  # fmt: skip

    def unloading(
        self, model: str, state: str, *, why: str, room_for: str | None = None,
        idle_s: float = 0.0, total_s: float = 0.0,
    ) -> None:  # fmt: skip
        """See Told."""
        if state == "ok":
            self.metrics.evicted(model, why=why)
        self.events.tell("eviction", {
            "model": model, "state": state, "why": why, "for": room_for,
            "idle_s": round(idle_s, 3), "total_s": round(total_s, 3),
        })  # fmt: skip

    def look(self, states: Mapping[str, str], loading: Mapping[str, "Loading"]) -> None:
        """Once a second: models whose state has changed, and how far those are that load."""
        if self.events:
            for name, state in states.items():
                if self._states.get(name) != state:
                    self.events.tell("model", {"model": name, "state": state})
            for name, one in loading.items():
                self.events.tell("switch", {
                    "model": name, "state": "loading", "what": one.what,
                    "fraction": one.fraction, "elapsed_s": round(one.elapsed_s, 1),
                })  # fmt: skip
        self._states = dict(states)
