"""llmctl scan"""

from typing import Annotated, Any

import typer

from llmctl.cli.boxes import LOCAL, open_box
from llmctl.cli.options import HostOption, JsonOption, VerboseOption
from llmctl.cli.output import answer, answer_json, gib, say, table, warn, width
from llmctl.cli.paths import absolute
from llmctl.core.gguf_facts import SERVED, Facts, Kind
from llmctl.core.memory.wanted import Plan
from llmctl.core.memory.words import in_words, on_gpus, too_much
from llmctl.core.profile import Profile
from llmctl.engine.scanning import Row, Scan
from llmctl.engine.scanning import scan as look

_KINDS = {
    Kind.EMBEDDING: "embedding model", Kind.PROJECTOR: "projector",
    Kind.DRAFT: "drafts for another model", Kind.ADAPTER: "adapter",
    Kind.CONTROL_VECTOR: "control vector", Kind.VOCABULARY: "vocabulary only",
    Kind.IMATRIX: "imatrix", Kind.OTHER: "not for llama-server",
}  # fmt: skip


def scan(
    directory: Annotated[
        str | None,
        typer.Argument(metavar="[DIR]", help="Where to look; models_dir of config.yaml."),
    ] = None,
    host: HostOption = LOCAL,
    json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """GGUF files: what they are, and what fits on this box."""
    box = open_box(host, verbose=verbose)
    seen = look(box, None if directory is None else absolute(box, directory))
    if json:
        answer_json(facts(seen, host=box.host.name))
        return
    if seen.rows:
        _show([_row(one) for one in seen.rows])
    else:
        answer(f"there are no GGUF files below {seen.directory}")
    for row in seen.rows:
        if row.error:
            warn(_printable(f"{row.file.name}: {row.error}"))
    for one in seen.warnings:
        warn(_printable(one))
    _say_next(seen, config=f"{box.store.config_dir}/config.yaml", given=directory is not None)


_HEADER = ("FILE", "ARCH", "PARAMS", "QUANT", "SIZE", "CTX", "FITS", "PROFILES")
_NARROW = 110
_DISPENSABLE = ("ARCH", "CTX")
"""Columns that a narrow terminal goes without."""


def _show(rows: list[tuple[str, ...]]) -> None:
    columns = width()
    narrow = columns is not None and columns < _NARROW
    kept = [n for n, word in enumerate(_HEADER) if not (narrow and word in _DISPENSABLE)]
    table([_HEADER[n] for n in kept], [[row[n] for n in kept] for row in rows])


def _say_next(seen: Scan, *, config: str, given: bool) -> None:
    if not seen.rows:
        elsewhere = "" if given else f", or models_dir: DIR in {config}"
        say(f"hint: Put one there, or look elsewhere: llmctl scan DIR{elsewhere}")
    elif any(_is_free(one) for one in seen.rows):
        say("hint: A profile for one of them: llmctl new NAME FILE")


def _is_free(one: Row) -> bool:
    """Could it be served, and has nobody said how?"""
    served = one.facts is not None and one.facts.kind in SERVED and not one.error
    return served and not one.profiles


def _row(one: Row) -> tuple[str, ...]:
    found = one.facts
    what = (found.architecture, found.size_label, found.quant) if found else ("", "", "")
    ctx = str(found.ctx_train) if found and found.ctx_train and found.kind in SERVED else ""
    cells = (
        one.file.name, *what, gib(one.file.size_bytes), ctx, verdict(one), " ".join(one.profiles),
    )  # fmt: skip
    return tuple(_printable(cell) or "-" for cell in cells)


def _printable(text: str) -> str:
    """Names of files and what stands in them may hold anything, even what moves the cursor."""
    return "".join(one if one.isprintable() else "?" for one in text)


def verdict(one: Row) -> str:
    """What a person wants to know of it."""
    if one.error or one.facts is None:
        return "error"
    if one.facts.kind not in SERVED:
        return _KINDS[one.facts.kind]
    told = _fits(one)
    return f"{told} ({_KINDS[Kind.EMBEDDING]})" if one.facts.kind is Kind.EMBEDDING else told


def _fits(one: Row) -> str:
    if one.plan is None:
        return "-"
    if not one.plan.fits:
        return f"no: {too_much(one.plan)}"
    beside = f", with {one.mmproj.rpartition('/')[2]}" if one.mmproj else ""
    return f"fits, {in_words(one.plan, one.units)}{beside}"


# JSON


def facts(seen: Scan, *, host: str) -> dict[str, Any]:
    """The JSON shape of `scan`; docs/reference/json.md holds it."""
    return {
        "host": host,
        "directory": seen.directory,
        "binary": seen.binary,
        "kv": Profile(name="", model="").kv,
        "files": [_facts(one) for one in seen.rows],
        "warnings": list(seen.warnings),
    }


def _facts(one: Row) -> dict[str, Any]:
    found = one.facts
    return {
        "file": one.file.name,
        "path": one.file.path,
        "size_bytes": one.file.size_bytes,
        "parts": one.file.parts,
        **(_about(found) if found else dict.fromkeys(_ABOUT)),
        "fits": one.plan and one.plan.fits,
        "plan": one.plan and _plan(one.plan, one.units),
        "mmproj": one.mmproj and one.mmproj.rpartition("/")[2],
        "profiles": list(one.profiles),
        "error": one.error,
    }


_ABOUT = (
    "kind", "name", "architecture", "parameters", "active_parameters", "quant", "ctx_train",
    "embedding_length", "missing_bytes",
)  # fmt: skip


def _about(found: Facts) -> dict[str, Any]:
    values = (
        found.kind.value, found.name, found.architecture or None, found.parameters, found.active,
        found.quant or None, found.ctx_train, found.width, found.missing_bytes,
    )  # fmt: skip
    return dict(zip(_ABOUT, values, strict=True))


def _plan(plan: Plan, units: int) -> dict[str, Any]:
    return {
        "ctx": plan.settings.ctx,
        "layers": units,
        "gpu_layers": on_gpus(plan, units),
        "cpu_moe_layers": plan.moved_layers,
        "lacking_bytes": sum(plan.lacking),
    }
