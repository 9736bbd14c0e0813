"""What real servers, run by others, printed of their memory: equal to a hundredth of a MiB.

All 28 logs are here. Of some only a part follows the rules: compute buffers are of three eras and
several backends (an order of magnitude is asked of them), two were run with the split of before
ggml-org/llama.cpp#18148, one by a fork that has no window caches, one names no model.
"""

import json
from typing import Any

import msgspec
import pytest
from support.oracle import header_of, models, oracle
from support.shapes import dense, gemma4, qwen3moe_235b, qwen35moe

from llmctl.core.gguf import Tensor
from llmctl.core.memory import Device, Estimator, Model, Override, Settings, model_of

MIB = 1 << 20
GPU = [Device("CUDA0")]
LOGS = {log["n"]: log["observed_mib"] for log in oracle()["logs"]}
NO_RULES = {
    33: "printed nothing that is quoted",
    35: "compute only, of an era without a rule for two GPUs",
    53: "the model has no name, so neither has its architecture",
}


def without_mtp() -> Model:
    one = json.loads(json.dumps(oracle()["models"]["qwen36_27b"]))
    one["metadata"]["qwen35.block_count"] = 64
    one["metadata"]["qwen35.nextn_predict_layers"] = 0
    return model_of(
        header_of(one["metadata"], [t for t in one["tensors"] if "blk.64." not in t[0]])
    )


def estimator(
    model: Model, devices: list[Device] | None = None, *, build: int | None = None
) -> Estimator:
    return Estimator(model, GPU if devices is None else devices, build=build)


def split(model: Model, settings: Settings) -> dict[str, float]:
    """K/V of full and of windowed layers, in MiB."""
    found = {}
    for name, kept in (("KV_full", False), ("KV_swa", True)):
        layers = tuple(
            layer if layer.is_swa == kept else msgspec.structs.replace(layer, k=0, v=0)
            for layer in model.layers
        )
        only = msgspec.structs.replace(model, layers=layers)
        found[name] = sum(need.kv_bytes for need in estimator(only).needs(settings)[0]) / MIB
    return found


def parts(
    model: Model, settings: Settings, devices: list[Device] | None = None
) -> dict[str, float]:
    """What a log says of one plan on one device, in MiB."""
    (first, *_), host, _ = estimator(model, devices).needs(settings)
    return {
        "KV_CUDA0": first.kv_bytes / MIB, "KV_CPU": host.kv_bytes / MIB,
        "RS_CUDA0": first.state_bytes / MIB, "RS_CPU": host.state_bytes / MIB,
        "model_CUDA0": first.weights_bytes / MIB, "output": host.output_bytes / MIB,
        "model_CPU_Mapped": host.weights_bytes / MIB,
    }  # fmt: skip


Q8 = {"type_k": "q8_0", "type_v": "q8_0"}


def q27() -> Model:
    return models()["qwen36_27b"]


def ot(patterns: str) -> tuple[Override, ...]:
    return tuple(Override(one, "CPU") for one in patterns.split(","))


def cases() -> list[Any]:
    q35 = qwen35moe(layers=40)
    oss, oss120 = models()["gptoss20"], models()["gptoss120"]
    llama, q30 = models()["llama31_8b"], models()["qwen3_30b"]
    g26 = gemma4(layers=30, period=6, full=2, sliding=8, window=1024)
    g31 = gemma4(layers=60, period=6, full=4, sliding=16, window=1024)
    e2b = gemma4(layers=35, period=5, full=1, sliding=1, window=512, shared=20)
    return [
        (1, q27(), {"ctx": 131072, "parallel": 4, "unified": True, **Q8},
         {"KV_CUDA0": "KV_CUDA0", "RS_CUDA0": "RS_CUDA0", "output": "output",
          "model_CPU_Mapped": "model_CPU_Mapped"}),
        (3, without_mtp(), {"ctx": 131072, "gpu_layers": 26},
         {"KV_CUDA0": "KV_CUDA0", "KV_CPU": "KV_CPU", "RS_CUDA0": "RS_CUDA0", "RS_CPU": "RS_CPU",
          "output": "output"}),
        (5, q27(), {"ctx": 32768, "mtp": True, "n_draft": 2},
         {"KV_CUDA0": "KV_Vulkan0", "RS_CUDA0": "RS_Vulkan0"}),
        (7, q27(), {"ctx": 8192, "parallel": 4, "unified": True, "mtp": True, "n_draft": 2,
                    "gpu_layers": 64},
         {"KV_CUDA0": "KV_Vulkan0", "RS_CUDA0": "RS_Vulkan0", "RS_CPU": "RS_CPU"}),
        (9, q35, {"ctx": 32768}, {"KV_CUDA0": "KV", "RS_CUDA0": "RS"}),
        (11, q35, {"ctx": 65536, "parallel": 4, "unified": True}, {"KV_CUDA0": "KV_CUDA0"}),
        (13, q35, {"ctx": 54784}, {"KV_CUDA0": "KV_Vulkan0"}),
        (15, qwen35moe(layers=48), {"ctx": 131072, **Q8}, {"KV_CUDA0": "KV"}),
        (17, oss, {"ctx": 131072},
         {"KV_full": "KV_full", "KV_swa": "KV_swa", "output": "output",
          "model_CPU_Mapped": "model_CPU_Mapped"}),
        (19, oss, {"ctx": 131072, "ubatch": 2048},
         {"KV_full": "KV_full", "KV_swa": "KV_swa", "output": "output"}),
        (21, oss, {"ctx": 8192, "ubatch": 128, **Q8}, {"KV_full": "KV_full", "KV_swa": "KV_swa"}),
        (23, oss120, {"ctx": 4096, "swa_full": True},
         {"KV_full": "KV_full", "KV_swa": "KV_swa", "output": "output"}),
        (25, g26, {"ctx": 262144, **Q8}, {"KV_full": "KV_full", "KV_swa": "KV_swa"}),
        (27, g31, {"ctx": 32768, "parallel": 4, "unified": True},
         {"KV_full": "KV_full", "KV_swa": "KV_swa"}),
        (29, g31, {"ctx": 147712, **Q8}, {"KV_full": "KV_full"}),
        (31, e2b, {"ctx": 4096, "swa_full": True}, {"KV_swa": "KV_12_swa_layers"}),
        (37, q30, {"ctx": 65536, "parallel": 4, "unified": True},
         {"KV_CUDA0": "KV_CUDA0", "output": "output"}),
        (39, dense("qwen2", layers=28, kv=2), {"ctx": 16384, "parallel": 4, "unified": True},
         {"KV_CUDA0": "KV_CUDA0"}),
        (41, qwen3moe_235b("q6_K"),
         {"ctx": 16384, **Q8, "gpu_layers": 99,
          "overrides": (Override(r"blk\.(0|1|2|3|4)\.ffn.*", "CUDA0"),
                        *ot(r"blk\.(5|6|7|8|9)\.ffn.*,blk\.1[0-9]\.ffn.*,blk\.[2-9][0-9]\.ffn.*"))},
         {"KV_CUDA0": "KV_CUDA0", "model_CUDA0": "model_CUDA0", "output": "output"}),
        (43, qwen3moe_235b("q8_0"),
         {"ctx": 32768, **Q8, "gpu_layers": 99,
          "overrides": ot(r"blk\.1[4-9]\.ffn.*,blk\.[2-9][0-9]\.ffn.*")},
         {"KV_CUDA0": "KV_CUDA0", "model_CUDA0": "model_CUDA0"}),
        (45, llama, {"ctx": 16384, "ubatch": 1024, "gpu_layers": 99},
         {"KV_CUDA0": "KV_Vulkan0", "model_CUDA0": "model_Vulkan0", "output": "output",
          "model_CPU_Mapped": "model_CPU_Mapped"}),
        (51, dense("mistral3", layers=26, kv=8, vocab_size=131072),
         {"ctx": 8192, "parallel": 2, "gpu_layers": 0, "ubatch": 1024},
         {"KV_CPU": "KV_CPU", "output": "output"}),
        (55, q30, {"ctx": 4096}, {"KV_CUDA0": "context_CUDA0"}),
    ]  # fmt: skip


@pytest.mark.parametrize(("number", "model", "words", "lines"), cases(), ids=lambda x: str(x)[:4])
def test_a_log_line_for_line(
    number: int, model: Model, words: dict[str, Any], lines: dict[str, str]
) -> None:
    settings = Settings(**words)
    ours = parts(model, settings) | split(model, settings)
    for mine, theirs in lines.items():
        assert ours[mine] == pytest.approx(LOGS[number][theirs], abs=0.0101), (mine, theirs)


def test_the_mtp_context_of_log_1() -> None:
    drafting = {"draft_k": "q8_0", "draft_v": "q8_0"}
    settings = Settings(ctx=131072, parallel=4, unified=True, **drafting, mtp=True)  # type: ignore[arg-type]
    devices, _ = estimator(q27()).predicting(settings)
    assert devices[0].kv_bytes / MIB == pytest.approx(LOGS[1]["mtp_KV_CUDA0"], abs=0.01)


def test_metal_maps_device_and_host_in_one_span_in_log_17() -> None:
    devices, host, _ = estimator(models()["gptoss20"], [Device("MTL0")]).needs(Settings())
    both = devices[0].weights_bytes + host.weights_bytes
    assert both / MIB == pytest.approx(LOGS[17]["model_MTL0_Mapped"], abs=0.01)


def test_without_mmap_the_host_has_what_the_device_has_not_in_log_43() -> None:
    settings = Settings(ctx=32768, overrides=(Override(r"blk\.(1[4-9]|[2-9][0-9])\.ffn.*", "CPU"),))
    _, host, _ = estimator(qwen3moe_235b("q8_0")).needs(settings)
    observed = LOGS[43]["model_CUDA_Host"] + LOGS[43]["model_CPU"]
    assert host.weights_bytes / MIB == pytest.approx(observed, abs=0.01)


def test_two_nodes_of_log_47() -> None:
    """Evenly split: 41 and 39 layers."""
    model = dense("llama", layers=80, kv=8)
    settings = Settings(ctx=4096, tensor_split=(1, 1), flash_attn=False)
    devices, _, _ = estimator(model, [Device("CUDA0"), Device("CUDA1")]).needs(settings)
    for need, name in zip(devices, ("KV_dev0", "KV_dev1"), strict=True):
        assert need.kv_bytes / MIB == LOGS[47][name]


def test_19_of_36_layers_of_log_49() -> None:
    """Of before #18148: -ngl 19 was 19 layers, as 20 units are now."""
    model = dense("qwen3", layers=36, kv=8)
    settings = Settings(ctx=131072, gpu_layers=20, flash_attn=False)
    devices, host, _ = estimator(model, build=6000).needs(settings)
    assert devices[0].kv_bytes / MIB == LOGS[49]["KV_CUDA0"]
    assert host.kv_bytes / MIB == LOGS[49]["KV_CPU"]
    assert devices[0].compute_bytes / MIB == pytest.approx(LOGS[49]["compute_CUDA0"], rel=0.12)


@pytest.mark.parametrize(
    ("number", "line", "words"),
    [
        (1, "compute_CUDA0", {"ctx": 131072, "parallel": 4, "unified": True, **Q8}),
        (37, "compute_CUDA0", {"ctx": 65536, "parallel": 4, "unified": True}),
        (45, "compute_Vulkan0", {"ctx": 16384, "ubatch": 1024}),
    ],
)
def test_compute_of_the_first_era(number: int, line: str, words: dict[str, Any]) -> None:
    model = {1: "qwen36_27b", 37: "qwen3_30b", 45: "llama31_8b"}[number]
    name = "Vulkan0" if "Vulkan" in line else "CUDA0"
    devices, _, _ = estimator(models()[model], [Device(name)], build=8000).needs(Settings(**words))
    off = abs(devices[0].compute_bytes - LOGS[number][line] * MIB)
    assert off <= devices[0].compute_error_bytes


def test_experts_borrowed_from_the_host_in_logs_41_and_43() -> None:
    for number, type_, ctx in ((41, "q6_K", 16384), (43, "q8_0", 32768)):
        settings = Settings(ctx=ctx, overrides=(Override(r"blk\.[2-9][0-9]\.ffn.*", "CPU"),))
        devices, _, _ = estimator(qwen3moe_235b(type_), build=6000).needs(settings)
        assert devices[0].compute_bytes / MIB == pytest.approx(
            LOGS[number]["compute_CUDA0"], rel=0.1
        )


def test_no_log_is_left_out() -> None:
    own = {47, 49}
    assert {number for number, *_ in cases()} | own | set(NO_RULES) == set(LOGS)


def test_a_shape_may_have_tensors() -> None:
    assert isinstance(models()["llama31_8b"].tensors[0], Tensor)
