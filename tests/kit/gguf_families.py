"""Architectures as llama.cpp wants them in a file: metadata and tensors, in any size.

Each has the smallest set of tensors that its real models have; src/models/*.cpp of llama.cpp says
which. A block's results come back through tensors of the kind OUTPUT alone, so that a scripted
model can silence them.
"""

from __future__ import annotations

import enum
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from kit.gguf_words import vocabulary


class Kind(enum.Enum):
    """What a tensor is for, which decides its data and its type."""

    EMBEDDING = enum.auto()
    HEAD = enum.auto()
    WEIGHT = enum.auto()
    OUTPUT = enum.auto()  # projects a block's result back; zero when scripted
    OUTPUT_BIAS = enum.auto()  # zero, too, and kept whole
    NORM = enum.auto()
    WHOLE = enum.auto()  # routers, convolutions, biases: never quantized
    DECAY = enum.auto()  # of a recurrent state: below zero
    JOIN = enum.auto()  # embedding and hidden state side by side; the embedding passes


@dataclass(frozen=True, slots=True)
class Tensor:
    name: str
    shape: tuple[int, ...]  # in ggml's order: the row's length first
    kind: Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The numbers of one model. The defaults are a tiny one. mtp: layers that draft."""

    width: int = 128
    layers: int = 4
    heads: int = 4
    kv_heads: int = 2
    head_width: int = 64
    ff: int = 256
    ctx: int = 8192
    vocab: int = 0  # 0: as many tokens as `vocabulary` has
    experts: int = 0
    experts_used: int = 0
    window: int = 0
    mtp: int = 0

    @property
    def tokens(self) -> int:
        return self.vocab or len(vocabulary().tokens)


Metadata = dict[str, int | float | list[int]]


@dataclass(frozen=True, slots=True)
class Layout:
    """A model without data: its architecture's name, its metadata, its tensors."""

    architecture: str
    metadata: Metadata
    tensors: tuple[Tensor, ...]


Family = Callable[[Shape], Layout]
Block = Iterator[Tensor]


def norm(name: str, width: int) -> Tensor:
    return Tensor(f"{name}.weight", (width,), Kind.NORM)


def weight(name: str, *shape: int) -> Tensor:
    return Tensor(f"{name}.weight", shape, Kind.WEIGHT)


def output(name: str, *shape: int) -> Tensor:
    return Tensor(f"{name}.weight", shape, Kind.OUTPUT)


def whole(name: str, *shape: int) -> Tensor:
    return Tensor(name, shape, Kind.WHOLE)


def attention(s: Shape, n: int, *, norms: bool = False, gated: bool = False) -> Block:
    """gated: queries come with a gate of their own width."""
    q, kv, prefix = s.heads * s.head_width, s.kv_heads * s.head_width, f"blk.{n}.attn"
    yield norm(f"{prefix}_norm", s.width)
    yield weight(f"{prefix}_q", s.width, 2 * q if gated else q)
    yield weight(f"{prefix}_k", s.width, kv)
    yield weight(f"{prefix}_v", s.width, kv)
    yield output(f"{prefix}_output", q, s.width)
    if norms:
        yield norm(f"{prefix}_q_norm", s.head_width)
        yield norm(f"{prefix}_k_norm", s.head_width)


def attention_biases(s: Shape, n: int) -> Block:
    for one, heads in (("q", s.heads), ("k", s.kv_heads), ("v", s.kv_heads)):
        yield whole(f"blk.{n}.attn_{one}.bias", heads * s.head_width)


def dense(s: Shape, n: int, *, suffix: str = "", ff: int = 0) -> Block:
    prefix, width = f"blk.{n}.ffn", ff or s.ff
    yield weight(f"{prefix}_gate{suffix}", s.width, width)
    yield weight(f"{prefix}_up{suffix}", s.width, width)
    yield output(f"{prefix}_down{suffix}", width, s.width)


def mixture(s: Shape, n: int) -> Block:
    prefix = f"blk.{n}.ffn"
    yield whole(f"{prefix}_gate_inp.weight", s.width, s.experts)
    yield weight(f"{prefix}_gate_exps", s.width, s.ff, s.experts)
    yield weight(f"{prefix}_up_exps", s.width, s.ff, s.experts)
    yield output(f"{prefix}_down_exps", s.ff, s.width, s.experts)


def layout(
    name: str, s: Shape, metadata: Metadata, block: Callable[[int], Block], *,
    last_norm: str = "output_norm",
) -> Layout:  # fmt: skip
    """A model of blocks between an embedding and a head of its own."""
    ends = (
        Tensor("token_embd.weight", (s.width, s.tokens), Kind.EMBEDDING),
        norm(last_norm, s.width),
        Tensor("output.weight", (s.width, s.tokens), Kind.HEAD),
    )
    blocks = itertools.chain.from_iterable(map(block, range(s.layers + s.mtp)))
    keys: Metadata = {f"{name}.{key}": value for key, value in metadata.items()}
    return Layout(name, keys, (*ends, *blocks))


def common(s: Shape, *, rope: float = 1e6) -> Metadata:
    return {
        "context_length": s.ctx,
        "embedding_length": s.width,
        "block_count": s.layers + s.mtp,
        "feed_forward_length": s.ff * max(s.experts_used, 1),
        "attention.head_count": s.heads,
        "attention.head_count_kv": s.kv_heads,
        "attention.key_length": s.head_width,
        "attention.value_length": s.head_width,
        "attention.layer_norm_rms_epsilon": 1e-6,
        "rope.freq_base": rope,
    }


def of_experts(s: Shape) -> Metadata:
    return {
        "expert_count": s.experts,
        "expert_used_count": s.experts_used,
        "expert_feed_forward_length": s.ff,
    }


# ------------------------------------------------------------------------ full attention


def llama(s: Shape) -> Layout:
    def block(n: int) -> Block:
        yield from (*attention(s, n), norm(f"blk.{n}.ffn_norm", s.width), *dense(s, n))

    metadata = common(s, rope=5e5) | {"rope.dimension_count": s.head_width}
    return layout("llama", s, metadata, block)


def qwen2(s: Shape) -> Layout:
    def block(n: int) -> Block:
        yield from (*attention(s, n), *attention_biases(s, n))
        yield from (norm(f"blk.{n}.ffn_norm", s.width), *dense(s, n))

    return layout("qwen2", s, common(s), block)


def qwen3(s: Shape) -> Layout:
    def block(n: int) -> Block:
        yield from (*attention(s, n, norms=True), norm(f"blk.{n}.ffn_norm", s.width))
        yield from dense(s, n)

    return layout("qwen3", s, common(s), block)


def qwen3moe(s: Shape) -> Layout:
    def block(n: int) -> Block:
        yield from (*attention(s, n, norms=True), norm(f"blk.{n}.ffn_norm", s.width))
        yield from mixture(s, n)

    return layout("qwen3moe", s, common(s) | of_experts(s), block)


def deepseek2(s: Shape) -> Layout:
    """Multi-head latent attention: queries and keys pass through narrow ranks. The first layer is
    dense; the others have an expert that all tokens use."""
    rank, rope, plain, value = 64, 32, 32, 32
    keys, key = rank + rope, plain + rope

    def block(n: int) -> Block:
        prefix = f"blk.{n}.attn"
        yield from (norm(f"{prefix}_norm", s.width), norm(f"{prefix}_q_a_norm", rank))
        yield norm(f"{prefix}_kv_a_norm", rank)
        yield weight(f"{prefix}_q_a", s.width, rank)
        yield weight(f"{prefix}_q_b", rank, s.heads * key)
        yield weight(f"{prefix}_kv_a_mqa", s.width, keys)
        yield weight(f"{prefix}_k_b", plain, rank, s.heads)
        yield weight(f"{prefix}_v_b", rank, value, s.heads)
        yield output(f"{prefix}_output", s.heads * value, s.width)
        yield norm(f"blk.{n}.ffn_norm", s.width)
        if n < 1:
            yield from dense(s, n, ff=4 * s.ff)
        else:
            yield from (*mixture(s, n), *dense(s, n, suffix="_shexp"))

    metadata = common(s) | of_experts(s) | {
        "feed_forward_length": 4 * s.ff, "attention.head_count_kv": 1,
        "attention.key_length": keys, "attention.value_length": rank,
        "attention.key_length_mla": key, "attention.value_length_mla": value,
        "attention.q_lora_rank": rank, "attention.kv_lora_rank": rank,
        "rope.dimension_count": rope, "leading_dense_block_count": 1, "expert_shared_count": 1,
        "expert_weights_scale": 1.0, "vocab_size": s.tokens,
    }  # fmt: skip
    return layout("deepseek2", s, metadata, block)


# ------------------------------------------------------------------------------- windows


def gemma3(s: Shape) -> Layout:
    """Of six layers, five look back through a window."""

    def block(n: int) -> Block:
        yield from (*attention(s, n, norms=True), *dense(s, n))
        for one in ("post_attention_norm", "ffn_norm", "post_ffw_norm"):
            yield norm(f"blk.{n}.{one}", s.width)

    metadata = common(s) | {
        "attention.sliding_window": s.window, "rope.dimension_count": s.head_width,
    }  # fmt: skip
    return layout("gemma3", s, metadata, block)


def gptoss(s: Shape) -> Layout:
    """Of two layers, one looks back through a window; biases everywhere."""

    def block(n: int) -> Block:
        ffn = f"blk.{n}.ffn"
        yield from (*attention(s, n), *attention_biases(s, n))
        yield norm(f"blk.{n}.post_attention_norm", s.width)
        yield whole(f"blk.{n}.attn_sinks.weight", s.heads)
        yield Tensor(f"blk.{n}.attn_output.bias", (s.width,), Kind.OUTPUT_BIAS)
        yield from (*mixture(s, n), whole(f"{ffn}_gate_inp.bias", s.experts))
        yield whole(f"{ffn}_gate_exps.bias", s.ff, s.experts)
        yield whole(f"{ffn}_up_exps.bias", s.ff, s.experts)
        yield Tensor(f"{ffn}_down_exps.bias", (s.width, s.experts), Kind.OUTPUT_BIAS)

    metadata = common(s, rope=1.5e5) | of_experts(s) | {
        "feed_forward_length": s.ff, "attention.sliding_window": s.window,
        "rope.dimension_count": s.head_width,
    }  # fmt: skip
    return layout("gpt-oss", s, metadata, block)
