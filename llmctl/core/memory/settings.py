"""What can be said on llama-server's command line that changes where memory goes."""

import enum

import msgspec
from msgspec.structs import replace

MIB = 1 << 20


class Era(enum.Enum):
    """llama.cpp's ways to size compute buffers, each from the build that began it.

    C lies somewhere between 9501 and 11434: from where it is put on, the larger of both is assumed.
    """

    A = 0  # logits for every token of a ubatch
    B = 9460  # only for those asked for (ggml-org/llama.cpp#23861); f16 K/V inside (#23907)
    C = 10000  # the inputs of mixed batches

    @classmethod
    def of_build(cls, build: int | None) -> "Era":
        """The era of a build number (`llama-server --version`); unknown: the latest."""
        if build is None:
            return cls.C
        return next(era for era in reversed(cls) if build >= era.value)


class Override(msgspec.Struct, frozen=True):
    """One `-ot PATTERN=WHERE`: the first whose pattern is found in a tensor's name wins."""

    pattern: str
    where: str


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """One explicit plan. Nothing is automatic here: what is absent has llama.cpp's default.

    ctx: 0 is what the model was trained for. gpu_layers: None is all. tensor_split: empty is by
    free memory. `overrides` come before `n_cpu_moe`, as llmctl writes them. A llama-server
    without `-np` has parallel=4 and unified=True. n_draft: tokens drafted at a time by MTP layers,
    whose cache has types of its own (`-ctkd`, `-ctvd`: f16 unless given).
    """

    ctx: int = 0
    gpu_layers: int | None = None
    tensor_split: tuple[float, ...] = ()
    split_mode: str = "layer"
    main_gpu: int = 0
    n_cpu_moe: int = 0
    overrides: tuple[Override, ...] = ()
    type_k: str = "f16"
    type_v: str = "f16"
    parallel: int = 1
    unified: bool = False
    batch: int = 2048
    ubatch: int = 512
    flash_attn: bool = True
    kv_offload: bool = True
    swa_full: bool = False
    op_offload: bool = True
    mtp: bool = False
    n_draft: int = 0
    draft_k: str = "f16"
    draft_v: str = "f16"
    cache_ram_bytes: int = 8192 * MIB
    checkpoints: int = 32

    @property
    def drafting(self) -> "Settings":
        """What the MTP context is made with."""
        return replace(self, type_k=self.draft_k, type_v=self.draft_v)


class Device(msgspec.Struct, frozen=True):
    """A GPU as the binary names it: `CUDA0`, `Vulkan1`, `ROCm0`, `MTL0`, `SYCL0`."""

    name: str
    total_bytes: int = 0
    free_bytes: int = 0


class Padding(msgspec.Struct, frozen=True):
    """How a backend lays tensors into a buffer: each begins at a multiple of `alignment`, and the
    last row of quantized ones is filled up to a multiple of `row` elements (1: it is not). scans:
    it runs the recurrence of Mamba-1; else the CPU does, and keeps that weight (see `Weights`)."""

    alignment: int
    row: int = 1
    scans: bool = True

    def aligned(self, nbytes: int) -> int:
        """What a tensor takes in a buffer (ggml-alloc.c: ggml_backend_alloc_ctx_tensors)."""
        return -(-nbytes // self.alignment) * self.alignment


HOST = Padding(32)
"""ggml-backend.cpp: TENSOR_ALIGNMENT of CPU buffers."""
CUDA = Padding(128, 512)
"""ggml-cuda.cu: get_alignment, get_alloc_size (MATRIX_ROW_PADDING); HIP and MUSA are the same."""
_VULKAN = Padding(64, scans=False)
"""ggml-vulkan.cpp: its SSM_SCAN is Mamba-2's alone."""
_PADDINGS = {"CUDA": CUDA, "ROCm": CUDA, "MUSA": CUDA, "SYCL": CUDA, "Vulkan": _VULKAN}
_METAL = Padding(32)


def padding_of(device: str) -> Padding:
    """The rules of a device's backend; for one that is not known, those that need the most."""
    backend = device.rstrip("0123456789")
    return _METAL if backend in {"MTL", "Metal"} else _PADDINGS.get(backend, CUDA)


def is_known(device: str) -> bool:
    """Are the rules of the device's backend known?"""
    return device.rstrip("0123456789") in {*_PADDINGS, "MTL", "Metal"}
