"""core/gguf_name.py: what a file's name says."""

from __future__ import annotations

import pytest

from llmctl.core.gguf_name import quant, shards


def test_a_split_file_has_all_its_parts() -> None:
    assert shards("/m/x-00001-of-00003.gguf") == (
        "/m/x-00001-of-00003.gguf",
        "/m/x-00002-of-00003.gguf",
        "/m/x-00003-of-00003.gguf",
    )


@pytest.mark.parametrize("path", [
    "x.gguf", "x-1-of-3.gguf", "x-00001-of-00003.bin", "", "x-00000-of-00000.gguf",
    "x-00004-of-00003.gguf",
])  # fmt: skip
def test_any_other_file_is_its_only_part(path: str) -> None:
    assert shards(path) == (path,)


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("Qwen3-Coder-30B-A3B-Instruct-Q4_K_M.gguf", "Q4_K_M"),
        ("/m/gemma-4-26B-A4B-it-Q4_K_M.gguf", "Q4_K_M"),
        ("Qwen3.6-27B-TQ3_4S.gguf", "TQ3_4S"),
        ("Qwen3.8-27B-IQ3_M.gguf", "IQ3_M"),
        ("model-UD-Q2_K_XL.gguf", "UD-Q2_K_XL"),
        ("gpt-oss-20b-mxfp4.gguf", "MXFP4"),
        ("llama-bf16.gguf", "BF16"),
        ("model.f16.gguf", "F16"),
        ("big-Q8_0-00001-of-00002.gguf", "Q8_0"),
        ("qwen2-plain.gguf", None),
        ("Q4_K_M/plain.gguf", None),
    ],
)
def test_the_quantization_is_read_from_the_name(path: str, word: str | None) -> None:
    assert quant(path) == word
