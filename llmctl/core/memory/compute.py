"""The compute buffers: closed forms for the worst-case prompt graph, per device and for the host.

llama-context.cpp (sched_reserve) and ggml-alloc.c arrive at these sizes by laying out a graph. The
forms add up what such a graph holds at its widest: the residual stream, the widest step of a layer,
masks, copies of K and V, weights borrowed from the host. They are the one part of an estimate that
is not exact; each comes with how far off it may be, as a share of itself.
"""

from collections.abc import Sequence

import msgspec

from llmctl.core.memory.context import Shape, Sizer, cache_type
from llmctl.core.memory.model import Model
from llmctl.core.memory.settings import HOST, Era, Padding, Settings
from llmctl.core.memory.widths import Borrowed, Widths

_COPIES = 3
"""Batches in flight besides the current one (ggml-backend.cpp: GGML_SCHED_MAX_COPIES 4)."""
_OFFLOAD_BATCH = 32
"""Tokens from which on a device runs what the host holds (GGML_OP_OFFLOAD_MIN_BATCH)."""
_COPY_MATTERS = 64 << 20
_SMALL_STEPS = 4 << 20
"""Bytes: the forms were off by 3.4 MiB at most where a whole buffer takes 40 or less."""
_MEASURED = frozenset({"llama", "qwen2", "qwen3", "qwen3moe", "gpt-oss", "gemma3", "deepseek2"})
"""Architectures whose buffers were compared with the real ones; others get a wide margin."""
_NEARLY = frozenset({"qwen35", "mistral3"})


class Load(msgspec.Struct, frozen=True):
    """What one device has to work on. lent: the layers whose weights the host holds."""

    first: bool
    only_output: bool = False
    experts_lent: tuple[int, ...] = ()
    layers_lent: tuple[int, ...] = ()


class Buffer(msgspec.Struct, frozen=True):
    """Bytes, and how far off they may be: `error` is a share of them."""

    nbytes: int
    error: float

    @property
    def error_bytes(self) -> int:
        """The doubt in bytes; steps that only count in small models are in no form."""
        return max(int(self.nbytes * self.error), _SMALL_STEPS) if self.nbytes else 0


class Graph:
    """Everything about one context that does not depend on the device."""

    def __init__(
        self, model: Model, widths: Widths, settings: Settings, shape: Shape, era: Era
    ) -> None:
        self._model, self._w, self._settings, self._shape, self._era = (
            model, widths, settings, shape, era,
        )  # fmt: skip
        self._base = 4 if era is Era.C else 2
        self.token = 4 * shape.ubatch
        self._outputs = max(1, settings.parallel) * (1 + settings.n_draft)
        self.mask = self._mask(shape.cells) if any(x.k for x in model.layers) else 0
        self.mask += self._mask(shape.cells_swa) if model.has_swa else 0
        self.small = self._small()
        self.stream = self._base * widths.embedding * self.token
        self.inputs = self.mask + self.stream + self.small

    def _mask(self, cells: int) -> int:
        return self._shape.ubatch * cells * (2 if self._settings.flash_attn else 4)

    def _small(self) -> int:
        """Positions, indices and rotations (llama-graph.cpp: set_input of each input)."""
        caches = 2 if self._model.has_swa else 1
        per_token = 20 + 16 * caches - 8 * self._model.is_mla + 12 * self._w.m_rope
        rotation = 4 * caches * (self._w.rotation**2 + 64**2) if self._quantized_k else 0
        small = per_token * self._shape.ubatch + 64 + (rotation if self._w.rotation else 0)
        return small if self._settings.flash_attn else small + 2 * caches * self._w.v * self.token

    @property
    def _quantized_k(self) -> bool:
        return cache_type(self._settings.type_k).is_quantized

    def device(self, load: Load, borrowed: Borrowed, padding: Padding, *, piped: bool) -> Buffer:
        """The buffer of one device that runs layers of its own, or the output alone."""
        if load.only_output and self._era is not Era.A:
            return self.logits()
        plain = self._plain(padding)
        lent = max(self._lending(load, borrowed), self._fetching(load))
        if self._era is Era.A:
            logits = self._model.n_vocab * self.token + 5 * self._w.embedding * self.token
            return Buffer(max(plain, lent, logits + self.mask), 0.35)
        if piped:
            return Buffer(self._piped(plain, first=load.first), self._error(0.05))
        partial = bool(load.layers_lent)
        error = (
            (0.75 if self._model.has_state else 0.3)
            if partial
            else 0.2
            if load.experts_lent or not load.first
            else 0.03
        )
        return Buffer(max(plain, lent), self._error(error))

    def logits(self) -> Buffer:
        """What a device that has the output alone works on."""
        return Buffer(4 * self._outputs * (self._model.n_vocab + 4 * self._w.embedding), 0.5)

    def host(self, *, piped: bool, partial: bool = False) -> Buffer:
        """Inputs in host memory that the devices can reach: `CUDA_Host`. partial: layers are on
        the host, and what states pass on between devices and host is in no form."""
        if self._era is Era.A:
            return Buffer(2 * self.mask + 2 * self._w.embedding * self.token + self.small, 0.5)
        if piped:
            nbytes = (_COPIES + 1) * self.mask + self.stream * 5 // 2 + _COPIES * self.small
            return Buffer(nbytes, self._error(0.03))
        passing = partial and self._model.has_state
        attends = not self._settings.flash_attn and not self._settings.kv_offload
        nbytes = self.inputs + (self._scores() if attends else 0)
        return Buffer(nbytes, self._error(0.75 if passing else 0.03))

    def alone(self) -> Buffer:
        """Without any device: the graph runs in host memory, and nothing is copied."""
        return Buffer(self._plain(Padding(32)), self._error(0.25))

    def predicting(
        self, padding: Padding, *, piped: bool, fetched: int = 0
    ) -> tuple[Buffer, Buffer]:
        """The MTP context: one layer, and half a residual stream; then the host's inputs for it.
        fetched: bytes of its K and V if the host holds them."""
        e, ff = self._w.embedding, self._w.ff
        widest = max(
            3 * e + 2 * ff, self._w.attending(self._base), self._w.experts_down(self._base)
        )
        if self._era is Era.A:
            return Buffer(self._model.n_vocab * self.token + e * self.token, 0.35), self.host(
                piped=False
            )
        nbytes = self.token * widest
        if self._settings.flash_attn:
            nbytes = max(nbytes, self._copies(padding))
        elif self._settings.kv_offload:
            nbytes = max(nbytes, self._scores() + self._w.attending(self._base) * self.token)
        nbytes += self.mask + self.small
        if piped:  # as seen once, with llama.cpp 0.7.0 on two devices
            inputs = 2 * (_COPIES + 1) * self.mask + 6 * e * self.token
            return Buffer(nbytes + inputs, 0.5), Buffer(inputs, 0.5)
        return Buffer(nbytes + fetched, 0.25), Buffer(
            self.mask + 2 * e * self.token + self.small, 0.1
        )

    def _error(self, known: float) -> float:
        """Architectures differ in the order of their steps, and recurrent layers in kind."""
        model = self._model
        apart = 0.0 if self._settings.kv_offload else 0.35  # attention and its scores on the host
        if model.architecture in _MEASURED:
            return max(known, apart)
        strange = model.traits.guess or (model.has_state and not self._w.gated)
        nearly = 0.1 if model.architecture in _NEARLY else 0.25
        return max(known, apart, 0.5 if strange else nearly)

    def _plain(self, padding: Padding) -> int:
        """All weights where they are used (memory of one device, or of each). Without flash
        attention, attention is where its keys are."""
        w, e = self._w, self._w.embedding
        logits = 4 * self._outputs * self._model.n_vocab
        sizes = [w.peak(self._base) * self.token, logits + self.stream]
        if self._settings.flash_attn:
            sizes.append(self._copies(padding))
        elif not self._settings.kv_offload:
            return max(sizes) + self.small
        else:
            scores = self._scores()
            width = self._base * e + self._mla_width(last=0) if w.mla else w.attending(self._base)
            sizes.append(scores + width * self.token)
        return max(sizes) + self.mask + self.small

    def _scores(self) -> int:
        """How each query meets each key, in full."""
        return max(self._model.heads) * self._shape.cells * self.token

    def _copies(self, padding: Padding) -> int:
        """Flash attention takes halves: a layer's K and V are copied, wherever they are f32
        (llama-graph.cpp: build_attn_mha), and on CUDA if they are quantized."""
        if not self._quantized_k or padding.row == 1:
            return self._halves()
        w, cells = self._w, self._shape.cells * self._shape.streams
        copy = 2 * w.kv * cells
        if w.mla:
            width = max(18 * w.embedding, self._base * w.embedding + self._mla_width(last=w.mla[2]))
            if copy > _COPY_MATTERS:
                width = max(width, self._mla_width(last=w.mla[2] + w.mla[3]))
        elif w.gated:
            width = self._base * w.embedding + 51 * w.attention // 10
        elif self._model.architecture == "gemma4":
            width = self._base * w.embedding + 27 * w.attention // 10
        else:
            width = w.attending(self._base)
        return copy + width * self.token

    def _halves(self) -> int:
        types, w = (self._settings.type_k, self._settings.type_v), self._w
        wide = [n for n, one in zip((w.kv - w.v, w.v), types, strict=True) if one == "f32"]
        copy = 2 * sum(wide) * self._shape.cells * self._shape.streams
        return copy + w.attending(self._base) * self.token if copy else 0

    def _mla_width(self, *, last: int) -> int:
        """Queries in the width of the cache, twice, and one thing more per head."""
        if not self._w.mla:
            return 0
        heads, cached, _, _ = self._w.mla
        return heads * (2 * cached + (last or 128))

    def _piped(self, plain: int, *, first: bool) -> int:
        """Several devices at work at once, on copies of the inputs (cparams.pipeline_parallel)."""
        e = self._w.embedding
        shift = -e if self._w.gated else 0 if self._w.mla else self._w.attention - e
        nbytes = plain + _COPIES * self.inputs + shift * self.token
        return nbytes if first else nbytes - (self._base + 1) * e * self.token

    def _lending(self, load: Load, borrowed: Borrowed) -> int:
        """Weights that the host holds are copied for the step that needs them, one at a time."""
        if self._shape.ubatch < _OFFLOAD_BATCH or not self._settings.op_offload:
            return 0
        sizes = [0]
        if load.experts_lent:
            step = self._w.experts_down(self._base) * self.token + self._masks(load.experts_lent)
            sizes.append(step + max(borrowed.experts[n] for n in load.experts_lent) + self.small)
        if load.layers_lent:
            step = self._w.peak(self._base) * self.token + self.mask + self.small
            each = (max(borrowed.dense[n], borrowed.experts[n]) for n in load.layers_lent)
            sizes.append(step + max(each))
        return max(sizes)

    def _fetching(self, load: Load) -> int:
        """Keys and values that the host holds are copied for the layer that looks at them; those
        of MLA twice, since V is a view of K."""
        whole = self._settings.kv_offload
        if not whole and not self._settings.flash_attn:
            return 0  # then the host looks at them itself
        layers = [self._model.layers[n] for n in load.layers_lent] if whole else self._model.layers
        sizer = Sizer(self._model, self._settings, self._shape, HOST)
        kept = max((sizer.layer(layer).kv for layer in layers), default=0)
        width = self._mla_width(last=0) if self._w.mla else self._w.attending(self._base)
        copies = 2 if self._w.mla else 1
        return kept and copies * kept + width * self.token + self.mask + self.small

    def _masks(self, layers: Sequence[int]) -> int:
        """The masks in use up to the last of these layers."""
        seen = {layer.is_swa for layer in self._model.layers[: layers[-1] + 1]}
        return (
            self.mask
            if len(seen) > 1 or not self._model.has_swa
            else (self._mask(self._shape.cells_swa if True in seen else self._shape.cells))
        )
