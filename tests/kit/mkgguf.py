#!/usr/bin/env python3
"""Tiny real models that llama-server loads and serves, and huge ones that are a hole in a file.

    python mkgguf.py DIRECTORY [NAME ...]

*Scripted* models answer deterministically. Every block's output projection is zero, so what
reaches the head is the embedding of the last token alone, and the head is built so that the most
likely token after t is NEXT[t], by far. A reply is therefore a fixed walk over the vocabulary,
and the chat template chooses where it starts: by a keyword in the last user message.

    keyword         reply
    (none)          "Hello! This is a tiny model served by a real llama-server."
    THINK           reasoning, then an answer
    TOOL            a call of get_weather(city="Paris"), when the request brings tools
    LONG            300 distinct words
    UTF8, EMPTY     letters of several bytes; nothing at all
    LOOP, TLOOP     " again and again ..." for ever; reasoning that never ends

*Sparse* models have the metadata and the tensor table of a real model; their data is a hole, so
a 16 GiB model costs some MiB of disk. For memory plans, and for loads that take a while.
"""

from __future__ import annotations

import argparse
import enum
import functools
import itertools
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType as Quant
from gguf import GGUFWriter, TokenType, quants
from gguf.constants import GGML_QUANT_SIZES

Array = npt.NDArray[np.float32]

CONTROL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    *(f"<|s_{script}|>" for script in ("plain", "think", "tool", "loop", "long", "empty", "utf8")),
)
TAGS = ("<think>", "</think>", "<tool_call>", "</tool_call>")
WORDS = ("the", " the", "user", "assistant", "system", "weather", " weather", " think", " loop")

SCRIPTS: dict[str, tuple[str, ...]] = {
    "plain": (
        *("Hello", "!", " This", " is", " a", " tiny", " model"),
        *(" served", " by", " a real", " llama", "-server", "."),
    ),
    "think": ("\nLet", " me", " think", ";", " one", " plus", " three", " makes", " four", ".\n"),
    "answer": ("\n\nThe", " answer", " is 4."),
    "tool": (
        *('\n{"name":', ' "get_weather",', ' "arguments":'),
        *(' {"city":', ' "Paris"', "}}\n"),
    ),
    "loop": (" again", " and"),
    "long": tuple(f" w{i:03d}" for i in range(300)),
    "tloop": ("Wait", ", no", ". Hmm", ". "),
    "utf8": ("Zürich", " — ", "日本", "語", " 🙂", "\u00a0ok"),
}

TEMPLATE = Path(__file__).with_name("scripted.jinja")


# ----------------------------------------------------------------------------- vocabulary


@functools.cache
def byte_letters() -> dict[int, str]:
    """The letter that GPT-2's byte-level encoding writes for each byte."""
    plain = {*range(33, 127), *range(161, 173), *range(174, 256)}
    spare = itertools.count(256)
    return {byte: chr(byte if byte in plain else next(spare)) for byte in range(256)}


def encode(text: str) -> str:
    return "".join(byte_letters()[byte] for byte in text.encode())


@dataclass(slots=True)
class Vocabulary:
    """Bytes, some words with their merges, the scripts' words, tags, control tokens."""

    tokens: list[str] = field(default_factory=list)
    types: list[int] = field(default_factory=list)
    merges: list[str] = field(default_factory=list)
    ids: dict[str, int] = field(default_factory=dict)
    scripts: dict[str, list[int]] = field(default_factory=dict)

    def add(self, token: str, kind: TokenType) -> int:
        if token not in self.ids:
            self.ids[token] = len(self.tokens)
            self.tokens.append(token)
            self.types.append(int(kind))
        return self.ids[token]

    def add_word(self, word: str) -> None:
        """A word the tokenizer finds: its prefixes are tokens too, merged letter by letter."""
        letters = encode(word)
        for end in range(2, len(letters) + 1):
            if letters[:end] not in self.ids:
                self.merges.append(f"{letters[: end - 1]} {letters[end - 1]}")
                self.add(letters[:end], TokenType.NORMAL)

    def add_scripts(self) -> None:
        """Whole-word tokens without merges: only the model says them, no prompt contains them.

        Each may occur once, since the next token depends on the last one alone; a repeated word
        gets zero-width twins.
        """
        used: dict[str, int] = {}
        for name, words in SCRIPTS.items():
            self.scripts[name] = []
            for word in words:
                twin = encode(word + "\u200b" * used.get(word, 0))
                used[word] = used.get(word, 0) + 1
                self.scripts[name].append(self.add(twin, TokenType.NORMAL))

    def pad(self) -> None:
        """Quantized tensors need rows of whole blocks."""
        for number in range(-len(self.tokens) % 32):
            self.add(f"<|pad{number}|>", TokenType.UNUSED)


@functools.cache
def vocabulary() -> Vocabulary:
    made = Vocabulary()
    for letter in byte_letters().values():
        made.add(letter, TokenType.NORMAL)
    for word in WORDS:
        made.add_word(word)
    made.add_scripts()
    for tag in TAGS:
        made.add(tag, TokenType.USER_DEFINED)
    for control in CONTROL:
        made.add(control, TokenType.CONTROL)
    made.pad()
    return made


@functools.cache
def next_tokens() -> dict[int, int]:
    """Which token follows which."""
    words = vocabulary()
    ids, scripts, end = words.ids, words.scripts, words.ids["<|im_end|>"]
    walks = [
        [ids["<|s_plain|>"], *scripts["plain"], end],
        [
            *(ids["<|s_think|>"], ids["<think>"], *scripts["think"], ids["</think>"]),
            *(*scripts["answer"], end),
        ],
        [
            *(ids["<|s_tool|>"], ids["<tool_call>"], *scripts["tool"]),
            *(ids["</tool_call>"], end),
        ],
        [ids["<|s_loop|>"], *scripts["loop"], scripts["loop"][0]],
        [ids["<|s_long|>"], *scripts["long"], end],
        # The template itself opens <think>, and ends in a tab that nothing else ends in.
        [ids[encode("\t")], *scripts["tloop"], scripts["tloop"][0]],
        [ids["<|s_empty|>"], end],
        [ids["<|s_utf8|>"], *scripts["utf8"], end],
        [end, ids["<|endoftext|>"]],
        # A raw completion whose prompt ends in a newline.
        [ids[encode("\n")], scripts["plain"][0]],
    ]
    following: dict[int, int] = {}
    for token, after in itertools.chain.from_iterable(map(itertools.pairwise, walks)):
        if following.setdefault(token, after) != after:
            raise ValueError(f"two scripts go on differently after {words.tokens[token]!r}")
    return following


# -------------------------------------------------------------------------- architectures


class Kind(enum.Enum):
    """What a tensor is for, which decides its data and its type."""

    EMBEDDING = enum.auto()
    HEAD = enum.auto()
    WEIGHT = enum.auto()
    OUTPUT = enum.auto()  # projects a block's result back; zero when scripted
    NORM = enum.auto()
    ROUTER = enum.auto()


@dataclass(frozen=True, slots=True)
class Tensor:
    name: str
    shape: tuple[int, ...]  # in ggml's order: the row's length first
    kind: Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The numbers of one model. The defaults are a tiny one."""

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

    @property
    def tokens(self) -> int:
        return self.vocab or len(vocabulary().tokens)


Metadata = dict[str, int | float]


@dataclass(frozen=True, slots=True)
class Layout:
    """A model without data: its architecture's name, its metadata, its tensors."""

    architecture: str
    metadata: Metadata
    tensors: tuple[Tensor, ...]


def attention(s: Shape, block: int, *, norms: bool) -> Iterator[Tensor]:
    q, kv, prefix = s.heads * s.head_width, s.kv_heads * s.head_width, f"blk.{block}.attn"
    yield Tensor(f"{prefix}_norm.weight", (s.width,), Kind.NORM)
    yield Tensor(f"{prefix}_q.weight", (s.width, q), Kind.WEIGHT)
    yield Tensor(f"{prefix}_k.weight", (s.width, kv), Kind.WEIGHT)
    yield Tensor(f"{prefix}_v.weight", (s.width, kv), Kind.WEIGHT)
    yield Tensor(f"{prefix}_output.weight", (q, s.width), Kind.OUTPUT)
    if norms:
        yield Tensor(f"{prefix}_q_norm.weight", (s.head_width,), Kind.NORM)
        yield Tensor(f"{prefix}_k_norm.weight", (s.head_width,), Kind.NORM)


def feed_forward(s: Shape, block: int) -> Iterator[Tensor]:
    prefix, dims = f"blk.{block}.ffn", (s.experts,) if s.experts else ()
    suffix = "_exps.weight" if s.experts else ".weight"
    yield Tensor(f"{prefix}_norm.weight", (s.width,), Kind.NORM)
    if s.experts:
        yield Tensor(f"{prefix}_gate_inp.weight", (s.width, s.experts), Kind.ROUTER)
    yield Tensor(f"{prefix}_gate{suffix}", (s.width, s.ff, *dims), Kind.WEIGHT)
    yield Tensor(f"{prefix}_up{suffix}", (s.width, s.ff, *dims), Kind.WEIGHT)
    yield Tensor(f"{prefix}_down{suffix}", (s.ff, s.width, *dims), Kind.OUTPUT)


def transformer(s: Shape, *, norms: bool) -> tuple[Tensor, ...]:
    blocks = ((*attention(s, i, norms=norms), *feed_forward(s, i)) for i in range(s.layers))
    return (
        Tensor("token_embd.weight", (s.width, s.tokens), Kind.EMBEDDING),
        Tensor("output_norm.weight", (s.width,), Kind.NORM),
        Tensor("output.weight", (s.width, s.tokens), Kind.HEAD),
        *itertools.chain.from_iterable(blocks),
    )


def common_metadata(architecture: str, s: Shape, *, rope: float) -> Metadata:
    numbers: Metadata = {
        "context_length": s.ctx,
        "embedding_length": s.width,
        "block_count": s.layers,
        "feed_forward_length": s.ff * max(s.experts_used, 1),
        "attention.head_count": s.heads,
        "attention.head_count_kv": s.kv_heads,
        "attention.key_length": s.head_width,
        "attention.value_length": s.head_width,
        "attention.layer_norm_rms_epsilon": 1e-6,
        "rope.freq_base": rope,
    }
    return {f"{architecture}.{key}": value for key, value in numbers.items()}


def llama(s: Shape) -> Layout:
    metadata = common_metadata("llama", s, rope=5e5)
    metadata["llama.rope.dimension_count"] = s.head_width
    return Layout("llama", metadata, transformer(s, norms=False))


def qwen3(s: Shape) -> Layout:
    return Layout("qwen3", common_metadata("qwen3", s, rope=1e6), transformer(s, norms=True))


def qwen3moe(s: Shape) -> Layout:
    metadata = common_metadata("qwen3moe", s, rope=1e6)
    metadata["qwen3moe.expert_count"] = s.experts
    metadata["qwen3moe.expert_used_count"] = s.experts_used
    metadata["qwen3moe.expert_feed_forward_length"] = s.ff
    return Layout("qwen3moe", metadata, transformer(s, norms=True))


Family = Callable[[Shape], Layout]


# -------------------------------------------------------------------------------- writing


def write_head(writer: GGUFWriter, layout: Layout, *, name: str, file_type: int) -> None:
    writer.add_name(name)
    writer.add_file_type(file_type)
    for key, value in layout.metadata.items():
        put = writer.add_float32 if isinstance(value, float) else writer.add_uint32
        put(key, value)  # type: ignore[arg-type]


def write_vocabulary(writer: GGUFWriter, *, tokens: int) -> None:
    words = vocabulary()
    extra = range(len(words.tokens), tokens)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list([*words.tokens, *(f"<|x{i}|>" for i in extra)])
    writer.add_token_types([*words.types, *(int(TokenType.NORMAL) for _ in extra)])
    writer.add_token_merges(words.merges)
    writer.add_bos_token_id(words.ids["<|endoftext|>"])
    writer.add_eos_token_id(words.ids["<|im_end|>"])
    writer.add_pad_token_id(words.ids["<|endoftext|>"])
    writer.add_add_bos_token(value=False)
    writer.add_chat_template(TEMPLATE.read_text("utf-8"))


def quant_of(tensor: Tensor, wanted: Quant) -> Quant:
    """`wanted`, unless the tensor is one that llama.cpp keeps whole, or has no whole blocks."""
    if tensor.kind in (Kind.NORM, Kind.ROUTER):
        return Quant.F32
    block, _ = GGML_QUANT_SIZES[wanted]
    return Quant.F16 if tensor.shape[0] % block else wanted


def embedding(width: int, rng: np.random.Generator) -> Array:
    rows = rng.standard_normal((len(vocabulary().tokens), width)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def scripted_head(rows: Array) -> Array:
    """After token t, the logit of NEXT[t] is 2.5 * sqrt(width); all others are near 0."""
    head = np.zeros_like(rows)
    for token, following in next_tokens().items():
        head[following] += rows[token] * 2.5
    return head


def scripted_data(tensor: Tensor, rows: Array, rng: np.random.Generator) -> Array:
    shape = tuple(reversed(tensor.shape))
    match tensor.kind:
        case Kind.EMBEDDING:
            return rows
        case Kind.HEAD:
            return scripted_head(rows)
        case Kind.NORM:
            return np.ones(shape, np.float32)
        case Kind.OUTPUT:
            return np.zeros(shape, np.float32)
        case Kind.WEIGHT | Kind.ROUTER:
            values = rng.standard_normal(shape, np.float32)
            return values / np.float32(np.sqrt(tensor.shape[0]))


def add_tensor(writer: GGUFWriter, name: str, data: Array, quant: Quant) -> None:
    if quant == Quant.F32:
        writer.add_tensor(name, data)
    elif quant == Quant.F16:
        writer.add_tensor(name, data.astype(np.float16))
    else:
        writer.add_tensor(name, quants.quantize(data, quant), raw_dtype=quant)


def make_scripted(
    path: Path, family: Family, shape: Shape, *, quant: Quant = Quant.F16, seed: int = 0
) -> None:
    """Write a model that serves the scripts."""
    rng = np.random.default_rng(seed)
    layout = family(shape)
    writer = GGUFWriter(path, layout.architecture)
    write_head(writer, layout, name=path.stem, file_type=1 if quant == Quant.F16 else 7)
    write_vocabulary(writer, tokens=shape.tokens)
    rows = embedding(shape.width, rng)
    for tensor in layout.tensors:
        data = scripted_data(tensor, rows, rng)
        add_tensor(writer, tensor.name, data, quant_of(tensor, quant))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_hole(writer: GGUFWriter, tensor: Tensor, quant: Quant) -> int:
    """Enter a tensor into the table; the bytes its data will need, alignment included."""
    block, block_bytes = GGML_QUANT_SIZES[quant]
    shape = list(reversed(tensor.shape))
    size = int(np.prod(shape, dtype=np.int64)) // block * block_bytes
    dtype: np.dtype[Any] = np.dtype(np.float32 if quant == Quant.F32 else np.float16)
    if quant in (Quant.F32, Quant.F16):
        writer.add_tensor_info(tensor.name, shape, dtype, size)
    else:  # of quantized tensors gguf wants the shape in bytes
        shape[-1] = shape[-1] // block * block_bytes
        writer.add_tensor_info(tensor.name, shape, np.dtype(np.uint8), size, raw_dtype=quant)
    return align(size)


def align(size: int) -> int:
    return (size + 31) // 32 * 32


def make_sparse(
    path: Path, family: Family, shape: Shape, *, quant: Quant = Quant.Q4_K, head: Quant = Quant.Q6_K
) -> None:
    """Write a model that is all shape: real metadata, real tensor table, no data."""
    layout = family(shape)
    writer = GGUFWriter(path, layout.architecture)
    write_head(writer, layout, name=path.stem, file_type=15)
    write_vocabulary(writer, tokens=shape.tokens)
    total = sum(
        add_hole(writer, tensor, quant_of(tensor, head if tensor.kind is Kind.HEAD else quant))
        for tensor in layout.tensors
    )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    with path.open("r+b") as file:
        file.truncate(align(path.stat().st_size) + total)


MOE_TINY = Shape(layers=6, ff=64, ctx=40960, experts=8, experts_used=2)

Maker = Callable[[Path], None]

SCRIPTED: dict[str, Maker] = {
    "llama-script": lambda path: make_scripted(path, llama, Shape()),
    "llama-deep": lambda path: make_scripted(path, llama, Shape(layers=12)),
    "llama-draft": lambda path: make_scripted(path, llama, Shape(layers=1, ff=128), seed=7),
    "qwen3-script": lambda path: make_scripted(path, qwen3, Shape(ctx=40960)),
    "qwen3-q8": lambda path: make_scripted(path, qwen3, Shape(ctx=40960), quant=Quant.Q8_0),
    "qwen3moe-script": lambda path: make_scripted(path, qwen3moe, MOE_TINY),
}

QWEN3_8B = Shape(
    width=4096, layers=36, heads=32, kv_heads=8, head_width=128, ff=12288, ctx=40960, vocab=151936
)
QWEN3_30B_A3B = Shape(
    width=2048,
    layers=48,
    heads=32,
    kv_heads=4,
    head_width=128,
    ff=768,
    ctx=262144,
    vocab=151936,
    experts=128,
    experts_used=8,
)
LLAMA_70B = Shape(
    width=8192, layers=80, heads=64, kv_heads=8, head_width=128, ff=28672, ctx=131072, vocab=128256
)

SPARSE: dict[str, Maker] = {
    "qwen3-8b-q4k": lambda path: make_sparse(path, qwen3, QWEN3_8B),
    "qwen3-30b-a3b-q4k": lambda path: make_sparse(path, qwen3moe, QWEN3_30B_A3B),
    "llama-70b-q4k": lambda path: make_sparse(path, llama, LLAMA_70B),
}


def write(directory: Path, names: Iterable[str] = tuple(SCRIPTED)) -> dict[str, Path]:
    """Write the models called `names` into `directory`; where each is."""
    directory.mkdir(parents=True, exist_ok=True)
    makers = SCRIPTED | SPARSE
    paths = {name: directory / f"{name}.gguf" for name in names}
    for name, path in paths.items():
        makers[name](path)
    return paths


def main() -> None:
    parser = argparse.ArgumentParser(description="Write tiny models (default: all scripted ones).")
    parser.add_argument("directory", type=Path)
    parser.add_argument("names", nargs="*", choices=[[], *SCRIPTED, *SPARSE], metavar="NAME")
    arguments = parser.parse_args()
    for path in write(arguments.directory, arguments.names or tuple(SCRIPTED)).values():
        sys.stdout.write(f"{path} {path.stat().st_size}\n")


if __name__ == "__main__":
    main()
