"""Models of the shipped profiles as files: real tensor lists in the mix that a file's name says.

The 16 GB box of profiles/*.yaml. `q4_k_m` is what llama-quantize makes of a name of that kind
(src/llama-quant.cpp: llama_tensor_get_type_impl, llama_ftype_get_default_type); sizes of the files
agree with those that are published.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from support.oracle import oracle

from llmctl.core.gguf_types import BY_NAME

if TYPE_CHECKING:
    from collections.abc import Sequence

_FALLBACK = {"q4_K": "q5_0", "q5_K": "q5_1", "q6_K": "q8_0"}
Listed = list[Any]
"""Name, type, dimensions."""


def _more(n: int, count: int) -> bool:
    """The layers that get more bits: the first and the last eighth, and of the rest each third."""
    eighth = count // 8
    return n < eighth or n >= 7 * count // 8 or (n - eighth) % 3 == 2


def _fitting(type_: str, row: int) -> str:
    return type_ if row % BY_NAME[type_].block == 0 else _FALLBACK[type_]


def q4_k_m(tensors: Sequence[Listed], layers: int) -> list[Listed]:
    """The same tensors as Q4_K_M."""
    values = [one[0] for one in tensors if one[0].endswith("attn_v.weight")]
    names = {one[0] for one in tensors}
    mixed = []
    for name, type_, dims in tensors:
        kind = name.removesuffix(".weight").rpartition(".")[2]
        if type_ == "f32":
            mixed.append([name, type_, dims])
            continue
        more = (
            kind == "output"
            or (kind == "token_embd" and "output.weight" not in names)
            or (kind == "attn_v" and _more(values.index(name), len(values)))
            or (kind.startswith("ffn_down") and _more(int(name.split(".")[1]), layers))
        )
        wanted = "q6_K" if more else "q5_K" if kind == "attn_qkv" else "q4_K"
        mixed.append([name, _fitting(wanted, dims[0]), dims])
    return mixed


def coder() -> dict[str, Any]:
    """Qwen3-Coder-30B-A3B-Instruct-Q4_K_M.gguf."""
    model = oracle()["models"]["qwen3_30b"]
    return {"metadata": model["metadata"], "tensors": q4_k_m(model["tensors"], 48)}


def gemma4() -> dict[str, Any]:
    """gemma-4-26B-A4B-it-Q4_K_M.gguf: 658 tensors; full layers take V from K and have no attn_v."""
    e, layers, ff, ff_expert, experts, vocab, heads = 2816, 30, 2112, 704, 128, 262144, 16
    slides = [n % 6 != 5 for n in range(layers)]
    tensors: list[Listed] = [
        ["token_embd.weight", "q4_K", [e, vocab]], ["output_norm.weight", "f32", [e]],
        ["rope_freqs.weight", "f32", [256]],
    ]  # fmt: skip
    for n, window in enumerate(slides):
        width, kv = (256, 8) if window else (512, 2)
        wide = [
            ("attn_q", [e, heads * width]), ("attn_k", [e, kv * width]),
            *([("attn_v", [e, kv * width])] if window else []),
            ("attn_output", [heads * width, e]),
            ("ffn_gate", [e, ff]), ("ffn_up", [e, ff]), ("ffn_down", [ff, e]),
            ("ffn_gate_up_exps", [e, 2 * ff_expert, experts]),
            ("ffn_down_exps", [ff_expert, e, experts]),
        ]  # fmt: skip
        narrow = [(f"{one}.weight", [e]) for one in (
            "attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm", "post_ffw_norm_1",
            "post_ffw_norm_2", "pre_ffw_norm_2",
        )]  # fmt: skip
        narrow += [
            ("attn_q_norm.weight", [width]), ("attn_k_norm.weight", [width]),
            ("ffn_gate_inp.weight", [e, experts]), ("ffn_gate_inp.scale", [e]),
            ("ffn_down_exps.scale", [experts]), ("layer_output_scale.weight", [1]),
        ]  # fmt: skip
        tensors += [[f"blk.{n}.{name}.weight", "q4_K", dims] for name, dims in wide]
        tensors += [[f"blk.{n}.{name}", "f32", dims] for name, dims in narrow]
    keys = {
        "context_length": 262144, "embedding_length": e, "block_count": layers,
        "feed_forward_length": ff, "expert_feed_forward_length": ff_expert, "expert_count": experts,
        "expert_used_count": 8, "attention.head_count": heads, "attention.key_length": 512,
        "attention.value_length": 512, "attention.key_length_swa": 256,
        "attention.value_length_swa": 256, "attention.sliding_window": 1024,
        "attention.head_count_kv": [8 if window else 2 for window in slides],
        "attention.sliding_window_pattern": slides, "attention.shared_kv_layers": 0,
        "vocab_size": vocab,
    }  # fmt: skip
    metadata = {f"gemma4.{key}": value for key, value in keys.items()}
    return {
        "metadata": {"general.architecture": "gemma4", **metadata},
        "tensors": q4_k_m(tensors, layers),
    }


TQ3_4S = "tq3_4s"
"""A type of a fork, with a number for which llama.cpp has no type (see `oracle.FORKS`)."""


def qwen36() -> dict[str, Any]:
    """Qwen3.6-27B-TQ3_4S.gguf: what would be q4_K is of the fork's type; no MTP layer."""
    model = oracle()["models"]["qwen36_27b"]
    metadata = {**model["metadata"], "qwen35.block_count": 64, "qwen35.nextn_predict_layers": 0}
    tensors = [
        [name, TQ3_4S if type_ == "q4_K" else type_, dims]
        for name, type_, dims in model["tensors"]
        if not name.startswith("blk.64.")
    ]
    return {"metadata": metadata, "tensors": tensors}
