"""llmctl plan"""

import itertools
import sys
from collections.abc import Iterable
from typing import Annotated, Any

import msgspec
import typer
from msgspec.structs import replace

from llmctl.cli.boxes import LOCAL, open_box
from llmctl.cli.options import HostOption, JsonOption, VerboseOption, complete_profile
from llmctl.cli.output import answer, answer_json, complain, console, gib, is_terminal, table, warn
from llmctl.core.drafts import Chosen
from llmctl.core.memory.advice import shortage
from llmctl.core.memory.need import Need
from llmctl.core.memory.request import words_of
from llmctl.core.memory.wanted import Plan, Room, Wanted
from llmctl.core.profile import Profile
from llmctl.core.profile_rules import KV_TYPES
from llmctl.engine.box import Box
from llmctl.engine.devices import default_binary
from llmctl.engine.planning import (
    Place,
    Planned,
    declared_place,
    place_of,
    plan_file,
    plan_profile,
)
from llmctl.errors import DoesNotFitError, UsageError

BAR = 60
"""Characters of a bar: the whole memory of a device."""
_PARTS = (
    ("weights", "#", "blue"), ("KV", "=", "cyan"), ("state", "~", "cyan"),
    ("compute", "+", "yellow"), ("other", "*", "magenta"), ("reserve", ":", "dim"),
)  # fmt: skip


def _option(metavar: str, text: str) -> Any:
    return typer.Option(metavar=metavar, help=text)


def plan(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME|FILE", autocompletion=complete_profile, help="A profile or a GGUF file."
        ),
    ],
    ctx: Annotated[str | None, _option("N|auto", "Context in tokens.")] = None,
    kv: Annotated[str | None, _option("TYPE", "Type of K and V, or K,V.")] = None,
    parallel: Annotated[int | None, _option("N", "Slots.")] = None,
    unified: Annotated[
        bool | None, typer.Option("--unified/--no-unified", help="Slots share their cells.")
    ] = None,
    ubatch: Annotated[int | None, _option("N", "Physical batch size.")] = None,
    gpu_layers: Annotated[str | None, _option("N|all|auto", "Layers on the GPUs.")] = None,
    tensor_split: Annotated[str | None, _option("N,N|auto", "Units per device.")] = None,
    n_cpu_moe: Annotated[str | None, _option("N|auto", "Layers with experts on the CPU.")] = None,
    flash_attn: Annotated[str | None, _option("on|off", "Flash attention.")] = None,
    device: Annotated[
        list[str] | None,
        _option("NAME:TOTAL[:FREE]", "Plan for this device instead; may be repeated."),
    ] = None,
    devices: Annotated[
        str | None, _option("TOTAL,TOTAL", "Plan for CUDA devices of these sizes instead.")
    ] = None,
    host: HostOption = LOCAL,
    json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Where every byte of a model goes, and the flags that put it there."""
    given = (ctx, kv, parallel, unified, ubatch, gpu_layers, tensor_split, n_cpu_moe, flash_attn)
    box = open_box(host, verbose=verbose)
    found = _planned(box, name, _place(device or [], devices), given)
    if json:
        answer_json(facts(found))
    else:
        _show(found)
    if not found.plan.fits:
        error = _refusal(found)
        if not json:
            complain(error, as_json=False)
        raise typer.Exit(error.exit_status)


def _planned(box: Box, name: str, place: Place | None, given: tuple[Any, ...]) -> Planned:
    if name in box.store.names or not ("/" in name or name.endswith(".gguf")):
        return plan_profile(box, name, place, lambda wanted: _changed(wanted, *given))
    path = name
    if box.host.stat(path) is None:
        path = box.store.model_path(name)
    if place is None:
        binary = default_binary(box.store.config)
        place = place_of(box, Profile(name="plan", model=path, binary=binary))
    return plan_file(box, path, place, _changed(Wanted(), *given))


def _place(device: list[str], devices: str | None) -> Place | None:
    if device and devices:
        raise UsageError("--device and --devices exclude each other.")
    if devices:
        device = [f"CUDA{n}:{size}" for n, size in enumerate(devices.split(","))]
    return declared_place(device) if device else None


def _changed(
    wanted: Wanted, ctx: str | None, kv: str | None, parallel: int | None, unified: bool | None,
    ubatch: int | None, gpu_layers: str | None, tensor_split: str | None, n_cpu_moe: str | None,
    flash_attn: str | None,
) -> Wanted:  # fmt: skip
    """A request with what was said on the command line."""
    if ctx is not None:
        wanted = replace(wanted, ctx=_number("--ctx", ctx, least=1))
    if gpu_layers is not None:
        layers = None if gpu_layers == "all" else _number("--gpu-layers", gpu_layers)
        wanted = replace(wanted, gpu_layers=layers, all_layers=gpu_layers == "all")
    if n_cpu_moe is not None:
        wanted = replace(wanted, n_cpu_moe=_number("--n-cpu-moe", n_cpu_moe))
    if tensor_split is not None:
        numbers = [_number("--tensor-split", one) for one in tensor_split.split(",")]
        split = None if None in numbers else tuple(one for one in numbers if one is not None)
        wanted = replace(wanted, tensor_split=split)
    settings = wanted.settings
    if kv is not None:
        k, _, v = kv.partition(",")
        settings = replace(settings, type_k=_type(k), type_v=_type(v or k))
    if flash_attn is not None and flash_attn not in ("on", "off", "auto"):
        raise UsageError(f"--flash-attn {flash_attn}: expected on or off.")
    return replace(wanted, settings=replace(
        settings,
        parallel=settings.parallel if parallel is None else _positive("--parallel", parallel),
        unified=settings.unified if unified is None else unified,
        ubatch=settings.ubatch if ubatch is None else _positive("--ubatch", ubatch),
        batch=max(settings.batch, ubatch or 0),
        flash_attn=settings.flash_attn if flash_attn is None else flash_attn != "off",
    ))  # fmt: skip


def _number(option: str, text: str, *, least: int = 0) -> int | None:
    if text == "auto":
        return None
    if not (text.isascii() and text.isdigit() and least <= int(text) < 1 << 31):
        raise UsageError(f"{option} {text}: expected a whole number from {least}, or auto.")
    return int(text)


def _positive(option: str, number: int) -> int:
    if not 0 < number < 1 << 31:
        raise UsageError(f"{option} {number}: expected a whole number from 1.")
    return number


def _type(name: str) -> str:
    if name not in KV_TYPES:
        raise UsageError(f"--kv {name}: expected one of {', '.join(KV_TYPES)}.")
    return name


def _refusal(found: Planned) -> DoesNotFitError:
    hint = f"This would fit: {'; '.join(found.plan.remedies)}." if found.plan.remedies else None
    return DoesNotFitError(f"{found.name} does not fit: {shortage(found.plan)}.", hint=hint)


# What is printed


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
        "cache_ram_max_bytes": made.estimate.cache_ram_max_bytes,
        "checkpoints_max_bytes": made.estimate.checkpoints_max_bytes,
        "offers": list(made.offers),
        "remedies": list(made.remedies),
        "warnings": list(found.warnings),
    }
    if not made.fits:
        error = _refusal(found)
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


def _show(found: Planned) -> None:
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
