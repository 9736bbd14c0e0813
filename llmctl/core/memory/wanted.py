"""What is asked of a planner, and its answer."""

import msgspec

from llmctl.core.memory.need import Estimate, Need
from llmctl.core.memory.settings import Settings


class Room(msgspec.Struct, frozen=True):
    """A device to fill. reserve_bytes of free_bytes are not for the model."""

    name: str
    total_bytes: int
    free_bytes: int
    reserve_bytes: int = 0

    @property
    def usable_bytes(self) -> int:
        """What a plan may fill."""
        return max(self.free_bytes - self.reserve_bytes, 0)


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What is given, and what is left open (None). settings: all the rest of it; its ctx,
    gpu_layers, tensor_split, n_cpu_moe are not looked at. all_layers: gpu_layers is all."""

    settings: Settings = Settings()
    ctx: int | None = None
    gpu_layers: int | None = None
    all_layers: bool = False
    tensor_split: tuple[int, ...] | None = None
    n_cpu_moe: int | None = None


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """An explicit plan and its price. offers: what other choices would give, in a few words.
    remedies: what would fit, for a plan that does not."""

    settings: Settings
    estimate: Estimate
    rooms: tuple[Room, ...]
    ram: Room | None
    moved_layers: int = 0
    offers: tuple[str, ...] = ()
    remedies: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        """Has every device, and the host where its memory is known, room for its part, be the
        compute buffers as large as they may be?"""
        return not any(self.lacking)

    @property
    def lacking(self) -> tuple[int, ...]:
        """Bytes that each device lacks, and at the end the host."""
        needs = (*self.estimate.devices, self.estimate.host)
        return tuple(
            max(0, most(need) - room.usable_bytes) if room else 0
            for need, room in zip(needs, (*self.rooms, self.ram), strict=True)
        )


def most(need: Need) -> int:
    """Bytes, with compute as large as it may be."""
    return need.total_bytes + need.compute_error_bytes
