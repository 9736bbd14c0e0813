"""The widest steps of a graph, in floats per token: what compute buffers are made of."""

import re
from collections.abc import Iterable

import msgspec

from llmctl.core.gguf import Tensor
from llmctl.core.memory.kernels import has_kernel
from llmctl.core.memory.model import Model
from llmctl.core.memory.settings import Padding
from llmctl.core.memory.traits import Indexer
from llmctl.core.memory.weights import padded

_BLOCK = re.compile(r"blk\.(\d+)\.(.+)\.weight")
_MERGED = frozenset({"ffn_gate_up_exps"})


class Widths(msgspec.Struct, frozen=True):
    """Per model. attention: heads times the width of one. kv, v: K and V, or V alone, of a cell of
    the widest layer with full attention. ff: of a dense feed-forward layer. mix: what a recurrent
    layer is projected to. mla: heads, width of a cached key, of a decompressed one, the rank.
    ff_parts, expert_parts: gate, up and their product at once, or up alone where nothing gates.
    deep: streams of embeddings besides the first (Qwen3-VL); per_layer: floats of embeddings that
    all layers get (gemma3n, gemma4). kernel: flash attention works with all heads on CUDA.
    indexed: queries are made for an indexer as well."""

    embedding: int
    attention: int
    kv: int
    v: int
    ff: int
    ff_expert: int
    used: int
    mix: int
    mla: tuple[int, int, int, int] | None
    rotation: int
    m_rope: bool
    gated: bool
    ff_parts: int = 3
    expert_parts: int = 3
    deep: int = 0
    per_layer: int = 0
    kernel: bool = True
    indexed: bool = False

    def peak(self, base: int, *, experts: bool = True) -> int:
        """The widest step, with a residual stream of `base` embeddings, with the experts or not."""
        e, used = self.embedding, self.used
        steps = [(base + 1) * e]
        if self.attention > e:
            steps.append(base * e + 2 * self.attention)
        if self.ff > e:
            steps.append(base * e + self.ff_parts * self.ff)
        if used and experts:
            steps.append(base * e + self.experts(self.expert_parts))
        if self.mix:
            steps.append(base * e + 2 * self.mix)
        if self.mla:
            steps.append(base * e + self.queries() * (2 if self.indexed else 1))
        return max(steps)

    def experts(self, products: int) -> int:
        """While the last of a token's experts' products, back in the width of the stream, is made:
        it takes the room that gate and up have left only where it fits there (ggml-alloc.c)."""
        left = (self.expert_parts - 1) * self.ff_expert
        appended = self.embedding if self.embedding > left else 0
        return self.used * (products * self.ff_expert + appended)

    def queries(self) -> int:
        """Of MLA: queries as projected, as absorbed and as put together for the cache's width. What
        is rotated of them takes room of its own where a residual stream has less."""
        if not self.mla:
            return 0
        heads, cached, key, rank = self.mla
        turned = heads * (cached - rank)
        return heads * (key + rank + cached) + (turned if turned > self.embedding else 0)

    def attending(self, base: int) -> int:
        """While queries meet keys."""
        many = 2 if self.attention > self.embedding else 1
        return base * self.embedding + many * self.attention

    def experts_down(self, base: int) -> int:
        """While the last of the experts' products is made."""
        return base * self.embedding + self.used * (self.embedding + self.ff_expert)


def widths_of(model: Model) -> Widths:
    """Read off the tensors where they say it, else off the metadata."""
    shapes: dict[str, tuple[int, ...]] = {}
    for _, kind, tensor in _blocks(model):
        if kind not in shapes or tensor.shape[0] > shapes[kind][0]:
            shapes[kind] = tensor.shape
    full = [x for x in model.layers if not x.is_swa and not x.mtp] or list(model.layers)
    heads = [h * k for h, k, x in zip(model.heads, model.head_k, model.layers, strict=True) if x.k]
    dim = max(model.head_k, default=0)
    return Widths(
        model.n_embd, max(heads, default=0), max(x.k + x.v for x in full), max(x.v for x in full),
        max(shapes.get(k, (0,))[0] for k in ("ffn_down", "ffn_down_shexp")),
        shapes.get("ffn_down_exps", (0,))[0], model.experts_used if model.experts else 0,
        max((shapes[k][1] for k in ("ssm_in", "attn_qkv") if k in shapes), default=0)
        if model.has_state else 0,
        (model.heads[0], max(x.k for x in model.layers), model.mla_key, model.lora_kv)
        if model.is_mla else None,
        0 if model.is_mla or dim % 64 else dim & -dim, model.m_rope,
        model.architecture.startswith(("qwen35", "qwen3next", "qwen4")),
        _parts(shapes, "ffn_gate", "ffn_up"), _parts(shapes, "ffn_gate_exps", "ffn_up_exps"),
        model.deep, model.per_layer, has_kernel(model),
        model.traits.indexer is not Indexer.NONE,
    )  # fmt: skip


def _parts(shapes: dict[str, tuple[int, ...]], gate: str, up: str) -> int:
    """Without a gate of its own, up may hold both (phi3); a lone one is worked on in place."""
    down = shapes.get(up.replace("up", "down"), (0,))[0]
    rows = shapes[up][1] if up in shapes else 0
    return 1 if gate not in shapes and 0 < rows == down else 3


def _blocks(model: Model) -> Iterable[tuple[int, str, Tensor]]:
    for tensor in model.tensors:
        match = _BLOCK.fullmatch(tensor.name)
        if match and len(tensor.shape) > 1:
            yield int(match[1]), match[2], tensor


class Borrowed(msgspec.Struct, frozen=True):
    """The largest weights of each layer, for the step that copies them from host memory. second:
    what may still be there of the step before: the largest but one."""

    dense: tuple[int, ...]
    experts: tuple[int, ...]
    second: tuple[int, ...]


def borrowed_of(model: Model, padding: Padding) -> Borrowed:
    """Per layer; merged gate and up are held together with down (gemma4), as qwen3next's are."""
    count = len(model.layers)
    dense: list[list[int]] = [[] for _ in range(count)]
    experts: list[list[int]] = [[] for _ in range(count)]
    merged = model.architecture == "qwen3next"
    for layer, kind, tensor in _blocks(model):
        if layer < count:
            (experts if "exps" in kind else dense)[layer].append(padded(tensor, padding))
            merged = merged or kind in _MERGED
    held = 2 if merged else 1
    return Borrowed(
        tuple(max(one, default=0) for one in dense),
        tuple(sum(sorted(one)[-held:]) for one in experts),
        tuple(sum(sorted(one)[-2:-1]) for one in map(list.__add__, dense, experts)),
    )
