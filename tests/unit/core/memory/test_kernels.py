"""What CUDA has kernels for: heads, and tensors that must stay in host memory without one."""

import pytest
from support.oracle import header_of
from support.shapes import dense, shape

from llmctl.core.gguf import Tensor
from llmctl.core.memory import Device, Estimator, Settings, estimate, model_of
from llmctl.core.memory.kernels import has_kernel
from llmctl.errors import GgufError

GPU = Device("CUDA0", 24 << 30, 23 << 30)


@pytest.mark.parametrize(
    ("head", "value", "heads", "kv", "there"),
    [
        (128, 128, 32, 8, True), (80, 80, 32, 32, True), (160, 160, 32, 8, False),
        (192, 128, 64, 8, True), (192, 128, 64, 16, False), (96, 64, 40, 40, False),
        (512, 512, 16, 2, True), (512, 512, 16, 16, False), (320, 256, 32, 1, True),
    ],
)  # fmt: skip
def test_heads(head: int, value: int, heads: int, kv: int, there: bool) -> None:
    model = dense(
        "llama", layers=2, kv=kv, head=head, attention__head_count=heads,
        attention__value_length=value,
    )  # fmt: skip
    assert has_kernel(model) is there
    said = "\n".join(estimate(model, Settings(ctx=4096), [GPU]).warnings)
    assert ("no flash attention" in said) is not there
    off = estimate(model, Settings(ctx=4096, flash_attn=False), [GPU])
    assert "no flash attention" not in "\n".join(off.warnings)


def test_encoders_and_layers_without_heads() -> None:
    assert has_kernel(dense("bert", layers=2, kv=32, head=64))
    assert not has_kernel(dense("bert", layers=2, kv=32, head=32))
    assert has_kernel(shape("mamba", block_count=2, embedding_length=256))


def hosted(architecture: str, tensor: Tensor, device: str, **keys: int) -> int:
    model = shape(architecture, (tensor,), block_count=1, embedding_length=256,
                  attention__head_count=2, **keys)  # fmt: skip
    return Estimator(model, [Device(device)]).needs(Settings(ctx=256))[1].weights_bytes


@pytest.mark.parametrize(
    ("architecture", "name", "type_", "dims", "stays"),
    [
        ("llama", "attn_q.weight", "tq1_0", (256, 256), True),
        ("llama", "attn_q.weight", "iq4_nl", (256, 256), False),
        ("llama", "attn_q.bias", "bf16", (256,), True),
        ("llama", "attn_q.bias", "f16", (256,), False),
        ("mamba2", "ssm_a", "f32", (1, 8), False),
        ("plamo2", "ssm_a", "f32", (64,), True),
        ("mamba", "ssm_a", "f32", (16, 512), False),
        ("mamba", "ssm_a", "f32", (16, 500), True),
        ("mamba2", "ssm_conv1d.weight", "f32", (4, 512), False),
        ("mamba2", "ssm_conv1d.weight", "f32", (4, 500), True),
        ("qwen35", "ssm_a", "f32", (64,), False),
    ],
)
def test_weights_that_stay(
    architecture: str, name: str, type_: str, dims: tuple[int, ...], stays: bool
) -> None:
    tensor = header_of({}, [[f"blk.0.{name}", type_, list(dims)]]).tensors[0]
    found = hosted(
        architecture, tensor, "CUDA0", ssm__state_size=128, ssm__inner_size=512,
        ssm__conv_kernel=4,
    )  # fmt: skip
    assert found == (tensor.nbytes if stays else 0)
    left = architecture == "mamba" and name == "ssm_a"  # nothing else is known of what it lacks
    assert hosted(architecture, tensor, "Vulkan0") == (tensor.nbytes if left else 0)


def test_what_a_file_may_not_say() -> None:
    with pytest.raises(GgufError, match="has 2 numbers for 3 layers"):
        dense("llama", layers=3, kv=8, feed_forward_length=(7, 8))
    flat = header_of(
        {"general.architecture": "llama", "llama.block_count": 1},
        [["token_embd.weight", "f32", [64]]],
    )
    assert model_of(flat).n_vocab == 0


def test_a_batch_is_no_larger_than_the_context_asked_for() -> None:
    estimator = Estimator(dense("llama", layers=2, kv=8), [GPU])
    assert estimator.needs(Settings(ctx=300))[2].ubatch == 300
    assert estimator.needs(Settings(ctx=300))[2].n_ctx == 512
