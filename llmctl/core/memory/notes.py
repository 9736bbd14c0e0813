"""What a person should know of a plan: where it is not exact, and which traps it walks into."""

from collections.abc import Iterable, Sequence

from llmctl.core.gguf_types import BY_NAME
from llmctl.core.memory.context import Shape, cache_type
from llmctl.core.memory.kernels import has_kernel
from llmctl.core.memory.model import Model
from llmctl.core.memory.settings import Device, Settings, is_known
from llmctl.core.memory.weights import scans

GIB = 1 << 30
_SPLIT_MODES = ("layer", "none")


def notes(
    model: Model, settings: Settings, devices: Sequence[Device], shape: Shape
) -> tuple[tuple[str, ...], bool]:
    """The warnings, and whether weights and context are exact."""
    doubts = tuple(_doubts(model, settings, devices))
    traps = (*_traps(model, settings, shape), *_quirks(model, settings, devices))
    return (*doubts, *traps, *_slots(model, settings)), not doubts


def _doubts(model: Model, settings: Settings, devices: Sequence[Device]) -> Iterable[str]:
    if model.traits.guess:
        yield (
            f"The architecture {model.architecture or '(none named)'} is not covered exactly:"
            f" {model.traits.guess}. Its cache is an upper bound."
        )
    strange = sorted({t.type for t in model.tensors if t.type not in BY_NAME})
    if strange:
        yield (
            f"Tensors of {', '.join(strange)} are of no type llama.cpp has: counted as what they"
            " take in the file."
        )
    if model.missing_bytes:
        yield f"The file lacks {model.missing_bytes} bytes at its end: it is not all there."
    if settings.split_mode not in _SPLIT_MODES:
        yield (
            f"--split-mode {settings.split_mode} divides each tensor: devices are priced as if"
            " layers were divided."
        )
    for device in devices:
        if not is_known(device.name):
            yield f"How {device.name} lays out its memory is not known: priced as if it were CUDA."
    if len(devices) > 1 and not any(settings.tensor_split) and settings.split_mode == "layer":
        yield (
            "Without --tensor-split, llama.cpp divides layers by the memory that is free when it"
            " starts: what is where may differ."
        )


def _traps(model: Model, settings: Settings, shape: Shape) -> Iterable[str]:
    k, v = cache_type(settings.type_k), cache_type(settings.type_v)
    if k != v and model.is_mla:
        yield (
            f"This model (MLA) keeps keys only, and llama.cpp refuses K and V of different types:"
            f" make both {k.name}."
        )
    elif k != v:
        yield (
            f"K is {k.name} and V is {v.name}: without a kernel for that pair, attention leaves the"
            " GPU and speed falls to a tenth."
        )
    if v.is_quantized and not settings.flash_attn and not model.is_mla:
        yield f"A V cache of {v.name} needs flash attention: llama.cpp will not start without."
    if settings.flash_attn and not has_kernel(model):
        yield (
            f"CUDA has no flash attention for this model's heads ({max(model.head_k)} wide): forced"
            " on, it runs on the CPU and copies the cache there. Use `flash_attn: auto` or `off`."
        )
    for name, type_ in (("K", k), ("V", v)):
        widths = {layer.k if name == "K" else layer.v for layer in model.layers}
        if any(width % type_.block for width in widths):
            yield f"A {name} cache of {type_.name} needs rows in multiples of {type_.block}."
    if model.n_ctx_train and shape.cells > model.n_ctx_train:
        yield (
            f"A context of {shape.cells} goes beyond the {model.n_ctx_train} the model was trained"
            " for: answers get worse there."
        )
    if model.architecture == "deepseek2" and not model.is_mla:
        yield (
            "This DeepSeek file is from before MLA: its cache takes 40 to 70 times what a newer"
            " conversion's does. Get a newer one."
        )


def _quirks(model: Model, settings: Settings, devices: Sequence[Device]) -> Iterable[str]:
    """Steps that a device cannot do, so that each layer goes through the host (seen in 0.7.0)."""
    without = next((one.name for one in devices if one.name.startswith("Vulkan")), None)
    if without is None:
        return
    if any(scans(tensor) for tensor in model.tensors):
        yield (
            f"{without} does not run the recurrence of {model.architecture}: the CPU does, in each"
            " layer. That is slow, and its compute buffers are not predicted."
        )
    k, layers = cache_type(settings.type_k), settings.gpu_layers
    if settings.flash_attn or not any(one.k for one in model.layers):
        return
    if k.is_quantized or (layers is not None and layers <= len(model.layers)):
        which = f"keys of {k.name}" if k.is_quantized else "keys that are in host memory"
        yield (
            f"Without flash attention, {without} leaves {which} to the CPU. That is slow, and its"
            " compute buffers are not predicted."
        )


def _slots(model: Model, settings: Settings) -> Iterable[str]:
    if settings.parallel > 1 and model.has_state:
        yield (
            f"{settings.parallel} slots keep {settings.parallel} recurrent states; one slot would"
            " need a share of that."
        )
    elif settings.parallel > 1 and model.has_swa and not settings.swa_full:
        yield (
            f"{settings.parallel} slots multiply the cache of the layers with a sliding window by"
            f" {settings.parallel}."
        )


def ram_notes(needed: int, loaded: int, checkpoints: int, ram: int) -> Iterable[str]:
    """What the host may be asked for beyond what it has. ram: 0 is unknown."""
    if not ram or needed <= ram:
        return
    if loaded > ram:
        yield f"The model alone takes {loaded / GIB:.1f} GiB of the host's {ram / GIB:.1f} GiB."
        return
    yield (
        f"Prompt cache and checkpoints ({checkpoints / GIB:.1f} GiB) may grow the server to"
        f" {needed / GIB:.1f} GiB; the host has {ram / GIB:.1f} GiB. Lower --cache-ram or"
        " --ctx-checkpoints."
    )
