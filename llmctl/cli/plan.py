"""llmctl plan"""

from typing import Annotated, Any

import typer
from msgspec.structs import replace

from llmctl.cli.boxes import LOCAL, open_box
from llmctl.cli.options import HostOption, JsonOption, VerboseOption, complete_profile
from llmctl.cli.output import answer_json, complain
from llmctl.cli.plan_more import More, more_facts, read_now, show_more
from llmctl.cli.plan_output import facts, refusal, show
from llmctl.core.memory.wanted import Wanted
from llmctl.core.profile import Profile
from llmctl.core.profile_parts import MOST_SLOTS
from llmctl.core.profile_rules import KV_TYPES
from llmctl.engine.box import Box
from llmctl.engine.devices import default_binary
from llmctl.engine.learning import observed as observed_of
from llmctl.engine.planning import (
    MAKE_WAY,
    Place,
    Planned,
    declared_place,
    place_of,
    plan_file,
    plan_profile,
)
from llmctl.engine.pool import held_now
from llmctl.engine.verify import Verified
from llmctl.engine.verify import verify as ask
from llmctl.errors import UsageError


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
    observed: Annotated[
        bool, typer.Option("--observed", help="Show what the last start allocated beside it.")
    ] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Show what llama-fit-params says beside it.")
    ] = False,
    host: HostOption = LOCAL,
    json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Where every byte of a model goes, and the flags that put it there."""
    given = (ctx, kv, parallel, unified, ubatch, gpu_layers, tensor_split, n_cpu_moe, flash_attn)
    box, place = open_box(host, verbose=verbose), _place(device or [], devices)
    found, more = _with(box, name, place, given, observed=observed, verify=verify)
    _tell(found, more, as_json=json)


def _with(
    box: Box, name: str, place: Place | None, given: tuple[Any, ...], *, observed: bool,
    verify: bool,
) -> tuple[Planned, More]:  # fmt: skip
    """The plan, and what was asked for beside it."""
    if not name.isprintable():
        raise UsageError(f"{name!a} is no name that can be written: rename the file.")
    is_profile = name in box.store.names or not ("/" in name or name.endswith(".gguf"))
    if observed and not is_profile:
        raise UsageError("--observed is about a profile: a file alone was not started by llmctl.")
    if observed:
        read_now(box, name)
    found = (_of_profile if is_profile else _of_file)(box, name, place, given)
    seen = observed_of(box, name, found.plan) if observed else None
    asked = _verified(box, name, found, is_profile=is_profile) if verify else None
    return found, More(observed, seen, asked)


def _tell(found: Planned, more: More, *, as_json: bool) -> None:
    """Print it. A plan that does not fit is an answer, and status 4."""
    if as_json:
        answer_json(facts(found) | more_facts(more))
    else:
        show(found)
        show_more(found, more)
    if not found.plan.fits:
        error = refusal(found)
        if not as_json:
            complain(error, as_json=False)
        raise typer.Exit(error.exit_status)


def _of_profile(box: Box, name: str, place: Place | None, given: tuple[Any, ...]) -> Planned:
    found = plan_profile(box, name, place, lambda wanted: _changed(wanted, *given))
    if place is not None or not any(MAKE_WAY in one for one in found.warnings):
        return found
    return replace(found, warnings=(*found.warnings, *held_now(box, name)))


def _of_file(box: Box, name: str, place: Place | None, given: tuple[Any, ...]) -> Planned:
    path = _path(box, name)
    place = place or place_of(box, _bare(box, path))
    return plan_file(box, path, place, _changed(Wanted(), *given))


def _path(box: Box, name: str) -> str:
    return box.store.model_path(name) if box.host.stat(name) is None else name


def _bare(box: Box, path: str) -> Profile:
    """A file as a profile that says nothing else."""
    return Profile(name="plan", model=path, binary=default_binary(box.store.config))


def _verified(box: Box, name: str, found: Planned, *, is_profile: bool) -> Verified:
    if is_profile:
        profile = box.store.profile(name)
        return ask(box, profile, box.store.model_path(profile.model), found.plan)
    path = _path(box, name)
    return ask(box, _bare(box, path), path, found.plan)


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
        parallel=settings.parallel if parallel is None else _slots(parallel),
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


def _slots(number: int) -> int:
    if not 1 <= number <= MOST_SLOTS:
        raise UsageError(f"--parallel {number}: llama.cpp takes 1 to {MOST_SLOTS}.")
    return number


def _positive(option: str, number: int) -> int:
    if not 0 < number < 1 << 31:
        raise UsageError(f"{option} {number}: expected a whole number from 1.")
    return number


def _type(name: str) -> str:
    if name not in KV_TYPES:
        raise UsageError(f"--kv {name}: expected one of {', '.join(KV_TYPES)}.")
    return name
