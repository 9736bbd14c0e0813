"""What a plan needs, per device and on the host, and its parts added up."""

import msgspec
from msgspec.structs import replace

from llmctl.core.gguf import Header
from llmctl.core.memory.buffers import Buffer
from llmctl.core.memory.model import Model
from llmctl.core.memory.settings import Era, Settings


class Draft(msgspec.Struct, frozen=True):
    """A model that drafts: llama.cpp gives it the target's context and a plan of its own.

    home: the one device that it is on, or CPU; None: it is divided as its settings say.
    """

    model: Model
    settings: Settings
    home: int | None = None


class Need(msgspec.Struct, frozen=True, kw_only=True):
    """What one device, or the host, must have room for. compute_error: how many bytes compute may
    be off, either way. draft_bytes: a draft model or MTP context with all it needs there."""

    name: str
    weights_bytes: int = 0
    kv_bytes: int = 0
    state_bytes: int = 0
    compute_bytes: int = 0
    compute_error_bytes: int = 0
    mmproj_bytes: int = 0
    draft_bytes: int = 0
    output_bytes: int = 0

    @property
    def total_bytes(self) -> int:
        """All of it, compute at its estimate."""
        return (
            self.weights_bytes + self.kv_bytes + self.state_bytes + self.compute_bytes
            + self.mmproj_bytes + self.draft_bytes + self.output_bytes
        )  # fmt: skip


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """A priced plan. exact: weights and context are what llama.cpp allocates, to the byte; else
    they are bounds, and the warnings say why.

    cache_ram_max_bytes, checkpoints_max_bytes: what the server may keep in host memory besides, at
    most, as it works. is_seen: compute is not estimated, a start with these settings logged it.
    """

    devices: tuple[Need, ...]
    host: Need
    n_ctx: int
    era: Era
    exact: bool
    cache_ram_max_bytes: int = 0
    checkpoints_max_bytes: int = 0
    warnings: tuple[str, ...] = ()
    is_seen: bool = False


def need_of(name: str, weights: int, kv: int, state: int, compute: Buffer) -> Need:
    """What one place takes, without what drafts or sees."""
    return Need(
        name=name, weights_bytes=weights, kv_bytes=kv, state_bytes=state,
        compute_bytes=compute.nbytes, compute_error_bytes=compute.error_bytes,
    )  # fmt: skip


def with_draft(
    devices: tuple[Need, ...], host: Need, draft: tuple[tuple[Need, ...], Need]
) -> tuple[tuple[Need, ...], Need]:
    """Adds what drafts: its bytes as one sum, its doubt to that of the compute buffers."""
    both = [
        replace(
            need, draft_bytes=need.draft_bytes + more.total_bytes,
            compute_error_bytes=need.compute_error_bytes + more.compute_error_bytes,
        )
        for need, more in zip((*devices, host), (*draft[0], draft[1]), strict=True)
    ]  # fmt: skip
    return tuple(both[:-1]), both[-1]


def with_projector(
    devices: tuple[Need, ...], host: Need, mmproj: Header
) -> tuple[tuple[Need, ...], Need]:
    """The projector goes to the first device (tools/mtmd/clip.cpp), with a compute buffer that
    grows with the largest image: a third of the weights, where that has been seen."""
    weights = sum(tensor.nbytes for tensor in mmproj.tensors)
    first = devices[0] if devices else host
    seeing = replace(
        first, mmproj_bytes=weights + weights // 3,
        compute_error_bytes=first.compute_error_bytes + weights // 3,
    )  # fmt: skip
    return ((seeing, *devices[1:]), host) if devices else ((), seeing)
