"""What `llmctl plan` prints: a table and bars for people, and its JSON."""

import itertools
import sys
from collections.abc import Iterable
from typing import Any

import msgspec

from llmctl.cli.output import answer, console, gib, is_terminal, table, warn
from llmctl.core.drafts import Chosen
from llmctl.core.memory.need import Need
from llmctl.core.memory.request import words_of
from llmctl.core.memory.wanted import Plan, Room
from llmctl.engine.planning import Planned
from llmctl.errors import DoesNotFitError

BAR = 60
"""Characters of a bar: the whole memory of a device."""
_PARTS = (
    ("weights", "#", "blue"), ("KV", "=", "cyan"), ("state", "~", "cyan"),
    ("compute", "+", "yellow"), ("other", "*", "magenta"), ("reserve", ":", "dim"),
)  # fmt: skip


def refusal(found: Planned) -> DoesNotFitError:
    """The error of a plan that does not fit, with what would."""
    hint = f"This would fit: {'; '.join(found.plan.remedies)}." if found.plan.remedies else None
    return DoesNotFitError(f"{found.name} does not fit: {found.why_not}.", hint=hint)


def facts(found: Planned) -> dict[str, Any]:
    """The JSON shape of `plan`; docs/reference/json.md holds it."""
    made = found.plan
    told: dict[str, Any] = {
        "profile": found.name,
        "fits": made.fits,
        "exact": made.estimate.exact,
        "ctx": made.estimate.n_ctx,
        "args": [*words_of(made), *found.draft.words],
        "draft": msgspec.to_builtins(found.draft),
        "devices": [_facts(*pair) for pair in _pairs(made)],
        "host": _facts(made.estimate.host, made.ram),
        "era": made.estimate.era.name,
        "compute_from": "observed" if made.estimate.is_seen else "estimated",
        "cache_ram_max_bytes": made.estimate.cache_ram_max_bytes,
        "checkpoints_max_bytes": made.estimate.checkpoints_max_bytes,
        "offers": list(made.offers),
        "remedies": list(made.remedies),
        "warnings": list(found.warnings),
    }
    if not made.fits:
        error = refusal(found)
        told["error"] = {
            "message": error.message, "hint": error.hint, "status": error.exit_status,
        }  # fmt: skip
    return told


def _pairs(made: Plan) -> Iterable[tuple[Need, Room]]:
    return zip(made.estimate.devices, made.rooms, strict=True)


def _facts(need: Need, room: Room | None) -> dict[str, Any]:
    return {
        "name": need.name,
        "total_bytes": room and room.total_bytes,
        "free_bytes": room and room.free_bytes,
        "reserve_bytes": room and room.reserve_bytes,
        "weights_bytes": need.weights_bytes,
        "kv_bytes": need.kv_bytes,
        "state_bytes": need.state_bytes,
        "compute_bytes": need.compute_bytes,
        "compute_error_bytes": need.compute_error_bytes,
        "mmproj_bytes": need.mmproj_bytes,
        "draft_bytes": need.draft_bytes,
        "output_bytes": need.output_bytes,
        "total_need_bytes": need.total_bytes,
    }


def show(found: Planned) -> None:
    """A plan for people: the table, a bar per device, the flags, offers and warnings."""
    made = found.plan
    host = (made.estimate.host, made.ram)
    header = ("DEVICE", "WEIGHTS", "KV", "STATE", "COMPUTE", "OTHER", "NEEDS", "OF", "LEFT")
    table(header, [_row(*pair) for pair in (*_pairs(made), host)])
    answer("")
    for need, room in (*_pairs(made), host):
        if room:
            _bar(need, room)
    answer("")
    answer(f"flags: {' '.join((*words_of(made), *found.draft.words))}")
    if found.draft != Chosen():
        answer(f"draft: {found.draft.told}")
    if made.estimate.is_seen:
        answer("compute: as a start with these settings had it")
    if not made.estimate.exact:
        answer("not exact: see the warnings")
    for one in made.offers:
        answer(f"offer: {one}")
    for one in found.warnings:
        warn(one)


def _other(need: Need) -> int:
    return need.mmproj_bytes + need.draft_bytes + need.output_bytes


def _row(need: Need, room: Room | None) -> tuple[str, ...]:
    parts = (need.weights_bytes, need.kv_bytes, need.state_bytes)
    compute = gib(need.compute_bytes)
    if need.compute_error_bytes >> 20:
        compute += f" ±{need.compute_error_bytes >> 20}"
    left = room.usable_bytes - need.total_bytes if room else None
    return (
        need.name, *map(gib, parts), compute, gib(_other(need)), gib(need.total_bytes),
        gib(room.usable_bytes if room else None),
        "-" if left is None else gib(left) if left >= 0 else f"-{gib(-left)}",
    )  # fmt: skip


def _bar(need: Need, room: Room) -> None:
    """One line per device: its memory from left to right, by what is in it."""
    sizes = (
        need.weights_bytes, need.kv_bytes, need.state_bytes, need.compute_bytes, _other(need),
        room.total_bytes - room.usable_bytes,
    )  # fmt: skip
    ends, at = [0], 0
    for size in sizes:
        at += size
        ends.append(min(BAR, round(BAR * at / max(1, room.total_bytes))))
    widths = [end - begin for begin, end in itertools.pairwise(ends)]
    share = f"{100 * at / max(1, room.total_bytes):.0f} % of {gib(room.total_bytes)}"
    excess = " TOO MUCH" if at > room.total_bytes else ""
    if is_terminal(sys.stdout):
        _coloured(need.name, widths, f"{share}{excess}")
        return
    drawn = "".join(sign * n for (_, sign, _), n in zip(_PARTS, widths, strict=True))
    legend = " ".join(
        f"{sign} {word}" for (word, sign, _), n in zip(_PARTS, sizes, strict=True) if n
    )
    answer(f"{need.name:8} [{drawn.ljust(BAR, '.')}] {share}{excess}  ({legend})")


def _coloured(name: str, widths: list[int], share: str) -> None:
    from rich.text import Text

    line = Text(f"{name:8} ")
    for (_, _, style), width in zip(_PARTS, widths, strict=True):
        line.append("█" * width, style=style)
    line.append("░" * (BAR - sum(widths)), style="dim")
    line.append(f" {share}  ")
    for word, _, style in _PARTS:
        line.append(f"█ {word} ", style=style)
    console(sys.stdout).print(line)
