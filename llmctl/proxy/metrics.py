"""Counts for Prometheus, in its text form (prometheus.io/docs/instrumenting/exposition_formats).

The number of series is bounded: labels are profiles, the proxy's own words for endpoints and
outcomes, and nothing that a client sends.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping

from llmctl.proxy.guard_record import Finding
from llmctl.proxy.record import Record

SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
Labels = tuple[tuple[str, str], ...]
Samples = Mapping[Labels, float]

_HELP = {
    "llmctl_requests_total": "Requests that have ended.",
    "llmctl_request_ttft_seconds": "From a request's head to the first event of its stream.",
    "llmctl_request_duration_seconds": "From a request's head to the end of its answer.",
    "llmctl_request_queue_seconds": "From a request's head until a model was free for it.",
    "llmctl_tokens_total": "Tokens that models read (in) and wrote (out).",
    "llmctl_draft_tokens_total": "Tokens that were drafted, and those of them that were accepted.",
    "llmctl_switches_total": "Switches that the proxy made.",
    "llmctl_switch_seconds": "How long switches took until the model answered.",
    "llmctl_replica_starts_total": "Starts of replicas: ready, or failed (no room, too).",
    "llmctl_evictions_total": "Models that the proxy stopped: room (for another), or ttl.",
    "llmctl_fallbacks_total": "Requests that left the model for the next of its chain.",
    "llmctl_restarts_total": "Servers that did not get on and were restarted, or given up.",
    "llmctl_gpu_reports_total": "What the kernel reported of GPUs that hang or fail.",
    "llmctl_guard_findings_total": "Loops and spent budgets that the guard found.",
    "llmctl_guard_held_characters_total": "Characters that clients did not get.",
    "llmctl_guard_saved_tokens_total": "Tokens that answers might still have had, at most.",
    "llmctl_requests_in_flight": "Requests that a model works on.",
    "llmctl_requests_waiting": "Requests that wait for a model.",
    "llmctl_model_rests": "1 where the model or box failed and is asked last for a while.",
    "llmctl_model_ready": "1 where the model answers.",
    "llmctl_instances": "Instances of the model that answer, the first one counted.",
    "llmctl_instance_requests_in_flight": "Requests under way, per instance of such models.",
    "llmctl_connections": "Open connections of clients.",
    "llmctl_watchers": "Clients that read /llmctl/events.",
    "llmctl_log_dropped_total": "Lines of the request log that could not be written.",
    "llmctl_guard_log_dropped_total": "Lines of the guard's log that could not be written.",
    "llmctl_info": "The version that runs.",
}


class Histogram:
    """Seconds in buckets, per set of labels."""

    def __init__(self) -> None:
        self._counts: defaultdict[Labels, list[int]] = defaultdict(lambda: [0] * len(_BOUNDS))
        self._sums: defaultdict[Labels, float] = defaultdict(float)

    def add(self, labels: Labels, seconds: float) -> None:
        """One more."""
        self._counts[labels][bisect_left(SECONDS, seconds)] += 1
        self._sums[labels] += seconds

    def lines(self, name: str, models: Collection[str] | None) -> Iterable[str]:
        """Its samples; buckets are cumulative. models: see Metrics.text."""
        for labels, counts in self._counts.items():
            if not _is_told(labels, models):
                continue
            total = 0
            for bound, count in zip(_BOUNDS, counts, strict=True):
                total += count
                yield sample(f"{name}_bucket", (*labels, ("le", bound)), total)
            yield sample(f"{name}_sum", labels, self._sums[labels])
            yield sample(f"{name}_count", labels, total)


_BOUNDS = (*(f"{one:g}" for one in SECONDS), "+Inf")


class Metrics:
    """What has been counted since the start."""

    def __init__(self) -> None:
        self._requests: defaultdict[Labels, float] = defaultdict(float)
        self._tokens: defaultdict[Labels, float] = defaultdict(float)
        self._drafts: defaultdict[Labels, float] = defaultdict(float)
        self._switches: defaultdict[Labels, float] = defaultdict(float)
        self._replicas: defaultdict[Labels, float] = defaultdict(float)
        self._fallbacks: defaultdict[Labels, float] = defaultdict(float)
        self._restarts: defaultdict[Labels, float] = defaultdict(float)
        self._evictions: defaultdict[Labels, float] = defaultdict(float)
        self._gpus: defaultdict[Labels, float] = defaultdict(float)
        self._findings: defaultdict[Labels, float] = defaultdict(float)
        self._held: defaultdict[Labels, float] = defaultdict(float)
        self._saved: defaultdict[Labels, float] = defaultdict(float)
        self._histograms = {
            name: Histogram() for name in _HELP if name.endswith("_seconds")
        }  # fmt: skip

    def ended(self, record: Record) -> None:
        """A request has ended."""
        endpoint = ("endpoint", "own" if record.is_own else record.endpoint)
        model = ("model", record.served or "")
        self._requests[endpoint, model, ("outcome", record.outcome)] += 1
        if record.served is None or record.ended is None:
            return
        times = {
            "duration": record.ended, "queue": record.admitted,
            "ttft": record.first if record.stream else None,
        }  # fmt: skip
        for name, then in times.items():
            if then is not None:
                histogram = self._histograms[f"llmctl_request_{name}_seconds"]
                histogram.add((endpoint, model), then - record.began)
        self._count_tokens(record, model)

    def _count_tokens(self, record: Record, model: tuple[str, str]) -> None:
        for way, count in (("in", record.tokens_in), ("out", record.tokens_out)):
            if count:
                self._tokens[model, ("direction", way)] += count
        if record.draft is not None:
            for what, count in zip(("drafted", "accepted"), record.draft, strict=True):
                self._drafts[model, ("what", what)] += count

    def switched(self, model: str, seconds: float, *, outcome: str) -> None:
        """A switch has ended: ok or failed."""
        self._switches[("model", model), ("outcome", outcome)] += 1
        self._histograms["llmctl_switch_seconds"].add((("model", model),), seconds)

    def replica(self, model: str, outcome: str) -> None:
        """A start of a replica has ended: ready or failed."""
        self._replicas[("model", model), ("outcome", outcome)] += 1

    def evicted(self, model: str, *, why: str) -> None:
        """A model was stopped by us: room or ttl."""
        self._evictions[("model", model), ("why", why)] += 1

    def fell(self, model: str, *, why: str) -> None:
        """A request left a model for the next of its chain. why: a word of Failure's."""
        self._fallbacks[("model", model), ("why", why)] += 1

    def restarted(self, model: str, *, why: str) -> None:
        """A server is restarted: hung or stalled; or given up."""
        self._restarts[("model", model), ("why", why)] += 1

    def gpu(self, kind: str) -> None:
        """The kernel reported something of a GPU."""
        self._gpus[(("kind", kind),)] += 1

    def found(self, model: str, finding: Finding) -> None:
        """The guard found something. Its labels are words of ours, and names of profiles."""
        of = ("model", model)
        what = ("kind", finding.kind), ("step", finding.step), ("outcome", finding.outcome)
        self._findings[of, *what] += 1
        for counts, number in ((self._held, finding.held), (self._saved, finding.saved)):
            if number:
                counts[(of,)] += number

    def text(self, gauges: Mapping[str, Samples], models: Collection[str] | None = None) -> bytes:
        """The page. gauges: what is true now, by name. models: those of which it may tell."""
        totals: dict[str, Samples] = {
            "llmctl_requests_total": self._requests, "llmctl_tokens_total": self._tokens,
            "llmctl_draft_tokens_total": self._drafts, "llmctl_switches_total": self._switches,
            "llmctl_restarts_total": self._restarts, "llmctl_fallbacks_total": self._fallbacks,
            "llmctl_gpu_reports_total": self._gpus,
            "llmctl_replica_starts_total": self._replicas,
            "llmctl_evictions_total": self._evictions,
            "llmctl_guard_findings_total": self._findings,
            "llmctl_guard_held_characters_total": self._held,
            "llmctl_guard_saved_tokens_total": self._saved,
        }  # fmt: skip
        lines: list[str] = []
        for name, text in _HELP.items():
            kind = _kind(name)
            lines += (f"# HELP {name} {text}", f"# TYPE {name} {kind}")
            if kind == "histogram":
                lines += self._histograms[name].lines(name, models)
            else:
                found = totals.get(name) or gauges.get(name, {})
                lines += (
                    sample(name, labels, value)
                    for labels, value in found.items() if _is_told(labels, models)
                )  # fmt: skip
        return ("\n".join(lines) + "\n").encode()


def _kind(name: str) -> str:
    if name.endswith("_seconds"):
        return "histogram"
    return "counter" if name.endswith("_total") else "gauge"


def _is_told(labels: Labels, models: Collection[str] | None) -> bool:
    """Does it speak of no model, or of one of these? None: of whichever."""
    model = dict(labels).get("model")
    return models is None or not model or model in models


def sample(name: str, labels: Labels, value: float) -> str:
    """One line."""
    told = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels)
    return f"{name}{{{told}}} {value:.10g}" if told else f"{name} {value:.10g}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
