"""A plain transformer of any size, as metadata and tensors: for files, and for plans."""

from __future__ import annotations

from typing import Any

from support.oracle import header_of

from llmctl.core.memory import Model, model_of

TOKENS = [f"t{n}" for n in range(1000)]


def small(
    *, layers: int, width: int = 256, ctx: int = 32768, mtp: int = 0, **metadata: Any
) -> dict[str, Any]:
    """About `layers * width * width * 28` bytes that each token reads. metadata: `__` for a dot."""
    tensors: list[Any] = [
        [f"{name}.weight", "f16", [width, len(TOKENS)]] for name in ("token_embd", "output")
    ]
    for n in range(layers + mtp):
        tensors.append([f"blk.{n}.attn_q.weight", "f16", [width, width]])
        tensors.append([f"blk.{n}.attn_output.weight", "f16", [width, width]])
        wide = (f"blk.{n}.ffn_{name}.weight" for name in ("gate", "up", "down"))
        tensors += ([name, "f16", [width, width * 4]] for name in wide)
    keys = {
        "context_length": ctx, "embedding_length": width, "block_count": layers + mtp,
        "feed_forward_length": width * 4, "attention.head_count": width // 64,
        "attention.head_count_kv": 1, "attention.key_length": 64, "attention.value_length": 64,
        **({"nextn_predict_layers": mtp} if mtp else {}),
    }  # fmt: skip
    architecture = "glm4moe" if mtp else "llama"
    return {
        "metadata": {
            "general.architecture": architecture,
            **{f"{architecture}.{key}": value for key, value in keys.items()},
            "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.tokens": TOKENS,
            **{key.replace("__", "."): value for key, value in metadata.items()},
        },
        "tensors": tensors,
    }  # fmt: skip


def small_model(*, layers: int, **keys: Any) -> Model:
    """The same for a plan."""
    made = small(layers=layers, **keys)
    metadata = made["metadata"] | {"llama.vocab_size": len(TOKENS)}
    del metadata["tokenizer.ggml.tokens"]
    return model_of(header_of(metadata, made["tensors"]))
