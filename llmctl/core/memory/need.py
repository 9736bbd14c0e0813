"""What plans need of memory, and what is said of a plan."""

import msgspec

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
    most, as it works. unused_bytes: weights in the file that are not loaded.
    """

    devices: tuple[Need, ...]
    host: Need
    n_ctx: int
    era: Era
    exact: bool
    cache_ram_max_bytes: int = 0
    checkpoints_max_bytes: int = 0
    warnings: tuple[str, ...] = ()
