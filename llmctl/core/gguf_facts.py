"""What a person wants to know of a GGUF file: what it is, how large its model is, how quantized.

Nothing here raises, whatever the metadata hold: a key of the wrong type counts as not there.
"""

import enum
import re
from collections import Counter
from collections.abc import Mapping
from math import prod

import msgspec

from llmctl.core.gguf import Header
from llmctl.core.gguf_name import quant

# llama.h: enum llama_ftype; the numbers that are missing there were removed.
_FILE_TYPES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K",
    11: "Q3_K_S", 12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S",
    17: "Q5_K_M", 18: "Q6_K", 19: "IQ2_XXS", 20: "IQ2_XS", 21: "Q2_K_S", 22: "IQ3_XS",
    23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL", 26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S", 29: "IQ2_M",
    30: "IQ4_XS", 31: "IQ1_M", 32: "BF16", 36: "TQ1_0", 37: "TQ2_0", 38: "MXFP4_MOE", 39: "NVFP4",
    40: "Q1_0",
}  # fmt: skip
_GUESSED = 1024
"""llama.h: LLAMA_FTYPE_GUESSED, added to the number."""
_UNITS = ((10**12, "T", 1), (10**9, "B", 1), (10**6, "M", 0), (1000, "K", 0))
_EXPERTS = re.compile(r"_(?:ch|)exps\.")
_DRAFTERS = frozenset({"eagle3", "dflash", "gemma4-assistant"})
"""Architectures that only draft for another model, whose layers they share."""


class Kind(enum.Enum):
    """What a GGUF file is for."""

    MODEL = "model"
    EMBEDDING = "embedding"  # a model whose answers are vectors or scores
    PROJECTOR = "projector"
    DRAFT = "draft"
    ADAPTER = "adapter"
    CONTROL_VECTOR = "control vector"
    VOCABULARY = "vocabulary"
    IMATRIX = "imatrix"
    OTHER = "other"  # nothing that llama-server serves: a picture model, a text encoder


SERVED = frozenset({Kind.MODEL, Kind.EMBEDDING})
_TYPES = {"adapter": Kind.ADAPTER, "imatrix": Kind.IMATRIX, "mmproj": Kind.PROJECTOR}
_ARCHITECTURES = {
    "clip": Kind.PROJECTOR, "controlvector": Kind.CONTROL_VECTOR, "imatrix": Kind.IMATRIX,
    **dict.fromkeys(_DRAFTERS, Kind.DRAFT),
}  # fmt: skip


class Pooling(enum.IntEnum):
    """llama.h: enum llama_pooling_type; what a model that embeds makes of its tokens."""

    NONE = 0
    MEAN = 1
    CLS = 2
    LAST = 3
    RANK = 4


class Facts(msgspec.Struct, frozen=True):
    """A GGUF file, all its parts together.

    parameters: elements of all tensors; active: of those that each token passes through, where
    that is known to be fewer. width: of an embedding; of a projector, of what it makes. mtp: layers
    that only predict further tokens. pooling: None where the file does not say. family: the model's
    name without its size, for comparing.
    """

    kind: Kind
    architecture: str
    name: str | None
    family: str
    parameters: int
    active: int | None
    quant: str
    ctx_train: int | None
    width: int | None
    mtp: int = 0
    pooling: Pooling | None = None
    missing_bytes: int = 0

    @property
    def size_label(self) -> str:
        """`30.5B-A3.4B`, `8.0B`, `596M`; empty where there are no tensors."""
        if not self.parameters:
            return ""
        return count(self.parameters) + (f"-A{count(self.active)}" if self.active else "")


def facts_of(header: Header, path: str) -> Facts:
    """Reads a head. path: what its name claims counts where the file says nothing."""
    keys = _Keys(header)
    name = keys.text("general.name")
    total = {tensor.name: prod(tensor.shape) for tensor in header.tensors}
    kind = _kind(header, keys)
    return Facts(
        kind=kind,
        architecture=header.architecture,
        name=name,
        family=re.sub(r"[^a-z0-9]", "", (keys.text("general.basename") or name or "").lower()),
        parameters=sum(total.values()),
        active=_active(total, keys),
        quant=_quant(header, keys, path),
        ctx_train=keys.number("context_length"),
        width=_projected(keys) if kind is Kind.PROJECTOR else keys.number("embedding_length"),
        mtp=keys.number("nextn_predict_layers") or 0,
        pooling=_pooling(keys),
        missing_bytes=header.missing_bytes,
    )


def count(number: int) -> str:
    """Parameters for people: `30.5B`, `596M`, `78K`."""
    for size, letter, digits in _UNITS:
        if number >= size:
            return f"{number / size:.{digits}f}{letter}"
    return str(number)


def projectors(model: Facts, beside: Mapping[str, Facts]) -> tuple[str, ...]:
    """The files of the model's directory that project into it.

    Its embedding's width must be the projector's. That is no proof: many models of other families
    are as wide. So where such lie in the directory too, the family must also be the same.
    """
    crowd = any(one.kind in SERVED and one.architecture != model.architecture
                for one in beside.values())  # fmt: skip
    return tuple(
        name
        for name, one in sorted(beside.items())
        if one.kind is Kind.PROJECTOR and one.width and one.width == model.width
        and (one.family == model.family or not crowd)
    )  # fmt: skip


class _Keys:
    """Metadata by key; those of the architecture without its prefix."""

    def __init__(self, header: Header) -> None:
        self._metadata = header.metadata
        self._prefix = f"{header.architecture}."

    def text(self, key: str) -> str | None:
        value = self._metadata.get(key)
        return value if isinstance(value, str) and value.strip() else None

    def number(self, key: str, *, prefix: bool = True) -> int | None:
        value = self._metadata.get(self._prefix + key if prefix else key)
        value = value[0] if isinstance(value, tuple) and value else value
        is_number = isinstance(value, int) and not isinstance(value, bool)
        return int(value) if is_number and 0 <= int(value) < 1 << 40 else None  # type: ignore[arg-type]


def _kind(header: Header, keys: _Keys) -> Kind:
    known = _TYPES.get(keys.text("general.type") or "") or _ARCHITECTURES.get(header.architecture)
    if known:
        return known
    if not header.tensors:
        return Kind.VOCABULARY if _has_vocabulary(header) else Kind.OTHER
    if not keys.number("block_count"):
        return Kind.OTHER
    return Kind.EMBEDDING if _pooling(keys) else Kind.MODEL


def _has_vocabulary(header: Header) -> bool:
    return any(key.startswith("tokenizer.ggml.tokens") for key in header.arrays)


def _pooling(keys: _Keys) -> Pooling | None:
    number = keys.number("pooling_type")
    return Pooling(number) if number is not None and number in set(Pooling) else None


def _active(total: Mapping[str, int], keys: _Keys) -> int | None:
    """All but the experts that a token does not pass through."""
    there, used = keys.number("expert_count") or 0, keys.number("expert_used_count") or 0
    experts = sum(size for name, size in total.items() if _EXPERTS.search(name))
    if not 0 < used < there or not experts:
        return None
    return sum(total.values()) - experts + experts * used // there


def _quant(header: Header, keys: _Keys, path: str) -> str:
    number = keys.number("general.file_type", prefix=False)
    if number is not None and number % _GUESSED in _FILE_TYPES:
        return _FILE_TYPES[number % _GUESSED]
    sizes: Counter[str] = Counter()
    for tensor in header.tensors:
        sizes[tensor.type] += prod(tensor.shape)
    most = sizes.most_common(1)[0][0] if sizes else ""
    if not most or most.startswith("type "):
        return quant(path) or most
    return most.upper()


def _projected(keys: _Keys) -> int | None:
    """Projectors of both kinds in one file make vectors of one width."""
    return keys.number("vision.projection_dim") or keys.number("audio.projection_dim")
