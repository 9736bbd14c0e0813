"""What a benchmark of a running model measures, keeps, and says beside earlier ones.

Speeds are llama-server's own (`timings` of an answer): prompt tokens read per second, and tokens
written per second from the first one on. Around them stands the wall clock, as a client sees it.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

FORMAT = 1
"""Of a kept line; what another version of llmctl kept is not compared with."""


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of request. prompt, generate: tokens asked for. concurrency: requests at once.

    drafting: False where the server was asked not to draft; else it does what it does.
    """

    prompt: int
    generate: int
    concurrency: int = 1
    drafting: bool = True

    @property
    def told(self) -> str:
        """`512+128`, with what is unusual behind it."""
        beside = f" x{self.concurrency}" if self.concurrency > 1 else ""
        return f"{self.prompt}+{self.generate}{beside}{'' if self.drafting else ', no draft'}"


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One answer. Times are in seconds; drafted: tokens that were drafted, accepted: of them."""

    prompt_tokens: int
    prompt_s: float
    tokens: int
    generation_s: float
    drafted: int = 0
    accepted: int = 0
    ttft_s: float
    wall_s: float


class Spread(msgspec.Struct, frozen=True):
    """The median of several runs, and the least and the most of them."""

    median: float
    least: float
    most: float

    def overlaps(self, other: "Spread") -> bool:
        """Could both be the same, as far as these runs tell?"""
        return self.least <= other.most and other.least <= self.most


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """A case's runs. total_per_s: tokens of all requests at once, by the wall clock.

    prompt_tokens: those that were really read. drafted, accepted, tokens: sums over all runs.
    """

    runs: int
    prompt_tokens: int
    prompt_per_s: Spread
    generation_per_s: Spread
    total_per_s: Spread
    ttft_s: Spread
    wall_s: Spread
    tokens: int
    drafted: int = 0
    accepted: int = 0

    @property
    def acceptance(self) -> float | None:
        """The share of drafted tokens that was right; None: nothing was drafted."""
        return self.accepted / self.drafted if self.drafted else None

    @property
    def drafted_per_step(self) -> float:
        """Tokens drafted for each step of the model: a step writes one token of its own, and those
        that were accepted."""
        return self.drafted / max(1, self.tokens - self.accepted)

    @property
    def step_s(self) -> float:
        """Seconds that a step of the model takes, with what is drafted for it."""
        per_step = self.tokens / max(1, self.tokens - self.accepted)
        return per_step / self.generation_per_s.median


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A case that was measured, as it is kept: what ran (build, flags and their digest), when (UTC)
    and how fast. draft_cost: see core/draft_worth.py; None where nothing without a draft is known.
    """

    format: int = FORMAT
    time: str
    profile: str
    build: str
    flags: dict[str, str]
    digest: str
    case: Case
    figures: Figures
    draft_cost: float | None = None


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """A measurement beside an earlier one. generation, prompt: change, 0.12 for 12 % faster.

    same: of the same build and flags. apart: in what they differ. clear: the generation's runs do
    not overlap.
    """

    time: str
    same: bool
    generation: float
    prompt: float
    clear: bool
    apart: tuple[str, ...] = ()


def timings_of(events: bytes) -> dict[str, Any] | None:
    """The server's `timings` in the events of a stream; None: there are none.

    ValueError: it says that it failed, and why.
    """
    for line in reversed(events.splitlines()):
        if not line.startswith(b"data: {"):
            continue
        try:
            said = msgspec.json.decode(line[6:])
        except msgspec.DecodeError:
            continue
        if "error" in said:
            error = said["error"]
            raise ValueError(str(error.get("message", error) if isinstance(error, dict) else error))
        if isinstance(said.get("timings"), dict):
            found: dict[str, Any] = said["timings"]
            return found
    return None


def sample_of(timings: Mapping[str, Any], *, ttft_s: float, wall_s: float) -> Sample:
    """An answer from the server's own counts. ValueError: they are not all there."""
    try:
        return Sample(
            prompt_tokens=int(timings["prompt_n"]), prompt_s=float(timings["prompt_ms"]) / 1000,
            tokens=int(timings["predicted_n"]), generation_s=float(timings["predicted_ms"]) / 1000,
            drafted=int(timings.get("draft_n", 0)),
            accepted=int(timings.get("draft_n_accepted", 0)), ttft_s=ttft_s, wall_s=wall_s,
        )  # fmt: skip
    except (KeyError, TypeError, ValueError):
        raise ValueError("its timings say neither tokens nor times") from None


def figures(rounds: Sequence[tuple[float, Sequence[Sample]]]) -> Figures:
    """The runs of a case: of each, its wall time and the answers to the requests made at once."""
    samples = [one for _, answers in rounds for one in answers]
    return Figures(
        runs=len(rounds),
        prompt_tokens=round(_median(sorted(one.prompt_tokens for one in samples))),
        prompt_per_s=spread(one.prompt_tokens / _time(one.prompt_s) for one in samples),
        generation_per_s=spread(one.tokens / _time(one.generation_s) for one in samples),
        total_per_s=spread(
            sum(one.tokens for one in answers) / _time(wall) for wall, answers in rounds
        ),
        ttft_s=spread(one.ttft_s for one in samples),
        wall_s=spread(wall for wall, _ in rounds),
        tokens=sum(one.tokens for one in samples),
        drafted=sum(one.drafted for one in samples),
        accepted=sum(one.accepted for one in samples),
    )


def _time(seconds: float) -> float:
    """No less than the server's clock can tell, a microsecond."""
    return max(seconds, 1e-6)


def spread(values: Iterable[float]) -> Spread:
    """The median of some values, and the range of them."""
    found = sorted(values)
    return Spread(*(round(one, 4) for one in (_median(found), found[0], found[-1])))


def _median(values: Sequence[float]) -> float:
    """Of sorted values. (`statistics` imports a good deal, and `llmctl status` is to be quick.)"""
    middle = len(values) // 2
    return values[middle] if len(values) % 2 else (values[middle - 1] + values[middle]) / 2


def compared(now: Record, earlier: Sequence[Record]) -> tuple[Comparison, ...]:
    """Beside the last one of the same build and flags, and the last one of others."""
    alike = [
        one for one in earlier if (one.profile, one.case) == (now.profile, now.case)
    ]  # fmt: skip
    mine = (now.build, now.digest)
    same = [one for one in alike if (one.build, one.digest) == mine]
    other = [one for one in alike if (one.build, one.digest) != mine]
    return tuple(_beside(now, found[-1], same=found is same) for found in (same, other) if found)


def _beside(now: Record, then: Record, *, same: bool) -> Comparison:
    new, old = now.figures, then.figures
    return Comparison(
        time=then.time, same=same,
        generation=new.generation_per_s.median / old.generation_per_s.median - 1,
        prompt=new.prompt_per_s.median / old.prompt_per_s.median - 1,
        clear=not new.generation_per_s.overlaps(old.generation_per_s),
        apart=() if same else apart(then, now),
    )  # fmt: skip


def apart(then: Record, now: Record) -> tuple[str, ...]:
    """In what two measurements differ: `n_cpu_moe 12 -> 14`; files by their last name."""
    pairs = {"build": (then.build, now.build)} | {
        key: (then.flags.get(key, NONE), now.flags.get(key, NONE))
        for key in sorted({*then.flags, *now.flags})
    }
    changed = {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}
    if NONE in changed.get("spec_type", ()):  # the rest of the draft comes and goes with it
        changed = {key: one for key, one in changed.items() if not key.startswith(_OF_DRAFTS)}
    return tuple(f"{key} {_last(old)} -> {_last(new)}" for key, (old, new) in changed.items())


NONE = "none"
_OF_DRAFTS = ("draft_", "n_draft", "threads_draft")


def _last(value: str) -> str:
    return value.rpartition("/")[2]
