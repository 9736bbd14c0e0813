"""From the words of a llama-server that ran to the Settings that it ran with, and back to words."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from msgspec.structs import asdict, replace

from llmctl.core.buffers import HOST
from llmctl.core.drafts import HOST as NO_DEVICE
from llmctl.core.drafts import NGRAM_MAX
from llmctl.core.memory.context import shape_of
from llmctl.core.memory.model import Model
from llmctl.core.memory.settings import Override, Settings

_NUMBERS = ("ctx", "main_gpu", "n_cpu_moe", "batch", "ubatch")
_TEXTS = ("split_mode", "type_k", "type_v")
_SWITCHES = ("kv_offload", "swa_full", "op_offload")
_EXPERTS = Override(r"\.ffn_(up|down|gate|gate_up)_(ch|)exps", "CPU")
SETTINGS_WORDS = frozenset({
    "ctx", "gpu_layers", "tensor_split", "split_mode", "main_gpu", "n_cpu_moe", "overrides",
    "cpu_moe", "type_k", "type_v", "parallel", "unified", "batch", "ubatch", "flash_attn",
    "kv_offload", "swa_full", "op_offload",
})  # fmt: skip
"""Words that Settings hold all there is to know of."""
_NOT_MODELLED = frozenset({
    "lora", "control_vector", "n_cpu_ffn", "moe_cache", "pool_per_slot", "override_kv",
    "embeddings", "draft_ubatch", "image_devices", "image_offload", "rope",
})  # fmt: skip
DEFAULT_SLOTS = 4
"""Without -np, and then their cells are one pool (tools/server/server.cpp)."""
DEFAULT_DRAFT = 3
DIVIDED = "divided"
"""In place of the device of a draft model that is on several."""
NOT_COMPUTE = ("cache_ram_bytes", "checkpoints")
"""Settings that are no part of what is allocated at a start."""


def settings_said(said: Mapping[str, str]) -> Settings:
    """What `said` (core/said.py) makes a llama-server do; what is absent has its default."""
    known: dict[str, Any] = {name: _number(said[name]) for name in _NUMBERS if name in said}
    known |= {name: said[name] for name in _TEXTS if name in said}
    known |= {name: said[name] == "on" for name in _SWITCHES if name in said}
    kinds = said.get("spec_type", "").split(",")
    mtp = "draft-mtp" in kinds
    drawn = _number(said.get("n_draft", ""), DEFAULT_DRAFT) if mtp or "draft" in said else 0
    return Settings(
        **known,
        gpu_layers=_layers(said.get("gpu_layers", "")),
        tensor_split=tuple(map(_share, re.split("[,/;]", said.get("tensor_split", "") or "0"))),
        overrides=tuple(_overrides(said)),
        parallel=max(1, _number(said.get("parallel", "-1"), DEFAULT_SLOTS)),
        unified=said.get("unified", "on" if "parallel" not in said else "off") == "on",
        flash_attn=said.get("flash_attn", "auto") not in ("off", "0"),
        mtp=mtp,
        n_draft=max(drawn, NGRAM_MAX if "ngram-mod" in kinds else 0),
        draft_k=said.get("draft_type_k", "f16"),
        draft_v=said.get("draft_type_v", "f16"),
    )


def seat_said(said: Mapping[str, str], devices: Sequence[str]) -> str | None:
    """The device that a draft model was on, HOST, or DIVIDED over several; None: there was none.
    devices: those of the model."""
    if "draft" not in said:
        return None
    named = [one for one in said.get("draft_devices", ",".join(devices)).split(",") if one]
    if not named or named == [NO_DEVICE] or said.get("draft_gpu_layers") == "0":
        return HOST
    return named[0] if len(named) == 1 else DIVIDED


def _number(text: str, default: int = 0) -> int:
    return int(text) if re.fullmatch(r"\d{1,9}", text) else default


def _layers(text: str) -> int | None:
    return int(text) if re.fullmatch(r"\d{1,9}", text) else None


def _share(text: str) -> float:
    return float(text) if re.fullmatch(r"\d{1,9}(\.\d*)?", text) else 0.0


def _overrides(said: Mapping[str, str]) -> Iterator[Override]:
    for one in filter(None, said.get("overrides", "").split(",")):
        pattern, _, where = one.rpartition("=")
        yield Override(pattern, where)
    if "cpu_moe" in said:
        yield _EXPERTS


def not_modelled(said: Mapping[str, str], environment: Mapping[str, str]) -> tuple[str, ...]:
    """What a server was told whose effect on memory no rule here covers."""
    words = [name for name in sorted(said) if name in _NOT_MODELLED]
    words += ["draft_devices"] if "," in said.get("draft_devices", "") else []
    words += ["fit"] if said.get("fit", "off") != "off" else []
    return (*words, *(name for name in environment if name.startswith("LLAMA_ARG_")))


def normal(settings: Settings, model: Model, devices: int) -> Settings:
    """Settings that allocate the same become equal: `-ngl 999` is all layers, of one device
    there is no split, no slot has a pool of its own with itself. A draft model is none of them."""
    units = len(model.layers) + 1
    layers = units if settings.gpu_layers is None else min(settings.gpu_layers, units)
    shape = shape_of(model, settings)
    split = settings.tensor_split[:devices] if devices > 1 else ()
    return replace(
        settings, ctx=shape.n_ctx, ubatch=shape.ubatch, gpu_layers=layers if devices else 0,
        tensor_split=split if any(split) else (),
        n_cpu_moe=min(settings.n_cpu_moe, len(model.layers)),
        cache_ram_bytes=0, checkpoints=0, draft_k=settings.draft_k if settings.mtp else "f16",
        draft_v=settings.draft_v if settings.mtp else "f16",
    )  # fmt: skip


def differing(before: Settings, now: Settings) -> Iterator[str]:
    """What differs between two normal settings, in words: `ctx 8192, now 16384`."""
    old, new = asdict(before), asdict(now)
    for name, was in old.items():
        if name not in NOT_COMPUTE and was != new[name]:
            yield f"{name} {_word(was)}, now {_word(new[name])}"


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if not isinstance(value, tuple):
        return str(value)
    parts = (
        f"{one.pattern}={one.where}" if isinstance(one, Override) else f"{one:g}" for one in value
    )
    return ",".join(parts) or "none"
