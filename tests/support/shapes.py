"""Models as their metadata describe them, for plans whose tensors do not matter, or are simple."""

from collections.abc import Iterable, Sequence
from typing import Any

from support.oracle import header_of

from llmctl.core.gguf import Header, Tensor, Value
from llmctl.core.memory import Model, model_of


def shape(architecture: str, tensors: Iterable[Tensor] = (), **keys: Any) -> Model:
    """Keys without their prefix; `__` stands for a dot: attention__head_count."""
    plain: dict[str, Value] = {"general.architecture": architecture}
    for key, value in keys.items():
        plain[f"{architecture}.{key.replace('__', '.')}"] = value
    return model_of(Header(3, 32, plain, {}, tuple(tensors), 0, 0))


def qwen3moe_235b(type_: str) -> Model:
    """Qwen3-235B-A22B with all its large tensors of one type."""
    e, layers, ff, experts, vocab = 4096, 94, 1536, 128, 151936
    tensors: list[Any] = [
        [f"{name}.weight", type_, [e, vocab]] for name in ("token_embd", "output")
    ]
    tensors.append(["output_norm.weight", "f32", [e]])
    for n in range(layers):
        for name, kind, dims in (
            ("attn_norm", "f32", [e]), ("ffn_norm", "f32", [e]), ("attn_q", type_, [e, 8192]),
            ("attn_k", type_, [e, 512]), ("attn_v", type_, [e, 512]),
            ("attn_output", type_, [8192, e]), ("attn_q_norm", "f32", [128]),
            ("attn_k_norm", "f32", [128]), ("ffn_gate_inp", "f32", [e, experts]),
            ("ffn_gate_exps", type_, [e, ff, experts]), ("ffn_up_exps", type_, [e, ff, experts]),
            ("ffn_down_exps", type_, [ff, e, experts]),
        ):  # fmt: skip
            tensors.append([f"blk.{n}.{name}.weight", kind, dims])
    keys = {
        "context_length": 131072, "embedding_length": e, "block_count": layers,
        "attention.head_count": 64, "attention.head_count_kv": 4, "attention.key_length": 128,
        "attention.value_length": 128, "expert_count": experts, "expert_used_count": 8,
        "expert_feed_forward_length": ff, "vocab_size": vocab,
    }  # fmt: skip
    metadata = {f"qwen3moe.{key}": value for key, value in keys.items()}
    return model_of(header_of({"general.architecture": "qwen3moe", **metadata}, tensors))


def qwen35moe(*, layers: int, inner: int = 4096) -> Model:
    """Qwen3.5-35B-A3B and 122B-A10B: a full attention layer after three recurrent ones."""
    return shape(
        "qwen35moe", block_count=layers, embedding_length=2048, context_length=262144,
        attention__head_count=16, attention__head_count_kv=2, attention__key_length=256,
        attention__value_length=256, full_attention_interval=4, ssm__conv_kernel=4,
        ssm__inner_size=inner, ssm__state_size=128, ssm__group_count=16, ssm__time_step_rank=32,
    )  # fmt: skip


def gemma4(
    *, layers: int, period: int, full: int, sliding: int, window: int, shared: int = 0
) -> Model:
    """full, sliding: heads of K and V in layers of either kind."""
    kinds = [n % period != period - 1 for n in range(layers)]
    return shape(
        "gemma4", block_count=layers, embedding_length=2816, context_length=262144,
        attention__head_count=16, attention__key_length=512, attention__value_length=512,
        attention__head_count_kv=tuple(sliding if kind else full for kind in kinds),
        attention__key_length_swa=256, attention__value_length_swa=256,
        attention__sliding_window=window, attention__sliding_window_pattern=tuple(kinds),
        attention__shared_kv_layers=shared,
    )  # fmt: skip


def dense(architecture: str, *, layers: int, kv: int, head: int = 128, **more: Any) -> Model:
    """A plain transformer."""
    keys: dict[str, Any] = {
        "block_count": layers, "embedding_length": 4096, "context_length": 131072,
        "attention__head_count": 32, "attention__head_count_kv": kv,
        "attention__key_length": head, "attention__value_length": head,
    }  # fmt: skip
    return shape(architecture, **{**keys, **more})


def moe(
    *,
    layers: int,
    gates: Sequence[int] | None = None,
    ups: Sequence[int] | None = None,
    window: bool = False,
    mtp: int = 0,
) -> Model:
    """A small mixture of experts: about 60 MiB of experts and 1 MiB of the rest per layer. gates:
    of how many experts each layer's first tensor is made, so that layers differ; else there is one
    more in each. ups: the same of the second. window: every other layer has a sliding one. mtp: so
    many of the layers, at the end, only predict."""
    e, ff, experts, vocab = 512, 1024, 20, 4096
    tensors: list[Any] = [
        [f"{name}.weight", "f16", [e, vocab]] for name in ("token_embd", "output")
    ]
    for n in range(layers):
        tensors += [
            [f"blk.{n}.attn_q.weight", "f16", [e, 1024]],
            [f"blk.{n}.ffn_gate_exps.weight", "f16", [e, ff, gates[n] if gates else experts + n]],
            [f"blk.{n}.ffn_up_exps.weight", "f16", [e, ff, ups[n] if ups else experts]],
            [f"blk.{n}.ffn_down_exps.weight", "f16", [ff, e, experts]],
        ]
    keys = {
        "context_length": 32768, "embedding_length": e, "block_count": layers,
        "attention.head_count": 8, "attention.head_count_kv": 2, "attention.key_length": 128,
        "attention.value_length": 128, "expert_count": experts, "expert_used_count": 2,
        "expert_feed_forward_length": ff, "vocab_size": vocab,
    }  # fmt: skip
    if mtp:
        keys["nextn_predict_layers"] = mtp
    name = "gpt-oss" if window else "qwen3moe"
    if window:
        keys["attention.sliding_window"] = 512
    metadata = {f"{name}.{key}": value for key, value in keys.items()}
    return model_of(header_of({"general.architecture": name, **metadata}, tensors))
