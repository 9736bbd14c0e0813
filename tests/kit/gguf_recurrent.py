"""Architectures with a recurrent state, in some layers or in all of them (see gguf_families)."""

from __future__ import annotations

from kit.gguf_families import (
    Block,
    Kind,
    Layout,
    Metadata,
    Shape,
    Tensor,
    attention,
    common,
    dense,
    layout,
    norm,
    output,
    weight,
    whole,
)


def qwen35(s: Shape) -> Layout:
    """Of four layers, three are gated delta nets. Layers that draft are attention again."""
    state, groups, heads, conv = 64, 2, 4, 4
    keys, values, turned = state * groups, state * heads, s.head_width // 2

    def recurrent(n: int) -> Block:
        yield norm(f"blk.{n}.attn_norm", s.width)
        yield weight(f"blk.{n}.attn_qkv", s.width, 2 * keys + values)
        yield weight(f"blk.{n}.attn_gate", s.width, values)
        yield whole(f"blk.{n}.ssm_conv1d.weight", conv, 2 * keys + values)
        yield from (whole(f"blk.{n}.ssm_dt.bias", heads), decay(f"blk.{n}.ssm_a", heads))
        yield weight(f"blk.{n}.ssm_beta", s.width, heads)
        yield weight(f"blk.{n}.ssm_alpha", s.width, heads)
        yield from (norm(f"blk.{n}.ssm_norm", state), output(f"blk.{n}.ssm_out", values, s.width))

    def drafting(n: int) -> Block:
        yield Tensor(f"blk.{n}.nextn.eh_proj.weight", (2 * s.width, s.width), Kind.JOIN)
        for one in ("enorm", "hnorm", "shared_head_norm"):
            yield norm(f"blk.{n}.nextn.{one}", s.width)

    def block(n: int) -> Block:
        attends = (n + 1) % 4 == 0 or n >= s.layers
        yield from attention(s, n, norms=True, gated=True) if attends else recurrent(n)
        yield from (norm(f"blk.{n}.post_attention_norm", s.width), *dense(s, n))
        if n >= s.layers:
            yield from drafting(n)

    third = turned // 2 // 3
    metadata: Metadata = common(s) | {
        "ssm.conv_kernel": conv, "ssm.inner_size": values, "ssm.state_size": state,
        "ssm.time_step_rank": heads, "ssm.group_count": groups, "full_attention_interval": 4,
        "rope.dimension_count": turned,
        "rope.dimension_sections": [turned // 2 - 2 * third, third, third, 0],
    }  # fmt: skip
    if s.mtp:
        metadata["nextn_predict_layers"] = s.mtp
    return layout("qwen35", s, metadata, block)


def lfm2(s: Shape) -> Layout:
    """Of three layers, two are short convolutions; heads of K and V say which is which."""
    conv, heads = 3, [s.kv_heads if n % 3 == 2 else 0 for n in range(s.layers)]

    def convolution(n: int) -> Block:
        yield norm(f"blk.{n}.attn_norm", s.width)
        yield whole(f"blk.{n}.shortconv.conv.weight", conv, s.width)
        yield weight(f"blk.{n}.shortconv.in_proj", s.width, 3 * s.width)
        yield output(f"blk.{n}.shortconv.out_proj", s.width, s.width)

    def block(n: int) -> Block:
        yield from attention(s, n, norms=True) if heads[n] else convolution(n)
        yield from (norm(f"blk.{n}.ffn_norm", s.width), *dense(s, n))

    metadata = common(s) | {"attention.head_count_kv": heads, "shortconv.l_cache": conv}
    return layout("lfm2", s, metadata, block, last_norm="token_embd_norm")


def mamba(s: Shape) -> Layout:
    """Nothing but state-space layers."""
    inner, steps, state, conv = 2 * s.width, s.width // 16, 16, 4

    def block(n: int) -> Block:
        prefix = f"blk.{n}.ssm"
        yield norm(f"blk.{n}.attn_norm", s.width)
        yield weight(f"{prefix}_in", s.width, 2 * inner)
        yield whole(f"{prefix}_conv1d.weight", conv, inner)
        yield whole(f"{prefix}_conv1d.bias", inner)
        yield weight(f"{prefix}_x", inner, steps + 2 * state)
        yield from (whole(f"{prefix}_dt.weight", steps, inner), whole(f"{prefix}_dt.bias", inner))
        yield from (decay(f"{prefix}_a", state, inner), Tensor(f"{prefix}_d", (inner,), Kind.NORM))
        yield output(f"{prefix}_out", inner, s.width)

    metadata: Metadata = {
        "context_length": s.ctx, "embedding_length": s.width, "block_count": s.layers,
        "feed_forward_length": 0, "attention.head_count": 0,
        "attention.layer_norm_rms_epsilon": 1e-5, "ssm.conv_kernel": conv,
        "ssm.inner_size": inner, "ssm.state_size": state, "ssm.time_step_rank": steps,
    }  # fmt: skip
    return layout("mamba", s, metadata, block)


def decay(name: str, *shape: int) -> Tensor:
    return Tensor(name, shape, Kind.DECAY)
