"""Where units go, what overrides move, what else is counted, and what a person is told."""

import struct
import time

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.oracle import header_of, models
from support.shapes import dense, shape

from llmctl.core.gguf import Header, Tensor
from llmctl.core.memory import (
    Device,
    Draft,
    Era,
    Estimator,
    Model,
    Need,
    Override,
    Settings,
    estimate,
    model_of,
)
from llmctl.core.memory.place import place
from llmctl.core.memory.settings import Padding, padding_of
from llmctl.core.memory.weights import Weights
from llmctl.errors import ProfileError

GIB = 1 << 30
GPU = Device("CUDA0", 24 * GIB, 23 * GIB)
TWO = [GPU, Device("CUDA1", 12 * GIB, 11 * GIB)]


def f32(value: float) -> float:
    return float(struct.unpack("f", struct.pack("f", value))[0])


class TestPlaces:
    @given(
        st.integers(1, 94), st.integers(0, 96), st.lists(st.integers(0, 50), min_size=1, max_size=4)
    )
    @settings(max_examples=200, deadline=None)
    def test_units_go_where_upper_bound_puts_them(
        self, layers: int, wanted: int, split: list[int]
    ) -> None:
        if not any(split):
            split[0] = 1
        model = dense("llama", layers=layers, kv=8)
        devices = [Device(f"CUDA{n}") for n in range(len(split))]
        plan = Settings(gpu_layers=wanted, tensor_split=tuple(map(float, split)))
        where = place(model, plan, devices)
        active, start = min(wanted, layers + 1), max(layers + 1 - wanted, 0)
        shares, total = [], 0.0
        for one in split:
            total = f32(total + one)
            shares.append(total)
        shares = [f32(one / total) for one in shares]
        for unit in range(layers + 1):
            home = -1
            if unit >= start:
                share = f32((unit - start) / active)
                home = next(n for n, end in enumerate(shares) if end > share)
            assert where.of(unit) == home

    def test_whole_numbers_are_units(self) -> None:
        where = place(dense("llama", layers=48, kv=8), Settings(tensor_split=(37, 12)), TWO)
        assert where.runs == ((0, 37), (37, 49))

    def test_no_split_goes_by_free_memory_and_says_so(self) -> None:
        model = dense("llama", layers=33, kv=8)
        assert place(model, Settings(), TWO).runs == ((0, 23), (23, 34))
        told = estimate(model, Settings(ctx=4096), TWO)
        assert not told.exact
        assert any("--tensor-split" in one for one in told.warnings)

    def test_one_gpu_of_two(self) -> None:
        model = dense("llama", layers=33, kv=8)
        where = place(model, Settings(split_mode="none", main_gpu=1), TWO)
        assert where.runs == ((0, 0), (0, 34))


def small() -> Model:
    tensors: list[list[object]] = [["token_embd.weight", "q8_0", [256, 1000]]]
    for n in range(3):
        tensors += [[f"blk.{n}.attn_q.weight", "q4_K", [256, 256]],
                    [f"blk.{n}.ffn_up_exps.weight", "q4_K", [256, 768, 8]],
                    [f"blk.{n}.ffn_up_exps.bias", "f32", [768, 8]],
                    [f"blk.{n}.ffn_gate_inp.weight", "f32", [256, 8]]]  # fmt: skip
    tensors += [["output_norm.weight", "f32", [256]], ["rope_freqs.weight", "f32", [64]],
                ["token_embd_norm.weight", "f32", [256]]]  # fmt: skip
    keys = {"block_count": 3, "embedding_length": 256, "context_length": 4096, "expert_count": 8,
            "expert_used_count": 2, "attention.head_count": 2, "vocab_size": 1000}  # fmt: skip
    metadata: dict[str, object] = {f"llama.{key}": value for key, value in keys.items()}
    return model_of(header_of({"general.architecture": "llama", **metadata}, tensors))


EMBEDDING, NORM, ROPE = 1000 * 256 // 32 * 34, 1024, 256
PADDED_EMBEDDING = EMBEDDING + 256 // 32 * 34  # rows of 256 are filled up to 512 on CUDA
Q = 256 * 144 + 144
EXPERTS = 768 * 8 * 144 + 144 + 768 * 8 * 4
ROUTER = 256 * 8 * 4


def aligned(nbytes: int) -> int:
    return -(-nbytes // 128) * 128


class TestWeights:
    def weights(self, plan: Settings, devices: list[Device] | None = None) -> tuple[list[int], int]:
        found, host, _ = Estimator(small(), [GPU] if devices is None else devices).needs(plan)
        return [one.weights_bytes for one in found], host.weights_bytes

    LAYER = aligned(Q) + aligned(768 * 8 * 144 + 144) + 768 * 8 * 4 + ROUTER

    def test_a_tied_embedding_is_there_twice(self) -> None:
        all_of_it = aligned(PADDED_EMBEDDING) + 2 * NORM + ROPE + 3 * self.LAYER
        assert self.weights(Settings()) == ([all_of_it], EMBEDDING)

    def test_and_once_when_both_are_on_the_host(self) -> None:
        _, host = self.weights(Settings(gpu_layers=0))
        raw = 256 * 144 + 768 * 8 * 144 + 768 * 8 * 4 + ROUTER
        assert host == EMBEDDING + 2 * NORM + ROPE + 3 * raw
        assert self.weights(Settings(), [])[1] == host

    def test_the_output_goes_first_and_frequencies_to_all_who_have_layers(self) -> None:
        (gpu,), host = self.weights(Settings(gpu_layers=1))
        assert gpu == aligned(PADDED_EMBEDDING) + NORM
        devices, _ = self.weights(Settings(tensor_split=(3, 1)), TWO)
        assert devices == [3 * self.LAYER + NORM + ROPE, aligned(PADDED_EMBEDDING) + NORM]
        assert host == self.weights(Settings(gpu_layers=0))[1] - NORM

    def test_experts_of_the_first_layers_stay_with_their_biases_and_the_router_goes(self) -> None:
        (before,), host = self.weights(Settings())
        (after,), more = self.weights(Settings(n_cpu_moe=2))
        assert before - after == 2 * (aligned(768 * 8 * 144 + 144) + 768 * 8 * 4)
        assert more - host == 2 * (768 * 8 * 144 + 768 * 8 * 4)

    def test_the_first_override_that_matches_wins(self) -> None:
        overrides = (Override(r"blk\.1\.ffn_.*_exps", "CUDA1"), Override("exps", "CPU"))
        plan = Settings(tensor_split=(1, 0), overrides=overrides)
        (first, second), host = self.weights(plan, TWO)
        experts = aligned(768 * 8 * 144 + 144) + 768 * 8 * 4
        assert second == experts
        assert host == EMBEDDING + 2 * (768 * 8 * 144 + 768 * 8 * 4)
        assert first == self.weights(Settings(tensor_split=(1, 0)), TWO)[0][0] - 3 * experts

    def test_both_uses_of_a_tied_embedding_can_be_moved_to_one_place(self) -> None:
        moved = Settings(overrides=(Override("token_embd.weight", "CUDA0"),))
        assert self.weights(moved)[1] == 0
        assert self.weights(moved)[0] == self.weights(Settings())[0]

    def test_an_override_to_nowhere_is_refused(self) -> None:
        with pytest.raises(ProfileError, match="CUDA7, which is not there"):
            self.weights(Settings(overrides=(Override("exps", "CUDA7"),)))
        with pytest.raises(ProfileError, match="no regular expression"):
            self.weights(Settings(overrides=(Override("(", "CPU"),)))

    def test_overrides_and_n_cpu_moe_price_the_same_plan_alike(self) -> None:
        model = models()["qwen3_30b"]
        named = Settings(overrides=(Override(r"blk\.([0-9]|1[0-5])\.ffn_.*_exps", "CPU"),))
        for devices in ([GPU], TWO):
            estimator = Estimator(model, devices)
            assert estimator.needs(named) == estimator.needs(Settings(n_cpu_moe=16))

    def test_mtp_layers_are_loaded_only_to_be_used(self) -> None:
        model = models()["qwen36_27b"]
        assert len(Weights(model, mtp=True).pieces) > len(Weights(model, mtp=False).pieces)

    def test_backends_pad_as_they_do(self) -> None:
        assert padding_of("CUDA3") == padding_of("ROCm0") == Padding(128, 512)
        assert padding_of("Vulkan0").row == padding_of("MTL0").row == 1
        assert padding_of("Novel0") == Padding(128, 512)


def mamba() -> Model:
    tensors: list[list[object]] = [["output.weight", "f16", [256, 1000]]]
    for n in range(4):
        tensors += [
            [f"blk.{n}.ssm_a", "f32", [16, 512]],
            [f"blk.{n}.ssm_out.weight", "f16", [512, 256]],
        ]
    keys = {"block_count": 4, "embedding_length": 256, "context_length": 4096, "vocab_size": 1000,
            "ssm.conv_kernel": 4, "ssm.inner_size": 512, "ssm.state_size": 16}  # fmt: skip
    metadata: dict[str, object] = {f"mamba.{key}": value for key, value in keys.items()}
    return model_of(header_of({"general.architecture": "mamba", **metadata}, tensors))


class TestWhatADeviceCannotDo:
    """As llama.cpp 0.7.0 did on two software GPUs (tests/server/test_memory.py)."""

    SCAN, OUT, HEAD = 16 * 512 * 4, 512 * 256 * 2, 256 * 1000 * 2

    def weights(self, plan: Settings, *names: str) -> tuple[list[int], int]:
        needs, host, _ = Estimator(mamba(), [Device(name) for name in names]).needs(plan)
        return [one.weights_bytes for one in needs], host.weights_bytes

    def test_the_recurrence_of_mamba_is_on_the_host_with_vulkan(self) -> None:
        whole = self.HEAD + 4 * (self.OUT + self.SCAN)
        assert self.weights(Settings(), "CUDA0") == ([whole], 0)
        assert self.weights(Settings(), "Vulkan0") == ([whole - 4 * self.SCAN], 4 * self.SCAN)
        split = Settings(tensor_split=(1, 4))
        assert self.weights(split, "CUDA0", "Vulkan1") == (
            [self.OUT + self.SCAN, whole - self.OUT - 4 * self.SCAN], 3 * self.SCAN,
        )  # fmt: skip

    def test_unless_an_override_puts_it_there(self) -> None:
        here = Settings(overrides=(Override(r"blk\.1\.", "Vulkan0"),))
        (device,), host = self.weights(here, "Vulkan0")
        assert (device - self.HEAD - 4 * self.OUT, host) == (self.SCAN, 3 * self.SCAN)

    def test_it_is_said_and_nothing_else_is_inexact(self) -> None:
        told = estimate(mamba(), Settings(ctx=4096), [Device("Vulkan0")])
        assert told.exact
        assert "Vulkan0 does not run the recurrence of mamba" in told.warnings[0]
        assert estimate(mamba(), Settings(ctx=4096), [GPU]).warnings == ()

    def test_without_flash_attention_keys_may_stay_with_the_cpu(self) -> None:
        plain = dense("llama", layers=4, kv=8)
        for plan, words in (
            (Settings(ctx=4096, flash_attn=False, type_k="q8_0"), "keys of q8_0 to the CPU"),
            (Settings(ctx=4096, flash_attn=False, gpu_layers=3), "keys that are in host memory"),
        ):
            assert words in "".join(estimate(plain, plan, [Device("Vulkan0")]).warnings)
            assert words not in "".join(estimate(plain, plan, [GPU]).warnings)


class TestWhatTheHostHolds:
    """K and V in host memory, as real servers had them."""

    MODEL = dense("llama", layers=4, kv=8, vocab_size=32000)
    LAYER = 2 * 8 * 128 * 2 * 65536

    def compute(self, **more: object) -> tuple[int, int]:
        plan = Settings(ctx=65536, gpu_layers=99)
        plan = msgspec.structs.replace(plan, **more)
        (device,), host, _ = Estimator(self.MODEL, [Device("Vulkan0")]).needs(plan)
        return device.compute_bytes, host.compute_bytes

    def test_is_copied_for_the_layer_that_looks_at_it(self) -> None:
        whole, host = self.compute()
        for more in ({"gpu_layers": 2}, {"kv_offload": False}):
            assert self.compute(**more)[0] == pytest.approx(whole + self.LAYER, rel=0.05)
            assert self.compute(**more)[1] == host
        smaller = self.compute(gpu_layers=2, type_k="q8_0", type_v="q8_0")[0]
        assert smaller == pytest.approx(whole + self.LAYER * 34 // 64, rel=0.05)

    def test_is_looked_at_there_without_flash_attention(self) -> None:
        scores = 32 * 65536 * 512 * 4
        device, host = self.compute(flash_attn=False, kv_offload=False)
        assert device < scores < host
        assert self.compute(flash_attn=False)[0] > scores > self.compute(flash_attn=False)[1]

    def test_whole_numbers_are_made_halves_for_flash_attention(self) -> None:
        whole, _ = self.compute()
        wide, _ = self.compute(type_k="f32", type_v="f32")
        assert wide == pytest.approx(whole + self.LAYER, rel=0.05)


class TestDrafting:
    MODEL = models()["qwen36_27b"]
    CELL = 4 * 256 * 2 * 2  # K and V of one layer as halves

    def drafting(self, **more: object) -> tuple[list[Need], Need]:
        plan = Settings(ctx=8192, type_k="q8_0", type_v="q8_0", mtp=True, n_draft=3)
        plan = msgspec.structs.replace(plan, **more)
        devices, host = Estimator(self.MODEL, TWO).predicting(plan)
        return list(devices), host

    def test_its_cache_has_types_of_its_own(self) -> None:
        kept = [one.kv_bytes for one in self.drafting(tensor_split=(1.0, 0.0))[0]]
        assert kept == [8192 * self.CELL, 0]
        ours = self.drafting(tensor_split=(1.0, 0.0), draft_k="q8_0", draft_v="q8_0")[0]
        assert ours[0].kv_bytes == 8192 * self.CELL * 34 // 64

    def test_it_is_where_its_layer_is_and_its_logits_where_the_output_is(self) -> None:
        layer, output = self.drafting(tensor_split=(65.0, 1.0))[0]
        assert layer.kv_bytes > output.kv_bytes == 0
        assert layer.compute_bytes > 10 * output.compute_bytes > 0

    def test_a_device_with_layers_that_only_draft_works_on_the_output_alone(self) -> None:
        plan = Settings(ctx=8192, tensor_split=(64.0, 2.0))
        (_, second), _, _ = Estimator(self.MODEL, TWO).needs(plan)
        assert second.compute_bytes < 2 << 20


class TestBesides:
    MODEL = dense("llama", layers=4, kv=8, vocab_size=32000)

    def test_a_draft_model_with_all_it_needs(self) -> None:
        draft = Draft(dense("llama", layers=1, kv=8, vocab_size=32000), Settings(ctx=4096))
        alone = estimate(draft.model, draft.settings, [GPU])
        both = Estimator(self.MODEL, [GPU]).estimate(Settings(ctx=4096), draft=draft)
        assert both.devices[0].draft_bytes == alone.devices[0].total_bytes
        assert both.devices[0].total_bytes > alone.devices[0].total_bytes

    def test_a_projector_on_the_first_device_or_the_host(self) -> None:
        header = Header(3, 32, {}, {}, (Tensor("v", "f16", (300,), 0, 600),), 0, 0)
        seen = Estimator(self.MODEL, TWO).estimate(
            Settings(ctx=4096, tensor_split=(1, 1)), mmproj=header
        )
        assert [one.mmproj_bytes for one in seen.devices] == [800, 0]
        assert (
            Estimator(self.MODEL, []).estimate(Settings(), mmproj=header).host.mmproj_bytes == 800
        )

    def test_output_and_checkpoints(self) -> None:
        told = estimate(
            models()["qwen36_27b"], Settings(ctx=32768, parallel=4, unified=True), [GPU]
        )
        assert told.host.output_bytes == 4 * 248320 * 4
        assert told.checkpoints_max_bytes == pytest.approx(4 * 32 * 149.6 * 2**20, rel=0.001)
        assert estimate(self.MODEL, Settings(ctx=4096), []).checkpoints_max_bytes == 0

    def test_eras(self) -> None:
        assert [Era.of_build(one) for one in (6000, 9459, 9460, 11434, None)] == [
            Era.A, Era.A, Era.B, Era.C, Era.C,
        ]  # fmt: skip
        sizes = [
            Estimator(models()["llama31_8b"], [GPU], build=build).needs(Settings(ctx=4096))[0][0]
            for build in (6000, 9460, 11434)
        ]
        assert sizes[0].compute_bytes > sizes[2].compute_bytes > sizes[1].compute_bytes


class TestWarnings:
    def said(self, model: Model, plan: Settings, *devices: Device, ram: int = 0) -> str:
        return "\n".join(Estimator(model, devices, ram_bytes=ram).estimate(plan).warnings)

    PLAIN = dense("llama", layers=4, kv=8)

    def test_a_plain_plan_has_nothing_to_warn_of_and_is_exact(self) -> None:
        told = estimate(self.PLAIN, Settings(ctx=4096), [GPU])
        assert told.warnings == ()
        assert told.exact

    def test_traps(self) -> None:
        mixed = Settings(ctx=4096, type_k="q8_0", type_v="q4_0")
        mla = models()["dsv2lite"]
        old = shape("deepseek2", block_count=2, embedding_length=256, attention__head_count=8)
        for words, model, plan in (
            ("falls to a tenth", self.PLAIN, mixed),
            ("of different types", mla, mixed),
            ("needs flash attention", self.PLAIN, Settings(type_v="q8_0", flash_attn=False)),
            ("trained for", self.PLAIN, Settings(ctx=1 << 20)),
            ("from before MLA", old, Settings(ctx=4096)),
            ("4 recurrent states", models()["qwen36_27b"], Settings(ctx=4096, parallel=4)),
            ("sliding window by 4", models()["gptoss20"], Settings(ctx=4096, parallel=4)),
            ("multiples of 32", dense("llama", layers=2, kv=1, head=80), Settings(type_k="q8_0")),
            ("divides each tensor", self.PLAIN, Settings(split_mode="row")),
        ):
            assert words in self.said(model, plan, GPU), words

    def test_memory_of_the_host(self) -> None:
        model = models()["qwen36_27b"]
        assert "Lower --cache-ram" in self.said(model, Settings(ctx=4096), GPU, ram=8 * GIB)
        assert "The model alone takes" in self.said(model, Settings(ctx=4096), ram=8 * GIB)
        assert self.said(model, Settings(ctx=4096), GPU, ram=64 * GIB) == ""

    def test_strange_types_devices_and_files(self) -> None:
        odd = shape("llama", (Tensor("output.weight", "type 141", (256, 9), 0, 777),),
                    block_count=2, embedding_length=256, attention__head_count=8)  # fmt: skip
        told = estimate(odd, Settings(ctx=4096), [Device("Novel0")])
        assert not told.exact
        assert told.devices[0].weights_bytes == 896
        assert ["type 141" in told.warnings[0], "Novel0" in told.warnings[1]] == [True, True]

    def test_a_type_no_cache_can_have(self) -> None:
        with pytest.raises(ProfileError, match="q9_9"):
            estimate(self.PLAIN, Settings(type_k="q9_9"), [])


@pytest.mark.bench
def test_an_estimate_of_700_tensors_takes_at_most_3_ms() -> None:
    devices = [Device(f"CUDA{n}") for n in range(4)]
    estimator = Estimator(models()["llama33_70b"], devices)
    plan = Settings(tensor_split=(30, 20, 20, 11))
    best = float("inf")
    for step in range(20):
        start = time.perf_counter()
        estimator.estimate(Settings(ctx=256 * step + 256, tensor_split=plan.tensor_split))
        best = min(best, time.perf_counter() - start)
    assert best < 0.003
