"""What a GGUF file is told to be."""

from __future__ import annotations

from typing import Any

import pytest
from gguf.constants import LlamaFileType
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from support.oracle import header_of, oracle

from llmctl.core.gguf import Array
from llmctl.core.gguf_facts import Facts, Kind, Pooling, count, facts_of, projectors

LLAMA = {"general.architecture": "llama", "llama.block_count": 2, "llama.embedding_length": 64}
TENSORS = [["blk.0.attn_q.weight", "f16", [64, 64]], ["output_norm.weight", "f32", [64]]]


def facts(metadata: dict[str, Any], tensors: list[Any] = TENSORS, path: str = "x.gguf") -> Facts:
    return facts_of(header_of(metadata, tensors), path)


@pytest.mark.parametrize(
    ("metadata", "kind"),
    [
        (LLAMA, Kind.MODEL),
        ({**LLAMA, "llama.pooling_type": 3}, Kind.EMBEDDING),
        ({**LLAMA, "llama.pooling_type": 0}, Kind.MODEL),
        ({**LLAMA, "general.type": "adapter", "adapter.type": "lora"}, Kind.ADAPTER),
        ({"general.architecture": "clip"}, Kind.PROJECTOR),
        ({"general.architecture": "clip", "general.type": "mmproj"}, Kind.PROJECTOR),
        ({"general.type": "imatrix"}, Kind.IMATRIX),
        ({"general.architecture": "controlvector"}, Kind.CONTROL_VECTOR),
        ({"general.architecture": "eagle3", "eagle3.block_count": 1}, Kind.DRAFT),
        ({"general.architecture": "flux"}, Kind.OTHER),
        ({}, Kind.OTHER),
        ({"general.architecture": 7}, Kind.OTHER),
    ],
)
def test_a_file_is_told_by_what_is_in_it(metadata: dict[str, Any], kind: Kind) -> None:
    assert facts(metadata).kind is kind


def test_a_vocabulary_has_tokens_and_no_tensors() -> None:
    header = header_of(LLAMA, [])
    assert facts_of(header, "x.gguf").kind is Kind.OTHER
    tokens = {"tokenizer.ggml.tokens": Array("string", 100, 0, 1000)}
    assert facts_of(replace(header, arrays=tokens), "x.gguf").kind is Kind.VOCABULARY


@pytest.mark.parametrize(
    ("model", "label"),
    [
        ("qwen3_30b", "30.5B-A3.4B"), ("llama31_8b", "8.0B"), ("gemma3_27b", "27.0B"),
        ("gptoss120", "116.8B-A5.7B"), ("dsv2lite", "15.7B-A2.7B"), ("qwen36_27b", "27.3B"),
    ],
)  # fmt: skip
def test_real_models_have_the_size_that_they_are_known_by(model: str, label: str) -> None:
    one = oracle()["models"][model]
    assert facts(one["metadata"], one["tensors"]).size_label == label


def test_experts_in_part_are_counted_by_how_many_are_used() -> None:
    keys = {**LLAMA, "llama.expert_count": 8, "llama.expert_used_count": 2}
    found = facts(keys, [["a.weight", "f16", [10, 10]], ["ffn_up_exps.weight", "f16", [10, 10, 8]]])
    assert (found.parameters, found.active) == (900, 300)
    for more in ({"llama.expert_used_count": 8}, {"llama.expert_count": 0}):
        assert facts({**keys, **more}).active is None


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (999, "999"), (78_000, "78K"), (596_000_000, "596M"), (8_030_261_312, "8.0B"),
     (1_026_000_000_000, "1.0T")],
)  # fmt: skip
def test_parameters_are_counted_as_people_do(number: int, text: str) -> None:
    assert count(number) == text


@pytest.mark.parametrize("one", [one for one in LlamaFileType if one.name != "GUESSED"])
def test_the_quantization_is_what_gguf_py_calls_it(one: LlamaFileType) -> None:
    name = one.name.removeprefix("MOSTLY_").removeprefix("ALL_")
    assert facts({**LLAMA, "general.file_type": int(one)}).quant == name
    assert facts({**LLAMA, "general.file_type": int(one) + 1024}).quant == name


def test_without_a_file_type_the_most_common_tensor_type_counts() -> None:
    assert facts(LLAMA).quant == "F16"
    for odd in (999, "Q4_K_M", -1, 5):
        assert facts({**LLAMA, "general.file_type": odd}).quant == "F16"
    assert facts(LLAMA, []).quant == ""


def test_a_type_that_only_a_fork_has_is_taken_from_the_name() -> None:
    header = header_of(LLAMA, TENSORS)
    strange = replace(header, tensors=tuple(replace(t, type="type 140") for t in header.tensors))
    assert facts_of(strange, "/m/qwen-TQ3_4S.gguf").quant == "TQ3_4S"
    assert facts_of(strange, "/m/qwen.gguf").quant == "type 140"


VALUES = st.one_of(
    st.integers(-(1 << 63), (1 << 64) - 1), st.floats(), st.booleans(), st.text(max_size=20),
    st.lists(st.integers(-5, 5), max_size=3).map(tuple),
)  # fmt: skip
KEYS = st.sampled_from([
    "general.architecture", "general.type", "general.name", "general.basename",
    "general.file_type", "llama.block_count", "llama.expert_count", "llama.expert_used_count",
    "llama.context_length", "llama.pooling_type", "llama.nextn_predict_layers",
    "llama.embedding_length",
])  # fmt: skip


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(KEYS, VALUES), st.booleans())
def test_nothing_in_a_file_is_too_odd(metadata: dict[str, Any], llama: bool) -> None:
    known = {"general.architecture": "llama"} if llama else {}
    found = facts({**metadata, **known}, [["ffn_up_exps.weight", "f16", [10, 10, 8]]])
    assert found.parameters == 800
    assert found.size_label


# Projectors


def model(architecture: str, width: int = 2560, family: str = "") -> Facts:
    keys = {f"{architecture}.block_count": 1, f"{architecture}.embedding_length": width}
    return facts({"general.architecture": architecture, "general.basename": family, **keys})


def projector(width: int = 2560, family: str = "", *, sound: bool = False) -> Facts:
    key = f"clip.{'audio' if sound else 'vision'}.projection_dim"
    return facts({"general.architecture": "clip", "general.basename": family, key: width})


def test_a_projector_fits_by_its_width() -> None:
    beside = {"a": projector(), "b": projector(5120), "c": projector(sound=True), "d": facts({})}
    assert projectors(model("gemma3"), beside) == ("a", "c")
    assert projectors(model("gemma3", 1), beside) == ()


def test_beside_models_of_other_kinds_it_must_be_of_the_family() -> None:
    beside = {"mmproj": projector(family="gemma-3"), "qwen": model("qwen3", family="Qwen3")}
    assert projectors(model("gemma3", family="Gemma 3"), beside) == ("mmproj",)
    beside["gemma"] = model("gemma3", family="gemma-3")
    assert projectors(beside["qwen"], beside) == ()


def test_pooling_is_read() -> None:
    assert facts({**LLAMA, "llama.pooling_type": 4}).pooling is Pooling.RANK
    assert facts({**LLAMA, "llama.pooling_type": 9}).pooling is None
