"""What real servers, run by others, printed of their memory: equal to a hundredth of a MiB.

The logs and what is compared of them are in support/logs.py. Compute buffers are of three eras and
several backends: an order of magnitude is asked of them.
"""

from typing import Any

import pytest
from support.logs import MIB, NO_RULES, Q8, Case, cases, estimator, logs, q27
from support.oracle import models
from support.shapes import dense, qwen3moe_235b

from llmctl.core.gguf import Tensor
from llmctl.core.memory import Device, Override, Settings

LOGS = {number: log["observed_mib"] for number, log in logs().items()}


@pytest.mark.parametrize("case", cases(), ids=lambda case: str(case.number))
def test_a_log_line_for_line(case: Case) -> None:
    for line, error in case.errors().items():
        assert abs(error) < 0.0101, line


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


def test_compute_of_before_18148_in_log_49() -> None:
    settings = Settings(ctx=131072, gpu_layers=20, flash_attn=False)
    devices, _, _ = estimator(dense("qwen3", layers=36, kv=8), build=6000).needs(settings)
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
    assert {case.number for case in cases()} | set(NO_RULES) == set(LOGS)
    assert {case.number for case in cases()} & set(NO_RULES) == set()


class TestLogsWithoutRules:
    """What is said of them is so."""

    def test_33_has_no_lines(self) -> None:
        assert LOGS[33] == {}

    def test_35_has_compute_alone_of_two_gpus_in_the_first_era(self) -> None:
        assert {line.split("_")[0] for line in LOGS[35]} == {"compute"}
        assert logs()[35]["args"]["n_gpu"] == 2
        assert logs()[35]["build"] < "2026-05"

    def test_53_has_windows_of_cells_by_the_rule_in_layers_as_wide_as_the_others(self) -> None:
        assert "unnamed" in logs()[53]["model"]
        full = LOGS[53]["KV_full"] / 10 / logs()[53]["args"]["n_ctx"]
        assert LOGS[53]["KV_swa"] / 40 / LOGS[53]["swa_cells"] == full
        assert LOGS[53]["swa_cells"] % 256 == 0


def test_a_shape_may_have_tensors() -> None:
    assert isinstance(models()["llama31_8b"].tensors[0], Tensor)
