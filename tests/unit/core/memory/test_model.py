"""What each architecture keeps, against arithmetic written out by hand from its configuration."""

from typing import Any

import pytest
from support.shapes import dense, shape

from llmctl.core.gguf import Header
from llmctl.core.memory import Estimator, Model, Settings, model_of
from llmctl.errors import GgufError

CELLS = 4096
F16 = 2
F32 = 4
MAMBA: dict[str, Any] = {"ssm__conv_kernel": 4, "ssm__inner_size": 8192, "ssm__state_size": 16}
MAMBA2: dict[str, Any] = {
    **MAMBA,
    "ssm__state_size": 128,
    "ssm__group_count": 8,
    "ssm__time_step_rank": 128,
}
MLA: dict[str, Any] = {
    "attention__key_length": 576, "attention__value_length": 512, "attention__head_count_kv": 1,
    "attention__key_length_mla": 192, "attention__value_length_mla": 128,
    "attention__kv_lora_rank": 512,
}  # fmt: skip
INDEXER: dict[str, Any] = {"attention__indexer__key_length": 128, "attention__indexer__top_k": 2048}


def kept(model: Model, **words: Any) -> tuple[int, int]:
    """Bytes of K/V and of state, on a host without devices."""
    _, host, _ = Estimator(model, []).needs(Settings(ctx=CELLS, **words))
    return host.kv_bytes, host.state_bytes


def hybrid(architecture: str, attention: set[int], layers: int, **more: Any) -> Model:
    heads = tuple(8 if n in attention else 0 for n in range(layers))
    return dense(architecture, layers=layers, kv=8, attention__head_count_kv=heads, **more)


def cells(layers: int, width: int = 2 * 8 * 128, count: int = CELLS) -> int:
    return layers * width * F16 * count


def rows(layers: int, *floats: int) -> int:
    return layers * sum(-(-one * F32 // 32) * 32 for one in floats)


@pytest.mark.parametrize(
    ("model", "kv", "state"),
    [
        (dense("llama", layers=32, kv=8), cells(32), 0),
        (dense("deci", layers=3, kv=8, attention__head_count_kv=(8, 0, 4)), cells(3) // 2, 0),
        (shape("gpt2", block_count=2, embedding_length=768, attention__head_count=12),
         cells(2, 2 * 768), 0),
        # windows: pad256(1024 + 512) cells
        (dense("gemma2", layers=26, kv=8, attention__sliding_window=1024),
         cells(13) + cells(13, count=1536), 0),
        (dense("gemma2", layers=26, kv=8), cells(26), 0),  # its own window is 4096: all of this
        (dense("gemma3", layers=26, kv=8, attention__sliding_window=1024),
         cells(4) + cells(22, count=1536), 0),
        (dense("gemma3", layers=26, kv=8), cells(26), 0),
        (dense("gemma3", layers=26, kv=8, attention__sliding_window=1024,
               attention__sliding_window_pattern=2), cells(13) + cells(13, count=1536), 0),
        (dense("gemma3n", layers=35, kv=8, attention__sliding_window=512),
         cells(4) + cells(16, count=1024), 0),
        (dense("cohere2", layers=8, kv=8, attention__sliding_window=1024),
         cells(2) + cells(6, count=1536), 0),
        (dense("cohere2moe", layers=9, kv=8, attention__sliding_window=1024),
         cells(3) + cells(6, count=1536), 0),
        (dense("smallthinker", layers=8, kv=8, attention__sliding_window=100), cells(8), 0),
        (dense("llama4", layers=8, kv=8), cells(8), 0),  # chunks of 8192
        (dense("phi3", layers=8, kv=8, attention__sliding_window=512), cells(8), 0),
        (dense("exaone4", layers=64, kv=8, attention__sliding_window=512),
         cells(16) + cells(48, count=1024), 0),
        (dense("exaone4", layers=30, kv=8, attention__sliding_window=512), cells(30), 0),
        (dense("step35", layers=4, kv=8, attention__sliding_window=512,
               attention__sliding_window_pattern=(False, True, True, True)),
         cells(1) + cells(3, count=1024), 0),
        # recurrent
        (shape("mamba", block_count=4, embedding_length=4096, attention__head_count=0, **MAMBA),
         0, rows(4, 3 * 8192, 16 * 8192)),
        (shape("mamba2", block_count=4, embedding_length=4096, attention__head_count=0, **MAMBA2),
         0, rows(4, 3 * (8192 + 2 * 8 * 128), 128 * 8192)),
        (shape("rwkv7", block_count=4, embedding_length=2048, attention__head_count=0,
               wkv__head_size=64), 0, rows(4, 2 * 2048, 2048 * 64)),
        (shape("arwkv7", block_count=4, embedding_length=2048, attention__head_count=0,
               wkv__head_size=64, token_shift_count=1), 0, rows(4, 2048, 2048 * 64)),
        # hybrid
        (hybrid("jamba", {3, 7}, 8, **MAMBA), cells(2), rows(6, 3 * 8192, 16 * 8192)),
        (hybrid("granitehybrid", {5}, 8, **MAMBA2), cells(1),
         rows(7, 3 * (8192 + 2 * 8 * 128), 128 * 8192)),
        (hybrid("lfm2", {2, 5}, 8, shortconv__l_cache=3), cells(2), rows(6, 2 * 4096)),
        (hybrid("lfm2", {2, 5}, 8, shortconv__l_cache=3, attention__sliding_window=512),
         cells(2, count=1024), rows(6, 2 * 4096)),
        (hybrid("lfm2moe", {2, 5}, 8, shortconv__l_cache=3, attention__sliding_window=512),
         cells(2), rows(6, 2 * 4096)),
        (dense("falcon-h1", layers=4, kv=8, **MAMBA2), cells(4),
         rows(4, 3 * (8192 + 2 * 8 * 128), 128 * 8192)),
        (dense("qwen3next", layers=8, kv=8, **MAMBA2), cells(2),
         rows(6, 3 * (8192 + 2 * 8 * 128), 128 * 8192)),
        (dense("qwen35", layers=9, kv=8, nextn_predict_layers=1, **MAMBA2), cells(2),
         rows(6, 3 * (8192 + 2 * 8 * 128), 128 * 8192)),
        (hybrid("nemotron_h", {4}, 6, feed_forward_length=(0, 9000, 0, 9000, 0, 9000), **MAMBA2),
         cells(1), rows(2, 3 * (8192 + 2 * 8 * 128), 128 * 8192)),
        (hybrid("kimi-linear", {3}, 4, kda__head_dim=128, ssm__conv_kernel=4,
                **{k: v for k, v in MLA.items() if "head_count" not in k}),
         cells(1, 8 * 576), rows(3, 3 * 3 * 32 * 128, 128 * 128 * 32)),
        (dense("minimax-01", layers=8, kv=8), cells(1), rows(7, 128 * 128 * 32)),
        # what is attended to is compressed, or chosen
        (dense("deepseek2", layers=4, kv=1, **MLA), cells(4, 576), 0),
        (shape("deepseek2", block_count=4, embedding_length=5120, attention__head_count=128,
               attention__key_length=192, attention__value_length=128),
         cells(4, 128 * (192 + 128)), 0),
        (dense("deepseek32", layers=4, kv=1, **MLA, **INDEXER), cells(4, 576 + 128), 0),
        (dense("glm-dsa", layers=7, kv=1, nextn_predict_layers=1, **MLA, **INDEXER),
         cells(6, 576 + 128), 0),
        (dense("glm-dsa", layers=10, kv=1, context_length=1 << 20, **MLA, **INDEXER),
         cells(10, 576) + cells(4, 128), 0),  # 0, 1, 2 and 6 select
        (dense("glm-dsa", layers=4, kv=1, attention__indexer__types=(1, 0, 0, 1), **MLA, **INDEXER),
         cells(4, 576) + cells(2, 128), 0),
        (dense("hy_v4", layers=4, kv=1, **MLA), cells(4, 576), 0),
        (dense("minimax-m3", layers=4, kv=8, leading_dense_block_count=1, **INDEXER),
         cells(4) + cells(3, 128 + 128), 0),
        (dense("glm5-next", layers=4, kv=1, kda__head_dim=128, ssm__conv_kernel=4,
               attention__indexer__kpool=4,
               **{**MLA, **INDEXER, "attention__head_count_kv": (0, 0, 0, 1)}),
         cells(1, 576 + 3 * 128), rows(3, 3 * 3 * 32 * 128, 128 * 128 * 32)),
        # layers that only predict further tokens, loops, and no cache at all
        (dense("glm4moe", layers=5, kv=8, nextn_predict_layers=1), cells(4), 0),
        (dense("nanbeige", layers=4, kv=8, num_loops=3), cells(12), 0),
        (dense("modern-bert", layers=4, kv=8), 0, 0),
    ],
)  # fmt: skip
def test_what_a_model_keeps(model: Model, kv: int, state: int) -> None:
    assert kept(model) == (kv, state)


def test_v_takes_the_widest_layer_s_room_without_flash_attention() -> None:
    model = dense("deci", layers=3, kv=8, attention__head_count_kv=(8, 0, 4))
    k, v = 12 * 128 * F16 * CELLS, 3 * 8 * 128 * F16 * CELLS
    assert kept(model, flash_attn=False) == (k + v, 0)


def test_slots_multiply_windows_and_states_and_not_the_rest() -> None:
    gemma = dense("gemma3", layers=6, kv=8, attention__sliding_window=256)
    assert kept(gemma, parallel=4, unified=True)[0] == cells(1) + cells(5, count=1536)
    assert kept(gemma, parallel=4)[0] == cells(1) + cells(5, count=4 * 768)
    qwen = dense("qwen3next", layers=8, kv=8, **MAMBA2)
    (kv, one), (same, four) = kept(qwen), kept(qwen, parallel=4, unified=True)
    assert (same, four) == (kv, 4 * one)


def test_a_drafting_model_keeps_a_state_per_drafted_token_where_it_can_roll_back() -> None:
    for architecture, times in (("qwen35", 4), ("qwen3next", 1)):
        model = dense(architecture, layers=9, kv=8, nextn_predict_layers=1, **MAMBA2)
        assert kept(model, mtp=True, n_draft=3)[1] == times * kept(model)[1]


def test_an_unknown_architecture_is_bounded_and_said_to_be() -> None:
    model = dense("novel-5", layers=4, kv=8, attention__sliding_window=512)
    assert kept(model) == (cells(4), 0)
    estimate = Estimator(model, []).estimate(Settings(ctx=CELLS))
    assert not estimate.exact
    assert "novel-5 is not covered exactly" in estimate.warnings[0]


@pytest.mark.parametrize("value", [0, 1 << 20, "many", -1])
def test_nonsense_is_refused(value: Any) -> None:
    with pytest.raises(GgufError):
        dense("llama", layers=value, kv=8)
    with pytest.raises(GgufError):
        model_of(Header(3, 32, {}, {}, (), 0, 0))
