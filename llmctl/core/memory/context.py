"""Cells, streams and rows: what a context keeps per layer, in bytes.

llama-context.cpp (constructor), llama-kv-cache.cpp, llama-kv-cache-iswa.cpp and
llama-memory-recurrent.cpp of llama.cpp b11434.
"""

import msgspec

from llmctl.core.gguf_types import BY_NAME, TensorType
from llmctl.core.memory.model import Layer, Model
from llmctl.core.memory.settings import Padding, Settings
from llmctl.errors import ProfileError


class Shape(msgspec.Struct, frozen=True):
    """The size of a context. cells: per stream; cells_swa: of layers with a window."""

    n_ctx: int
    cells: int
    cells_swa: int
    streams: int
    ubatch: int
    rows: int

    def cells_of(self, layer: Layer) -> int:
        """Cells of one layer's cache, per stream."""
        return self.cells_swa if layer.is_swa else self.cells


class LayerBytes(msgspec.Struct, frozen=True):
    """What one layer keeps."""

    kv: int
    state: int


def pad256(count: int) -> int:
    """Contexts come in steps of 256 (ggml-org/llama.cpp#17037)."""
    return -(-count // 256) * 256


def shape_of(model: Model, settings: Settings) -> Shape:
    """Cells and streams (llama-context.cpp, constructor; llama-kv-cache-iswa.cpp)."""
    asked = settings.ctx or model.n_ctx_train
    n_ctx = pad256(asked)
    parallel = max(1, settings.parallel)
    streams = 1 if settings.unified else parallel
    cells = n_ctx if settings.unified else pad256(n_ctx // parallel)
    n_ctx = cells * streams
    ubatch = min(settings.ubatch or settings.batch, settings.batch, asked)
    seen = model.window * (parallel if settings.unified else 1) + ubatch
    cells_swa = cells if settings.swa_full else pad256(min(cells, seen))
    rollback = settings.n_draft if model.traits.rollback and settings.mtp else 0
    return Shape(n_ctx, cells, cells_swa, streams, ubatch, parallel * (1 + rollback))


def cache_type(name: str) -> TensorType:
    """A type keys and values can have. Raises ProfileError for others."""
    try:
        return BY_NAME[name]
    except KeyError:
        raise ProfileError(f"{name} is no type of a K/V cache.") from None


class Sizer:
    """Bytes per layer of one context, on a backend with this padding."""

    def __init__(self, model: Model, settings: Settings, shape: Shape, padding: Padding) -> None:
        self._model, self._shape, self._padding = model, shape, padding
        self._transposed = not settings.flash_attn
        self._k, self._v = cache_type(settings.type_k), cache_type(settings.type_v)
        self._known: dict[Layer, LayerBytes] = {}

    def layer(self, layer: Layer) -> LayerBytes:
        """Alike layers are sized once."""
        if layer not in self._known:
            self._known[layer] = LayerBytes(self._cache(layer), self._state(layer))
        return self._known[layer]

    def _cache(self, layer: Layer) -> int:
        cells = self._shape.cells_of(layer) * self._shape.streams
        has_v = layer.cached and not self._model.is_mla
        v = self._model.v_max if self._transposed and has_v else layer.v
        index_v = self._model.index_v_max if self._transposed and layer.index_v else layer.index_v
        return (
            self._tensor(self._k, layer.k, cells)
            + self._tensor(self._v, v, cells)
            + self._tensor(self._k, layer.index_k, self._shape.cells * self._shape.streams)
            + self._tensor(self._v, index_v, self._shape.cells * self._shape.streams)
        )

    def _tensor(self, type_: TensorType, width: int, cells: int) -> int:
        """One K or V with its padding (ggml-cuda.cu: get_alloc_size)."""
        nbytes = type_.row_bytes(width) * cells
        rest = width % self._padding.row
        if type_.is_quantized and rest:
            nbytes += type_.row_bytes(self._padding.row - rest)
        return self._padding.aligned(nbytes)

    def _state(self, layer: Layer) -> int:
        return sum(self._padding.aligned(4 * one * self._shape.rows) for one in layer.state)
