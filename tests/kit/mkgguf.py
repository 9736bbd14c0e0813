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
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType as Quant
from gguf import GGUFWriter, TokenType, quants
from gguf.constants import GGML_QUANT_SIZES

sys.path.insert(0, str(Path(__file__).parents[1]))  # for whoever runs this file

from kit import gguf_families, gguf_recurrent, gguf_words
from kit.gguf_families import Family, Kind, Layout, Shape, Tensor
from kit.gguf_words import next_tokens, vocabulary

Array = npt.NDArray[np.float32]

TEMPLATE = Path(__file__).with_name("scripted.jinja")
SOURCES = (Path(__file__), TEMPLATE, *(
    Path(str(one.__file__)) for one in (gguf_families, gguf_recurrent, gguf_words)
))  # fmt: skip
"""All that the models are made from."""


# -------------------------------------------------------------------------------- writing


def write_head(writer: GGUFWriter, layout: Layout, *, name: str, file_type: int) -> None:
    writer.add_name(name)
    writer.add_file_type(file_type)
    for key, value in layout.metadata.items():
        match value:
            case float():
                writer.add_float32(key, value)
            case int():
                writer.add_uint32(key, value)
            case list():
                writer.add_array(key, value)


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
    if tensor.kind in (Kind.NORM, Kind.WHOLE, Kind.DECAY, Kind.OUTPUT_BIAS):
        return Quant.F32
    block, _ = GGML_QUANT_SIZES[wanted]
    return Quant.F16 if tensor.shape[0] % block else wanted


def embedding(width: int, rng: np.random.Generator) -> Array:
    rows = rng.standard_normal((len(vocabulary().tokens), width)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def scripted_head(rows: Array, *, known: float, seed: int) -> Array:
    """After token t, the logit of NEXT[t] is 2.5 * sqrt(width); all others are near 0.

    known: the share of links that a draft has right. What it has wrong is a harmless byte.
    """
    head, rng = np.zeros_like(rows), np.random.default_rng(seed)
    for token, following in next_tokens().items():
        right = known == 1 or rng.random() < known
        head[following if right else (following + 1) % 256] += rows[token] * 2.5
    return head


def scripted_data(tensor: Tensor, rng: np.random.Generator) -> Array:
    shape = tuple(reversed(tensor.shape))
    match tensor.kind:
        case Kind.EMBEDDING | Kind.HEAD:
            raise ValueError(f"{tensor.name} is made for all models alike")
        case Kind.NORM:
            return np.ones(shape, np.float32)
        case Kind.OUTPUT | Kind.OUTPUT_BIAS:
            return np.zeros(shape, np.float32)
        case Kind.JOIN:
            return np.eye(*shape, dtype=np.float32)
        case Kind.DECAY:
            return -np.abs(rng.standard_normal(shape, np.float32)) - np.float32(0.1)
        case Kind.WEIGHT | Kind.WHOLE:
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
    path: Path, family: Family, shape: Shape, *, quant: Quant = Quant.F16, seed: int = 0,
    known: float = 1.0,
) -> None:  # fmt: skip
    """Write a model that serves the scripts."""
    rng = np.random.default_rng(seed)
    layout = family(shape)
    writer = GGUFWriter(path, layout.architecture)
    write_head(writer, layout, name=path.stem, file_type=1 if quant == Quant.F16 else 7)
    write_vocabulary(writer, tokens=shape.tokens)
    rows = embedding(shape.width, rng)
    ends = {Kind.EMBEDDING: rows, Kind.HEAD: scripted_head(rows, known=known, seed=seed)}
    for tensor in layout.tensors:
        data = ends[tensor.kind] if tensor.kind in ends else scripted_data(tensor, rng)
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


Maker = Callable[[Path], None]


def scripted(family: Family, shape: Shape, **how: Any) -> Maker:
    return lambda path: make_scripted(path, family, shape, **how)


EXPERTS = Shape(layers=6, ff=64, ctx=40960, experts=8, experts_used=2)
WINDOWS = Shape(layers=12, ctx=32768, window=512)
STATES = Shape(layers=8, ctx=32768)
DRAFT = Shape(layers=1, ff=128)

SCRIPTED: dict[str, Maker] = {
    "llama-script": scripted(gguf_families.llama, Shape()),
    "llama-deep": scripted(gguf_families.llama, Shape(layers=12)),
    "llama-draft": scripted(gguf_families.llama, DRAFT, seed=7),
    "llama-draft70": scripted(gguf_families.llama, DRAFT, seed=8, known=0.7),
    "qwen2-script": scripted(gguf_families.qwen2, Shape(heads=2, kv_heads=1)),
    "qwen3-script": scripted(gguf_families.qwen3, Shape(ctx=40960)),
    "qwen3-q8": scripted(gguf_families.qwen3, Shape(ctx=40960), quant=Quant.Q8_0),
    "qwen3moe-script": scripted(gguf_families.qwen3moe, EXPERTS),
    "deepseek2-script": scripted(gguf_families.deepseek2, replace(EXPERTS, layers=4, ctx=32768)),
    "gemma3-script": scripted(gguf_families.gemma3, WINDOWS),
    "gptoss-script": scripted(gguf_families.gptoss, replace(EXPERTS, ctx=32768, window=128)),
    "qwen35-script": scripted(gguf_recurrent.qwen35, STATES),
    "qwen35-mtp": scripted(gguf_recurrent.qwen35, replace(STATES, mtp=1)),
    "lfm2-script": scripted(gguf_recurrent.lfm2, replace(STATES, layers=6, heads=2, kv_heads=1)),
    "mamba-script": scripted(gguf_recurrent.mamba, Shape(ctx=32768)),
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
    "qwen3-8b-q4k": lambda path: make_sparse(path, gguf_families.qwen3, QWEN3_8B),
    "qwen3-30b-a3b-q4k": lambda path: make_sparse(path, gguf_families.qwen3moe, QWEN3_30B_A3B),
    "llama-70b-q4k": lambda path: make_sparse(path, gguf_families.llama, LLAMA_70B),
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
