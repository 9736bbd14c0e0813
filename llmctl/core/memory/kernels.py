"""Which shapes of heads CUDA's flash attention has kernels for.

ggml-cuda/fattn.cu (ggml_cuda_get_best_fattn_kernel) of llama.cpp b11434. For others, and with flash
attention forced on, llama.cpp attends on the CPU, and copies a layer's keys and values to it.
"""

from llmctl.core.memory.model import Layer, Model

_SQUARE = frozenset({40, 64, 72, 80, 96, 112, 128, 256})
_GROUPED = {(192, 128): 8, (320, 256): 32, (512, 512): 2, (576, 512): 1}
"""Widths of K and V whose number of queries per key must be a multiple of this (512: at least)."""


def has_kernel(model: Model) -> bool:
    """True if every layer with attention can be attended to on the device."""
    if model.traits.cacheless:
        return set(model.head_k) <= _SQUARE
    return all(_fits(model, n, layer) for n, layer in enumerate(model.layers) if layer.k)


def _fits(model: Model, n: int, layer: Layer) -> bool:
    key, heads = model.head_k[n], model.heads[n]
    groups = layer.k // key if key else 0
    if not groups or heads < groups:
        return True  # no attention that anything is known of
    value = model.lora_kv if model.is_mla else layer.v // groups
    if key == value and key in _SQUARE:
        return True
    ratio = heads // groups
    wanted = _GROUPED.get((key, value), 0)
    return wanted > 0 and ratio >= max(2, wanted) and (key == 512 or ratio % wanted == 0)
