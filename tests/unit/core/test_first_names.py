"""Names that profiles get of themselves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmctl.core.first_names import profile_name
from llmctl.core.words import NAME


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("Qwen3-Coder-30B-A3B-Instruct-Q4_K_M.gguf", "qwen3-coder-30b-a3b-instruct"),
        ("Qwen3-235B-UD-Q2_K_XL-00001-of-00003.gguf", "qwen3-235b"),
        ("gemma-4-26B-A4B-it.gguf", "gemma-4-26b-a4b-it"),
        ("BF16/model-BF16.gguf", "model"),
        ("Q4_K_M.gguf", "q4_k_m"),
        ("my model (new)é.gguf", "my-model-new"),
        ("---.gguf", "model"),
        ("F16-vision-Q8_0-tuned.gguf", "f16-vision-q8_0-tuned"),
    ],
)
def test_a_name_is_what_a_person_would_type(file: str, name: str) -> None:
    assert profile_name(f"/models/{file}", ()) == name


def test_a_second_file_of_a_model_says_how_it_is_quantized_and_a_third_is_numbered() -> None:
    taken: list[str] = []
    for path in ("a/Qwen-Q4_K_M.gguf", "a/Qwen-Q8_0.gguf", "b/Qwen-Q8_0.gguf", "c/Qwen-Q8_0.gguf"):
        taken.append(profile_name(path, taken))
    assert taken == ["qwen", "qwen-q8_0", "qwen-2", "qwen-3"]


@given(st.text(max_size=300), st.lists(st.just("model")))
def test_any_file_gets_a_name(stem: str, taken: list[str]) -> None:
    name = profile_name(f"/models/{stem}.gguf", taken)
    assert NAME.fullmatch(name)
    assert name not in taken
