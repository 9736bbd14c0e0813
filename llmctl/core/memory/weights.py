"""Where each tensor is loaded, and what it takes there.

llama-model.cpp (load_tensors) and llama-model-loader.cpp (create_tensor) of llama.cpp b11434.
Tensors belong to units: the layers 0 to n-1 and, as unit n, the output. Units go to devices in
runs, so a plan is priced with prefix sums; only tensors that an override names are looked at one
by one, once per set of overrides.
"""

import re
from collections.abc import Iterable, Sequence
from itertools import accumulate

import msgspec

from llmctl.core.gguf import Tensor
from llmctl.core.gguf_types import BY_NAME
from llmctl.core.memory.model import Model
from llmctl.core.memory.settings import HOST, Override, Padding
from llmctl.errors import ProfileError

INPUT = -1
"""The unit of what is looked up rather than multiplied: always in host memory."""
LAZY_BYTES = 4 << 30
"""Per-layer embeddings beyond this are read as needed (llama_model_loader::lazy_read)."""
_BLOCK = re.compile(r"(?:(?:enc|dec)\.)?blk\.(\d+)\.")
_NESTED = re.compile(r"(?:convnext|posnet)\.(\d+)\.")
_EXPERTS = re.compile(r"\.ffn_(?:up|down|gate|gate_up)_(?:ch|)exps")
_IN = frozenset({"token_embd", "position_embd", "token_types", "per_layer_token_embd"})
_FIRST = frozenset({
    "token_embd_norm", "per_layer_model_proj", "per_layer_proj_norm", "hrm", "conv1d",
    "nextn.pre_projection",
})  # fmt: skip
_UNUSED = frozenset({"masked_embd_centroids", "masked_embd_ordering"})
_SCANNING = frozenset({
    "mamba", "mamba2", "jamba", "plamo2", "falcon-h1", "granitehybrid", "nemotron_h",
    "nemotron_h_moe",
})  # fmt: skip
_NO_PRODUCT = frozenset({"tq1_0", "tq2_0", "q8_1", "i8", "i16", "i32", "i64", "f64"})
_NO_SUM = frozenset({"bf16"})
_ROPE = frozenset({"rope_freqs", "rope_factors_long", "rope_factors_short"})
_LAZY_ARCHITECTURES = frozenset({"gemma4", "qwen4exp"})


class Piece(msgspec.Struct, frozen=True):
    """A tensor as it is loaded."""

    name: str
    unit: int
    tensor: Tensor
    expert: bool = False

    def on(self, padding: Padding) -> int:
        """What it takes on a device of that kind; 0 where the CPU keeps it."""
        return 0 if not padding.scans and scans(self.tensor) else padded(self.tensor, padding)


class Weights:
    """The tensors of one model, ready to be summed over runs of units. cuda: all devices are of
    that kind, so it is known which tensors they cannot work with."""

    def __init__(self, model: Model, *, mtp: bool, cuda: bool = False) -> None:
        self.units = len(model.layers) + 1
        self.twice = model.traits.twice
        found = _pieces(model, mtp=mtp)
        self.pieces = tuple(_stranded(model, one) if cuda else one for one in found)
        self.rope = tuple(t for t in model.tensors if _stem(t.name) in _ROPE)
        self.rope_layers = _rope_layers(model)
        self._sums: dict[Padding, tuple[list[int], list[int]]] = {}
        self._overridden: dict[tuple[Override, ...], tuple[tuple[Piece, str], ...]] = {}

    def run(self, padding: Padding, first: int, last: int, experts_from: int) -> int:
        """Bytes of the units first..last-1, experts only from that unit on."""
        dense, expert = self.prefix(padding)
        kept = max(first, min(experts_from, last))
        return dense[last] - dense[first] + expert[last] - expert[kept]

    def experts(self, padding: Padding, first: int, last: int) -> int:
        """Bytes of the experts of the units first..last-1."""
        expert = self.prefix(padding)[1]
        return expert[last] - expert[first]

    def left(self, padding: Padding, first: int, last: int) -> int:
        """Bytes in host memory of what a device with these units cannot work on."""
        if padding.scans:
            return 0
        units = range(first, last)
        left = [one.tensor for one in self.pieces if one.unit in units and scans(one.tensor)]
        return sum(padded(tensor, HOST) for tensor in left)

    def inputs(self) -> int:
        """Bytes of what always stays in host memory."""
        return sum(HOST.aligned(one.tensor.nbytes) for one in self.pieces if one.unit == INPUT)

    def overridden(self, overrides: tuple[Override, ...]) -> tuple[tuple[Piece, str], ...]:
        """The tensors that overrides name, and where they put them: the first match counts."""
        if overrides not in self._overridden:
            patterns = [(_compiled(one.pattern), one.where) for one in overrides]
            self._overridden[overrides] = tuple(_matches(self.pieces, patterns))
        return self._overridden[overrides]

    def prefix(self, padding: Padding) -> tuple[list[int], list[int]]:
        """Running sums over the units: of what is no expert, and of experts."""
        if padding not in self._sums:
            dense, expert = [0] * self.units, [0] * self.units
            for piece in self.pieces:
                if piece.unit >= 0:
                    (expert if piece.expert else dense)[piece.unit] += piece.on(padding)
            self._sums[padding] = (_running(dense), _running(expert))
        return self._sums[padding]


def scans(tensor: Tensor) -> bool:
    """Is it the weight of Mamba-1's recurrence? Only that decays each state of each channel by
    itself, and has a matrix for it (models/mamba-base.cpp)."""
    return tensor.name.endswith(".ssm_a") and len(tensor.shape) > 1 and tensor.shape[0] > 1


def padded(tensor: Tensor, padding: Padding) -> int:
    """What a tensor takes in a buffer (ggml-cuda.cu: get_alloc_size)."""
    type_, nbytes = BY_NAME.get(tensor.type), tensor.nbytes
    rest = tensor.shape[0] % padding.row if tensor.shape else 0
    if rest and type_ is not None and type_.is_quantized:
        nbytes += type_.row_bytes(padding.row - rest)
    return padding.aligned(nbytes)


def _running(values: Iterable[int]) -> list[int]:
    return [0, *accumulate(values)]


def _stem(name: str) -> str:
    """`token_embd.weight` -> `token_embd`; `nextn.pre_projection.weight` keeps both words."""
    stem = name.rpartition(".")[0] or name
    return "hrm" if stem.startswith("hrm.") else stem


def _pieces(model: Model, *, mtp: bool) -> Iterable[Piece]:
    """Every tensor that is loaded, in the file's order; the tied output last."""
    trunk, output = model.trunk, len(model.layers)
    for tensor in model.tensors:
        stem = _stem(tensor.name)
        unit = _unit(model, tensor.name, stem)
        if stem in _ROPE or stem in _UNUSED:
            continue
        if trunk <= unit < output and not mtp and not _is_always_loaded(model, tensor.name):
            continue
        if unit == INPUT and _is_lazy(model, stem, tensor.nbytes):
            continue
        yield Piece(tensor.name, unit, tensor, _EXPERTS.search(tensor.name) is not None)
    names = {tensor.name: tensor for tensor in model.tensors}
    embedding = names.get("token_embd.weight")
    if embedding and "output.weight" not in names and model.traits.ties_output:
        yield Piece(embedding.name, output, embedding)
    if not embedding and model.architecture == "codeshell" and "output.weight" in names:
        yield Piece("output.weight", output, names["output.weight"])  # the embedding is made of it


def _unit(model: Model, name: str, stem: str) -> int:
    """A tensor's unit (llama-arch.cpp: LLM_TENSOR_INFOS; blocks beyond the last are output's)."""
    output = len(model.layers)
    if match := _BLOCK.match(name) or _NESTED.match(name):
        return min(int(match[1]), output)
    if stem in _IN:
        return INPUT
    if stem == "token_embd_norm" and model.architecture.startswith("lfm2"):
        return output  # llama-arch.cpp: LLM_TENSOR_OUTPUT_NORM_LFM2
    return 0 if stem in _FIRST else output


def _stranded(model: Model, piece: Piece) -> Piece:
    """Stays in host memory if CUDA has no kernel for it (llama-model-loader.cpp:
    weight_buft_supported; ggml-cuda.cu: supports_op)."""
    tensor, stem = piece.tensor, piece.name.removesuffix(".weight").rpartition(".")[2]
    if stem == "ssm_a" and model.architecture in _SCANNING:
        usable = _scans(model, tensor.shape)
    elif stem == "ssm_conv1d" or piece.name.endswith("shortconv.conv.weight"):
        usable = len(tensor.shape) < 2 or tensor.shape[1] % 128 == 0
    else:
        usable = tensor.type not in (_NO_SUM if len(tensor.shape) < 2 else _NO_PRODUCT)
    return piece if usable else msgspec.structs.replace(piece, unit=INPUT)


def _scans(model: Model, shape: tuple[int, ...]) -> bool:
    """ggml-cuda.cu: GGML_OP_SSM_SCAN, of Mamba 2 (one number per head) and of Mamba 1."""
    heads = shape[1] if len(shape) > 1 else 1
    if shape[0] == 1:
        return model.ssm_state in (96, 128, 256) and model.ssm_inner // heads % 16 == 0
    return shape[0] == 16 and heads % 128 == 0 and model.ssm_inner == heads


def _is_always_loaded(model: Model, name: str) -> bool:
    """One tensor of MTP layers is not skipped with the rest (deepseek32.cpp, glm-dsa.cpp)."""
    dsa = model.architecture in {"deepseek32", "glm-dsa"}
    return dsa and name.endswith(".exp_probs_b.bias")


def _is_lazy(model: Model, stem: str, nbytes: int) -> bool:
    lazy = model.architecture in _LAZY_ARCHITECTURES and stem == "per_layer_token_embd"
    return lazy and nbytes > LAZY_BYTES


def _rope_layers(model: Model) -> tuple[int, ...]:
    """Layers that hold the frequency factors, a copy on each device that has one of them."""
    layers = enumerate(model.layers)
    if model.architecture in {"gemma4", "gemma4-assistant"}:
        return tuple(n for n, layer in layers if not layer.is_swa)
    return tuple(range(model.trunk))


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ProfileError(f"{pattern} is no regular expression: {error}.") from None


def _matches(
    pieces: Sequence[Piece], patterns: Sequence[tuple[re.Pattern[str], str]]
) -> Iterable[tuple[Piece, str]]:
    for piece in pieces:
        for pattern, where in patterns:
            if pattern.search(piece.name):
                yield piece, where
                break
