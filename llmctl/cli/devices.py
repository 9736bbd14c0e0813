"""llmctl devices"""

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from llmctl.cli.boxes import LOCAL, open_box
from llmctl.cli.options import HostOption, JsonOption, VerboseOption
from llmctl.cli.output import answer, answer_json, gib, table, warn
from llmctl.core.devices import RAM, Gpu, Ram, used_by_default
from llmctl.engine.devices import Survey, survey


def devices(
    binary: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Whose view: a binary of config.yaml."),
    ] = None,
    host: HostOption = LOCAL,
    json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """GPUs and memory, as the binary sees them."""
    box = open_box(host, verbose=verbose)
    seen = survey(box, binary=binary)
    if json:
        answer_json(facts(seen, host=box.host.name))
        return
    header = ("NAME", "DESCRIPTION", "TOTAL", "FREE", "RESERVE", "DISPLAY")
    table(header, [_row(gpu) for gpu in seen.gpus] + [_ram_row(seen.ram)])
    for note in _notes(seen):
        answer(note)
    for warning in seen.warnings:
        warn(warning)


def _row(gpu: Gpu) -> tuple[str, ...]:
    sizes = (gpu.total_bytes, gpu.free_bytes, gpu.reserve_bytes)
    return (gpu.name, gpu.description, *map(gib, sizes), "yes" if gpu.display else "-")


def _ram_row(ram: Ram | None) -> tuple[str, ...]:
    sizes = (ram.total_bytes, ram.free_bytes, ram.reserve_bytes) if ram else (None, None, None)
    return (RAM, "host memory", *map(gib, sizes), "-")


def _notes(seen: Survey) -> Iterator[str]:
    """Why llama.cpp leaves a device out unless it is named."""
    used = used_by_default(seen.gpus)
    for gpu in seen.gpus:
        if gpu in used:
            continue
        if gpu.integrated:
            yield f"{gpu.name}: shares the host's memory; not used beside other devices"
        else:
            twin = next(one.name for one in used if one.pci == gpu.pci)
            yield f"{gpu.name}: the same card as {twin}; not used beside it"
    if not seen.gpus:
        yield f"{seen.binary} sees no GPU: models run on the CPU, in host memory"


def facts(seen: Survey, *, host: str) -> dict[str, Any]:
    """The JSON shape of `devices`; docs/reference/json.md holds it."""
    used = used_by_default(seen.gpus)
    return {
        "host": host,
        "binary": seen.binary,
        "devices": [_facts(gpu, used=gpu in used) for gpu in seen.gpus],
        "ram": seen.ram and {
            "total_bytes": seen.ram.total_bytes,
            "free_bytes": seen.ram.free_bytes,
            "reserve_bytes": seen.ram.reserve_bytes,
            "source": seen.ram.source,
        },
        "warnings": list(seen.warnings),
    }  # fmt: skip


def _facts(gpu: Gpu, *, used: bool) -> dict[str, Any]:
    return {
        "name": gpu.name,
        "description": gpu.description,
        "backend": gpu.backend,
        "total_bytes": gpu.total_bytes,
        "free_bytes": gpu.free_bytes,
        "reserve_bytes": gpu.reserve_bytes,
        "display": gpu.display,
        "integrated": gpu.integrated,
        "used": used,
        "pci": gpu.pci,
        "temperature_c": gpu.temperature_c,
        "source": gpu.source,
    }
