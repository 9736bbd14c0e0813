"""The compute buffers: closed forms for the worst-case prompt graph, per device and for the host.

llama-context.cpp (sched_reserve) and ggml-alloc.c arrive at these sizes by laying out a graph. The
forms add up what such a graph holds at its widest: the residual stream, the widest step of a layer,
masks, copies of K and V, weights borrowed from the host. They are the one part of an estimate that
is not exact; each comes with how far off it may be, as a share of itself.
"""

from collections.abc import Sequence

from llmctl.core.memory.buffers import Buffer, Load
from llmctl.core.memory.context import Shape, Sizer, cache_type
from llmctl.core.memory.doubts import is_measured, share_of
from llmctl.core.memory.model import Model
from llmctl.core.memory.settings import HOST, Era, Padding, Settings
from llmctl.core.memory.traits import Indexer
from llmctl.core.memory.widths import Borrowed, Widths

_COPIES = 3
"""Batches in flight besides the current one (ggml-backend.cpp: GGML_SCHED_MAX_COPIES 4)."""
_FUSED = 15
"""Experts per token up to which CUDA sums their products in one kernel."""
_OFFLOAD_BATCH = 32
"""Tokens from which on a device runs what the host holds (GGML_OP_OFFLOAD_MIN_BATCH)."""


class Graph:
    """Everything about one context that does not depend on the device."""

    def __init__(
        self, model: Model, widths: Widths, settings: Settings, shape: Shape, era: Era
    ) -> None:
        self._model, self._w, self.settings, self.shape, self._era = (
            model, widths, settings, shape, era,
        )  # fmt: skip
        self._flash = settings.flash_attn and model.traits.flash
        self._strays = self._flash and not widths.kernel
        self._base = 4 if era is Era.C else 2
        self.token = 4 * shape.ubatch
        self._outputs = max(1, settings.parallel) * (1 + settings.n_draft)
        self.mask = self._mask(shape.cells) if any(x.k for x in model.layers) else 0
        self.mask += self._mask(shape.cells_swa) if model.has_swa else 0
        indexed = model.traits.indexer is not Indexer.NONE
        self.mask += self._mask(shape.cells) if indexed else 0
        self.small = self._small()
        self.stream = self._base * widths.embedding * self.token
        streams = self._base + (self._base - 1) * widths.deep
        self.fed = (streams * widths.embedding + widths.per_layer) * self.token
        self.inputs = self.mask + self.fed + self.small

    def _mask(self, cells: int) -> int:
        return self.shape.ubatch * cells * (2 if self._flash else 4)

    def _small(self) -> int:
        """Positions, indices and rotations (llama-graph.cpp: set_input of each input)."""
        caches = 2 if self._model.has_swa else 1
        per_token = 20 + 16 * caches - 8 * self._model.is_mla + 12 * self._w.m_rope
        rotation = 4 * caches * (self._w.rotation**2 + 64**2) if self._quantized_k else 0
        small = per_token * self.shape.ubatch + 64 + (rotation if self._w.rotation else 0)
        return small if self._flash else small + 2 * caches * self._w.v * self.token

    @property
    def _quantized_k(self) -> bool:
        return cache_type(self.settings.type_k).is_quantized

    def device(self, load: Load, borrowed: Borrowed, padding: Padding, *, piped: bool) -> Buffer:
        """The buffer of one device that runs layers of its own, or the output alone."""
        if load.only_output and self._era is not Era.A:
            return self.logits()
        plain = self._plain(padding, experts=not load.dense)
        lent = max(self._lending(load, borrowed), self._fetching(load, padding))
        if self._era is Era.A:
            logits = self._model.n_vocab * self.token + 5 * self._w.embedding * self.token
            return Buffer(max(plain, lent, logits + self.mask), 0.35)
        fused = 0 if load.dense else self._fused(padding)
        if piped:
            return Buffer(self._piped(plain, first=load.first), self._error(0.05), fused)
        partial = bool(load.layers_lent)
        error = 0.3 if partial else 0.2 if load.experts_lent or not load.first else 0.03
        held = [borrowed.second[n] for n in (*load.experts_lent, *load.layers_lent)]
        more = max(held, default=0) if self.late_masks else 0
        more += fused + self._fetched(load) // 2
        partly = partial or bool(load.experts_lent)
        return Buffer(max(plain, lent), self._error(error, partly=partly), more)

    def logits(self) -> Buffer:
        """What a device that has the output alone works on."""
        nbytes = 4 * self._outputs * (self._model.n_vocab + 4 * self._w.embedding)
        return Buffer(nbytes, 0.5, 1 << 20)

    def host(self, *, piped: bool, lent: bool = False, partial: bool = False) -> Buffer:
        """Inputs in host memory that the devices can reach: `CUDA_Host`. lent: some layers stay
        there; partial: recurrent ones, which are worked on there."""
        if self._era is Era.A:
            return Buffer(2 * self.mask + 2 * self._w.embedding * self.token + self.small, 0.5)
        known = 0.03 if self._flash else 0.12
        if piped:
            nbytes = (_COPIES + 1) * self.mask + self.fed * 5 // 2 + _COPIES * self.small
            copies = (_COPIES + 1) * len(self._model.layers)
            return Buffer(nbytes + copies * self._strayed(), self._error(known))
        scores = 0 if self._flash else self._scores()
        attended = 0 if self.settings.kv_offload else scores
        nbytes, mixed = self.inputs + self._strayed() + attended, self._w.mix * self.token
        if not partial or not self._model.has_state:
            return Buffer(nbytes, self._error(known, partly=lent and not is_measured(self._model)))
        if self._w.gated:
            return Buffer(nbytes, self._error(0.1, partly=True), 3 * mixed // 2)
        scores -= attended
        return Buffer(
            nbytes + 2 * mixed + scores // 2,
            self._error(0.1, partly=True),
            (3 * mixed + scores) // 2,
        )

    def _strayed(self) -> int:
        """Keys and values of a layer, where flash attention is on and only the CPU has it."""
        if not self._strays:
            return 0
        sizer = Sizer(self._model, self.settings, self.shape, Padding(32))
        return max(sizer.layer(layer).kv for layer in set(self._model.layers))

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
        if self._flash:
            nbytes = max(nbytes, self._copies(padding))
        elif self.settings.kv_offload:
            nbytes = max(nbytes, self._scores() + self._w.attending(self._base) * self.token)
        nbytes += self.mask + self.small
        if piped:  # as seen once, with llama.cpp 0.7.0 on two devices
            inputs = 2 * (_COPIES + 1) * self.mask + 6 * e * self.token
            return Buffer(nbytes + inputs, 0.5), Buffer(inputs, 0.5)
        return Buffer(nbytes + fetched, 0.25), Buffer(
            self.mask + 2 * e * self.token + self.small, 0.1
        )

    def _error(self, known: float, *, partly: bool = False) -> float:
        apart = 0.0 if self.settings.kv_offload else 0.35  # attention and its scores on the host
        apart = 3.0 if self._strays else apart
        return max(known, apart, share_of(self._model, partly=partly))

    def _plain(self, padding: Padding, *, experts: bool = True) -> int:
        """All weights where they are used (memory of one device, or of each). Without flash
        attention, attention is where its keys are."""
        logits = 4 * self._outputs * self._model.n_vocab
        peak = self._w.peak(self._base, experts=experts) * self.token
        elsewhere = not self._flash and not self.settings.kv_offload
        sizes = (peak, logits + self.stream, 0 if elsewhere else self._attention(padding))
        return max(sizes) + self.small + (0 if elsewhere else self.mask)

    def _attention(self, padding: Padding) -> int:
        """While queries meet keys: copies of K and V, or scores."""
        if self._flash:
            return self._copies(padding)
        return self._scores() + self._queries() * self.token

    def _queries(self) -> int:
        """Floats per token, of queries and of the residual stream."""
        w = self._w
        return self._base * w.embedding + w.queries() if w.mla else w.attending(self._base)

    def _scores(self) -> int:
        """How each query meets each key, in full."""
        return max(self._model.heads) * self.shape.cells * self.token

    def _copies(self, padding: Padding) -> int:
        """Flash attention takes halves: a layer's K and V are copied, wherever they are f32
        (llama-graph.cpp: build_attn_mha), and on CUDA if they are quantized."""
        if not self._quantized_k or padding.row == 1:
            return self._halves()
        w, cells = self._w, self.shape.cells * self.shape.streams
        copy = 2 * w.kv * cells
        if w.mla:
            heads, cached, _, rank = w.mla
            width = self._base * w.embedding + w.queries()
            result = heads * rank * self.token
            if result + copy <= w.queries() * self.token - heads * cached * self.token:
                return width * self.token  # it fits where the queries were projected
            width += heads * rank
        elif w.gated:
            width = self._base * w.embedding + 51 * w.attention // 10
        elif self._model.architecture == "gemma4":
            width = self._base * w.embedding + 27 * w.attention // 10
        else:
            width = w.attending(self._base)
        return copy + width * self.token

    def _halves(self) -> int:
        types, w = (self.settings.type_k, self.settings.type_v), self._w
        wide = [n for n, one in zip((w.kv - w.v, w.v), types, strict=True) if one == "f32"]
        copy = 2 * sum(wide) * self.shape.cells * self.shape.streams
        return copy + w.attending(self._base) * self.token if copy else 0

    def _piped(self, plain: int, *, first: bool) -> int:
        """Several devices at work at once, on copies of the inputs (cparams.pipeline_parallel)."""
        e = self._w.embedding
        shift = -e if self._w.gated else 0 if self._w.mla else self._w.attention - e
        nbytes = plain + _COPIES * self.inputs + (shift + 24 * self._w.per_layer) * self.token
        return nbytes if first else nbytes - (self._base + 1) * e * self.token

    def _lending(self, load: Load, borrowed: Borrowed) -> int:
        """Weights that the host holds are copied for the step that needs them, one at a time."""
        if not self.lends:
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

    def _fetching(self, load: Load, padding: Padding) -> int:
        """Keys and values that the host holds are copied for the layer that looks at them; those
        of MLA twice, since V is a view of K."""
        cache, width = self._fetched(load), self._queries() * self.token
        copied = (2 if self._w.mla else 1) * cache + width
        attention = max(self._attention(padding), self._w.attending(self._base) * self.token)
        return cache and max(copied, attention + cache) + self.mask + self.small

    def _fetched(self, load: Load) -> int:
        """The widest layer's K and V, if the host holds them and a device works with them."""
        whole = self.settings.kv_offload
        if not (self.lends if whole else self._flash):
            return 0  # then the host looks at them itself
        layers = {self._model.layers[n] for n in load.layers_lent}
        sizer = Sizer(self._model, self.settings, self.shape, HOST)
        each = (sizer.layer(layer).kv for layer in (layers if whole else set(self._model.layers)))
        return max(each, default=0)

    def _fused(self, padding: Padding) -> int:
        """CUDA may keep the experts' products until they are summed up (ggml-cuda.cu:
        graph_optimize, ggml_cuda_match_moe_weighted_reduction): or not, as it fuses them or not."""
        used = self._w.used if padding.row > 1 else 0
        return used * self._w.embedding * self.token if 2 <= used <= _FUSED else 0

    @property
    def late_masks(self) -> bool:
        """A mask that only some layers need comes late, and may lie where weights would."""
        mixed = self._model.has_swa or self._model.has_state
        return mixed and self.lends and not is_measured(self._model)

    @property
    def lends(self) -> bool:
        """Does a device work on what the host holds? (ggml-cuda.cu: offload_op)"""
        return self.shape.ubatch >= _OFFLOAD_BATCH and self.settings.op_offload

    def _masks(self, layers: Sequence[int]) -> int:
        """The masks in use up to the last of these layers."""
        seen = {layer.is_swa for layer in self._model.layers[: layers[-1] + 1]}
        return (
            self.mask
            if len(seen) > 1 or not self._model.has_swa
            else (self._mask(self.shape.cells_swa if True in seen else self.shape.cells))
        )
