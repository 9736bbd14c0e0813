"""What one file's metadata says of memory: per layer, what a cell or a sequence costs.

The rules are those of src/llama-hparams.cpp (n_embd_k_gqa, n_embd_r, n_embd_s ...) and
src/llama-model.cpp (load_hparams, create_memory) of llama.cpp b11434.
"""

import msgspec

from llmctl.core.gguf import Header, Tensor
from llmctl.core.memory.hparams import Hparams
from llmctl.core.memory.traits import Indexer, Recurrence, Swa, Traits, traits_of


class Layer(msgspec.Struct, frozen=True):
    """What a layer keeps, in elements.

    k, v: per cell of its cache. index_k, index_v: per cell of the indexer's. state: per sequence,
    the rows of r and s, in floats. cached: it has a cache at all, be it of width 0. mtp: it only
    predicts further tokens; the cache is then that of the MTP context, and of the main one too if
    trunk_cache.
    """

    k: int
    v: int
    cached: bool = True
    is_swa: bool = False
    index_k: int = 0
    index_v: int = 0
    state: tuple[int, ...] = ()
    mtp: bool = False
    trunk_cache: bool = True


class Model(msgspec.Struct, frozen=True, dict=True):
    """A model as the estimate needs it. Sizes in elements unless they say bytes.

    v_max: what V takes in every layer when flash attention is off. index_v_max: in the indexer's.
    """

    architecture: str
    traits: Traits
    layers: tuple[Layer, ...]
    tensors: tuple[Tensor, ...]
    n_mtp: int
    n_ctx_train: int
    n_embd: int
    n_vocab: int
    heads: tuple[int, ...]
    head_k: tuple[int, ...]
    ff: tuple[int, ...]
    ff_expert: int
    experts: int
    experts_used: int
    window: int
    is_mla: bool
    lora_kv: int
    mla_key: int
    m_rope: bool
    v_max: int
    index_v_max: int
    missing_bytes: int = 0
    ssm_state: int = 0
    ssm_inner: int = 0
    deep: int = 0
    per_layer: int = 0

    @property
    def has_state(self) -> bool:
        """Some layers keep a recurrent state."""
        return any(layer.state for layer in self.layers)

    @property
    def has_swa(self) -> bool:
        """Some layers only look back through a window."""
        return any(layer.is_swa for layer in self.layers)

    @property
    def trunk(self) -> int:
        """The number of layers without those that only predict further tokens."""
        return len(self.layers) - self.n_mtp


def model_of(header: Header) -> Model:
    """Everything the rules need, read once. Raises GgufError for nonsense."""
    keys, traits = Hparams(header), traits_of(header.architecture)
    count = keys.layers() * max(1, keys.number("num_loops", 1))
    raw = _Raw(header.architecture, traits, keys, count)
    return Model(
        header.architecture, traits, tuple(raw.layer(n) for n in range(count)), header.tensors,
        count - raw.trunk, keys.number("context_length"), keys.number("embedding_length"),
        _vocabulary(header, keys), raw.heads, tuple(raw.dim_k(n) for n in range(count)), raw.ff,
        keys.number("expert_feed_forward_length"), keys.number("expert_count"),
        keys.number("expert_used_count"), raw.window, raw.is_mla,
        keys.number("attention.kv_lora_rank"), keys.number("attention.key_length_mla"),
        keys.has("rope.dimension_sections"), max(raw.v(n) for n in range(count)),
        raw.dims[1], header.missing_bytes, keys.number("ssm.state_size"),
        keys.number("ssm.inner_size"), keys.number("n_deepstack_layers"),
        keys.number("embedding_length_per_layer_input") * count,
    )  # fmt: skip


def _vocabulary(header: Header, keys: Hparams) -> int:
    """Rows of the logits (llama-vocab.cpp counts the tokens; a file without any says how many)."""
    tokens = header.arrays.get("tokenizer.ggml.tokens")
    if tokens is not None:
        return tokens.count
    shapes = (t.shape for t in header.tensors if t.name == "token_embd.weight")
    rows = next((shape[1] for shape in shapes if len(shape) > 1), 0)
    return keys.number("vocab_size", rows)


class _Raw:
    """The arrays of llama_hparams, before they become layers."""

    def __init__(self, architecture: str, traits: Traits, keys: Hparams, count: int) -> None:
        self._architecture, self._traits, self._keys, self._count = (
            architecture,
            traits,
            keys,
            count,
        )
        self.trunk = count - min(keys.number("nextn_predict_layers"), count)
        self.heads = keys.each("attention.head_count", count)
        has_kv = keys.has("attention.head_count_kv")
        self._heads_kv = keys.each("attention.head_count_kv", count) if has_kv else self.heads
        self.ff = keys.each("feed_forward_length", count)
        self.dims = self._dims("")
        self._dims_swa = self._dims("_swa")
        mla = [keys.number(f"attention.{one}_length_mla") for one in ("key", "value")]
        self.is_mla = all(mla)
        self._recurrent = self._recurrences()
        self.window, self._swa = self._windows(traits.swa)
        self._state = self._states() if any(self._recurrent) else ()
        self._kv_layers = self._with_kv()
        self._indexed = self._indexers()

    def layer(self, n: int) -> Layer:
        mtp = n >= self.trunk
        cached = mtp or (n < self._kv_layers and self._attends(n))
        index = n in self._indexed
        return Layer(
            k=self.dim_k(n) * self._heads_kv[n] if cached else 0,
            v=self.v(n) if cached and not self.is_mla else 0,
            cached=cached,
            is_swa=self._swa[n],
            index_k=self._index_width() if index else 0,
            index_v=self.dims[1] if index and self._index_has_v() else 0,
            state=self._state if self._recurrent[n] and not mtp else (),
            mtp=mtp,
            trunk_cache=self._attends(n) and (not mtp or self._caches_mtp()),
        )

    def dim_k(self, n: int) -> int:
        return (self._dims_swa if self._swa[n] else self.dims)[0]

    def v(self, n: int) -> int:
        return (self._dims_swa if self._swa[n] else self.dims)[1] * self._heads_kv[n]

    def _dims(self, suffix: str) -> tuple[int, int]:
        """Widths of a head (llama-model.cpp: load_hparams; plamo2 has layers without heads)."""
        if not self.heads[0] and self._architecture != "plamo2":
            return (0, 0)
        default = self._keys.number("embedding_length") // max(1, self.heads[0])
        base = self.dims if suffix else (default, default)
        key, value = (
            self._keys.number(f"attention.{one}_length{suffix}", width)
            for one, width in zip(("key", "value"), base, strict=True)
        )
        return key, value

    def _recurrences(self) -> list[bool]:
        match self._traits.recurrence:
            case Recurrence.NONE:
                return [False] * self._count
            case Recurrence.ALL | Recurrence.BOTH:
                return [True] * self._count
            case Recurrence.NO_HEADS:
                return [heads == 0 for heads in self._heads_kv]
            case Recurrence.NO_HEADS_NO_FFN:
                pairs = zip(self._heads_kv, self.ff, strict=True)
                return [heads == 0 and ff == 0 for heads, ff in pairs]
            case Recurrence.INTERVAL:
                return self._intervals()

    def _intervals(self) -> list[bool]:
        if self._keys.has("attention.recurrent_layers"):
            return [bool(one) for one in self._keys.each("attention.recurrent_layers", self._count)]
        interval = max(1, self._keys.number("full_attention_interval", self._traits.interval))
        return [n < self.trunk and (n + 1) % interval != 0 for n in range(self._count)]

    def _attends(self, n: int) -> bool:
        """Has the layer keys and values? (create_memory: filter_attn)"""
        match self._traits.recurrence:
            case _ if self._traits.cacheless:
                return False
            case Recurrence.ALL:
                return False
            case Recurrence.BOTH:
                return True
            case Recurrence.NO_HEADS_NO_FFN:
                return not self._recurrent[n] and self.ff[n] == 0
            case _:
                return not self._recurrent[n]

    def _caches_mtp(self) -> bool:
        """Does the main context cache the layers that only predict further tokens?"""
        return self._traits.caches_nextn or self.trunk == 0

    def _with_kv(self) -> int:
        """Only the first layers keep keys and values; the others use theirs (gemma3n, gemma4)."""
        if self._architecture == "gemma3n":
            return 20
        if self._architecture == "gemma4":
            return self._count - self._keys.number("attention.shared_kv_layers")
        return self._count

    def _windows(self, swa: Swa | None) -> tuple[int, list[bool]]:
        if self._architecture.startswith("lfm2"):
            return self._lfm2_window()
        none = (0, [False] * self._count)
        if swa is None or (swa.layers and swa.layers != self.trunk):
            return none
        window = self._keys.number("attention.sliding_window", swa.window or 0)
        if swa.zero_is_off and window == 0:
            return none
        pattern = self._pattern(swa)
        return (swa.forced or window, pattern) if any(pattern) else none

    def _lfm2_window(self) -> tuple[int, list[bool]]:
        """A window in all attention layers; lfm2moe reads none."""
        window = self._keys.number("attention.sliding_window")
        if self._architecture == "lfm2moe" or not window:
            return 0, [False] * self._count
        trunk = range(self._count)
        return window, [n < self.trunk and not self._recurrent[n] for n in trunk]

    def _pattern(self, swa: Swa) -> list[bool]:
        """Which layers have the window (llama_hparams::set_swa_pattern)."""
        key = "attention.sliding_window_pattern"
        if self._keys.is_list(key):
            return [bool(one) for one in self._keys.each(key, self._count)]
        if swa.period is None:
            return [False] * self._count  # llama.cpp refuses such a file
        period = self._keys.number(key, swa.period)
        full = 0 if swa.dense_first else period - 1
        return [n < self.trunk and (not period or n % period != full) for n in range(self._count)]

    def _states(self) -> tuple[int, ...]:
        """Floats per sequence and layer (llama_hparams::n_embd_r, n_embd_s)."""
        number, width, heads = (
            self._keys.number,
            self._keys.number("embedding_length"),
            self.heads[0],
        )
        if wkv := number("wkv.head_size"):
            return (number("token_shift_count", 2) * width, width * wkv)
        if short := number("shortconv.l_cache"):
            return (width * (short - 1), 0)
        conv = number("ssm.conv_kernel")
        if kda := number("kda.head_dim"):
            return (3 * (conv - 1 if conv else 3) * heads * kda, kda * kda * heads)
        if self._architecture == "minimax-01":
            return (0, self.dims[0] ** 2 * heads)
        inner, state = number("ssm.inner_size"), number("ssm.state_size")
        groups = 0 if self._architecture in {"mamba", "jamba"} else number("ssm.group_count")
        return (max(0, conv - 1) * (inner + 2 * groups * state), state * inner)

    def _indexers(self) -> frozenset[int]:
        trunk = range(self.trunk)
        match self._traits.indexer:
            case Indexer.NONE:
                return frozenset()
            case Indexer.ALL:
                return frozenset(trunk)
            case Indexer.SPARSE:
                return frozenset(range(self._keys.number("leading_dense_block_count"), self._count))
            case Indexer.ATTENTION:
                return frozenset(n for n in trunk if not self._recurrent[n])
            case Indexer.FULL:
                return frozenset(n for n in trunk if self._is_full_indexer(n))

    def _is_full_indexer(self, n: int) -> bool:
        if self._architecture == "hy_v4" and not self._keys.number("attention.indexer.top_k"):
            return False
        if self._recurrent[n]:
            return False
        if self._keys.has("attention.indexer.types"):
            return bool(self._keys.each("attention.indexer.types", self._count)[n])
        if self._architecture == "glm-dsa" and self._keys.number("context_length") >= 1 << 20:
            return n < 2 or (n - 2) % 4 == 0  # glm-dsa.cpp: GLM_5_2_DEFAULT_INDEXER_TYPES
        return self._architecture in {"glm-dsa", "glm5-next"}

    def _index_width(self) -> int:
        pools = self._architecture == "glm5-next"  # the only one that reads the key
        pooled = 3 if pools and self._keys.number("attention.indexer.kpool") else 1
        return self._keys.number("attention.indexer.key_length") * pooled

    def _index_has_v(self) -> bool:
        """The indexer's cache is an ordinary one with one head: without MLA it has a V as well."""
        return not self.is_mla and self._traits.indexer is not Indexer.ATTENTION
