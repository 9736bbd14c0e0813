"""An estimate beside what a log says was allocated: what is equal, what is not, and what it means.

Weights, KV and state are computed by llama.cpp's own rules, so where they differ a rule is wrong
or missing. Compute and output are estimates, and what drafts or sees is compared as one sum.
"""

import enum
from collections.abc import Sequence

import msgspec

from llmctl.core.buffers import HOST, Amount, Buffer, Start, by_home, drafting, sums, target
from llmctl.core.memory.need import Estimate, Need
from llmctl.core.memory.place import CPU, Placement
from llmctl.core.memory.settings import MIB, Settings
from llmctl.core.memory.weights import INPUT, Weights

KINDS = {"weights": "model", "kv": "KV", "state": "RS", "compute": "compute", "output": "output"}
_EXACT = ("weights", "kv", "state")
_PLAIN = ("_Mapped", "_Host", "CPU", "Host")
"""Host buffers of tensors as they are in the file; others (AMX, CPU_REPACK) lay them out anew."""


class Verdict(enum.Enum):
    """What a difference means."""

    EQUAL = "equal"  # as far as the log tells: to 0.01 MiB a line
    WITHIN = "within"  # an estimate, no further off than was said
    BEYOND = "beyond"  # an estimate, further off than was said
    DEVIATES = "deviates"  # should be equal and is not
    UNJUDGED = "unjudged"  # should be, but not by this log: a span of a file, weights laid out anew


class Row(msgspec.Struct, frozen=True):
    """One part of one device. error_bytes: how far off the prediction may be."""

    device: str
    part: str
    predicted_bytes: int
    observed_bytes: int
    verdict: Verdict
    error_bytes: int = 0

    @property
    def difference_bytes(self) -> int:
        """Observed less predicted."""
        return self.observed_bytes - self.predicted_bytes


def in_bytes(amount: Amount | None) -> int:
    """To the log's precision."""
    return round(amount.mib * MIB) if amount else 0


def compared(estimate: Estimate, start: Start, *, span_bytes: int = 0) -> tuple[Row, ...]:
    """All parts of all devices of which the estimate or the log knows something.

    span_bytes: from the first to the last byte of the host's tensors in the file: what older
    builds call the size of a mapped buffer, whatever lies between them.
    """
    weights, context = target(start)
    seen = sums((*weights, *context))
    drafts, images = by_home(drafting(start)), by_home(start.images)
    needs = {need.name: need for need in (*estimate.devices, estimate.host)}
    homes = dict.fromkeys((*needs, *(home for home, _ in seen), *drafts, *images))
    rows: list[Row] = []
    for home in homes:
        need = needs.get(home) or Need(name=home)
        for part, kind in KINDS.items():
            row = _row(need, part, seen.get((home, kind)))
            if part == "weights" and home == HOST:
                row = _of_host(row, weights, span_bytes)
            rows.append(row)
        rows.append(_sum(need, "draft", need.draft_bytes, drafts.get(home)))
        rows.append(_sum(need, "mmproj", need.mmproj_bytes, images.get(home)))
    return tuple(row for row in rows if row.predicted_bytes or row.observed_bytes)


def _row(need: Need, part: str, amount: Amount | None) -> Row:
    predicted: int = getattr(need, f"{part}_bytes")
    observed = in_bytes(amount)
    off = abs(observed - predicted)
    tolerance = (amount or Amount(0.0)).tolerance_mib * MIB
    if off <= tolerance:
        return Row(need.name, part, predicted, observed, Verdict.EQUAL)
    if part in _EXACT:
        return Row(need.name, part, predicted, observed, Verdict.DEVIATES)
    if part == "output":  # of how many tokens at most is the server's to choose
        return Row(need.name, part, predicted, observed, Verdict.WITHIN, predicted)
    error = need.compute_error_bytes
    verdict = Verdict.WITHIN if off <= error + tolerance else Verdict.BEYOND
    return Row(need.name, part, predicted, observed, verdict, error)


def _sum(need: Need, part: str, predicted: int, amount: Amount | None) -> Row:
    """What is compared as one sum is an estimate, since compute is in it."""
    observed = in_bytes(amount)
    error = need.compute_error_bytes
    verdict = Verdict.WITHIN if abs(observed - predicted) <= error + MIB // 100 else Verdict.BEYOND
    return Row(need.name, part, predicted, observed, verdict, error)


def _of_host(row: Row, weights: Sequence[Buffer], span_bytes: int) -> Row:
    """Weights on the host are judged only where the log says what they take as they are."""
    if row.verdict is Verdict.EQUAL:
        return row
    own = [one for one in weights if one.home == HOST]
    as_they_are = all(one.type.endswith(_PLAIN) for one in own)
    mapped = any(one.type.endswith("_Mapped") for one in own)
    tolerance = Amount(0.0, len(own)).tolerance_mib * MIB
    within = row.predicted_bytes - tolerance <= row.observed_bytes <= span_bytes + tolerance
    if not as_they_are or (mapped and within):
        return msgspec.structs.replace(row, verdict=Verdict.UNJUDGED)
    return row


def deviations(rows: Sequence[Row]) -> tuple[Row, ...]:
    """The parts that should be equal and are not."""
    return tuple(row for row in rows if row.verdict is Verdict.DEVIATES)


def told(row: Row) -> str:
    """A row in words: `CUDA0 kv: 8.00 MiB predicted, 10.00 observed`."""
    mib = (row.predicted_bytes / MIB, row.observed_bytes / MIB)
    return f"{row.device} {row.part}: {mib[0]:.2f} MiB predicted, {mib[1]:.2f} observed"


def span(weights: Weights, settings: Settings, where: Placement) -> int:
    """From the first to the last byte of the host's tensors, of each part of the file
    (llama-model-loader.cpp: get_mapping_range)."""
    moved = {piece.name: target for piece, target in weights.overridden(settings.overrides)}
    ends: dict[int, tuple[int, int]] = {}
    for piece in weights.pieces:
        by_rule = piece.unit == INPUT or (piece.expert and piece.unit < settings.n_cpu_moe)
        on_host = by_rule or where.of(piece.unit) == CPU
        if piece.name in moved:
            on_host = moved[piece.name] == "CPU"
        if on_host:
            one = piece.tensor
            first, last = ends.get(one.part, (one.offset, 0))
            ends[one.part] = min(first, one.offset), max(last, one.offset + one.nbytes)
    return sum(last - first for first, last in ends.values())
