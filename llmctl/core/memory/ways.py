"""The kinds of placements that a request leaves open, the best first.

Everything on the devices, working on batches of their own; then without the copies of inputs that
this takes; then with experts on the CPU; then with whole layers there, one more at a time.
"""

from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from llmctl.core.memory.model import Model
from llmctl.core.memory.place import place
from llmctl.core.memory.search import Way
from llmctl.core.memory.settings import Device
from llmctl.core.memory.wanted import Wanted


class Choices:
    """What a request leaves open for one model on these devices."""

    def __init__(
        self, model: Model, devices: Sequence[Device], wanted: Wanted, *, has_experts: bool
    ) -> None:
        self._model, self._devices, self._wanted = model, devices, wanted
        self._has_experts, self._units = has_experts, len(model.layers) + 1

    @property
    def start(self) -> int:
        """The first unit on a device, if no more layers than asked for go to the CPU."""
        wanted = self._wanted
        given = None if wanted.all_layers else wanted.gpu_layers
        return 0 if given is None else max(0, self._units - given)

    @property
    def starts(self) -> Sequence[int]:
        """All first units that may be tried, the best first."""
        return range(self.start, self._units + 1) if self.may_drop else (self.start,)

    @property
    def may_move(self) -> bool:
        """May experts go to the CPU?"""
        wanted = self._wanted
        return wanted.n_cpu_moe is None and self._has_experts and not wanted.settings.overrides

    @property
    def may_drop(self) -> bool:
        """May whole layers go to the CPU? Who says which experts do has said what does."""
        wanted, moe = self._wanted, self._wanted.n_cpu_moe
        is_open = wanted.gpu_layers is None and not wanted.all_layers
        return is_open and (moe is None or not self._has_experts or moe >= self._units - 1)

    def ways(self, start: int) -> Iterator[Way]:
        """With `start` as the first unit on a device."""
        moe, ends = self._wanted.n_cpu_moe or 0, self._ends(start)
        can_pipe = self._can_pipe(start, moe)
        if can_pipe:
            yield Way(start, piped=True, ends=ends)
        yield Way(start, moe, no_pipeline=can_pipe, ends=ends)
        if self.may_move:
            yield Way(start, None, ends=ends)

    def _can_pipe(self, start: int, moe: int) -> bool:
        """llama-context.cpp: pipeline_parallel."""
        settings = self._wanted.settings
        plain = settings.kv_offload and settings.split_mode == "layer" and not settings.overrides
        return len(self._devices) > 1 and start == 0 and moe == 0 and plain

    def _ends(self, start: int) -> tuple[int, ...] | None:
        """Where each device's run ends, if that is given."""
        wanted = self._wanted
        if wanted.tensor_split is None and wanted.settings.split_mode != "none":
            return None
        asked = replace(
            wanted.settings, gpu_layers=self._units - start,
            tensor_split=wanted.tensor_split or (),
        )  # fmt: skip
        return tuple(end for _, end in place(self._model, asked, self._devices).runs)
