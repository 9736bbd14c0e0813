"""Resolves what a profile leaves open, for these devices: context, split, layers, experts.

    planner = Planner(model, [Room("CUDA0", 24 << 30, 23 << 30)], None, build=11434)
    found = planner.plan(Wanted(settings=Settings(type_k="q8_0", type_v="q8_0")))
    found.settings, found.fits, found.estimate

What is given is priced as it is; K and V keep the types they were given. The order of preference:
everything on the devices, then the experts of as few layers as possible on the CPU, then as few
layers as possible. A context that is left open is the largest one that fits, but what is on the
devices goes to the CPU only for a context below `FLOOR` (experts) or `SLOW_FLOOR` (layers).
"""

from collections.abc import Sequence

from msgspec.structs import replace

from llmctl.core.gguf import Header
from llmctl.core.memory.context import shape_of
from llmctl.core.memory.drafting import Drafting
from llmctl.core.memory.estimate import Draft, Estimator
from llmctl.core.memory.model import Model
from llmctl.core.memory.place import place
from llmctl.core.memory.price import Prices
from llmctl.core.memory.search import Layout, Search
from llmctl.core.memory.settings import HOST, Device, Override, Settings
from llmctl.core.memory.wanted import Plan, Room, Wanted, most

FLOOR = 32768
"""Tokens: for a context up to this, experts are moved to the CPU."""
SLOW_FLOOR = 8192
"""Tokens: for a context up to this, whole layers are moved to the CPU."""
LEAST_CTX = 1024
"""Tokens: less is of no use to anybody."""
CTX_STEP = 256
NO_PIPELINE = Override("^no_pipeline_copies$", "CPU")
"""Names no tensor. llama.cpp keeps three copies of the inputs on each of several devices, unless a
tensor is overridden (llama-context.cpp: pipeline_parallel): this saves them."""


class Planner:
    """Plans for one model on fixed devices."""

    def __init__(
        self, model: Model, rooms: Sequence[Room], ram: Room | None, *,
        build: int | None = None, mmproj: Header | None = None, draft: Drafting | None = None,
    ) -> None:  # fmt: skip
        devices = [Device(one.name, one.total_bytes, one.free_bytes) for one in rooms]
        ram_bytes = ram.total_bytes if ram else 0
        self.estimator = Estimator(model, devices, build=build, ram_bytes=ram_bytes)
        self.model, self.rooms, self.ram, self._mmproj = model, tuple(rooms), ram, mmproj
        self.draft = draft
        self._budgets = [one.usable_bytes for one in rooms]
        if mmproj is not None and rooms:  # it goes to the first device (see Estimator.estimate)
            weights = sum(tensor.nbytes for tensor in mmproj.tensors)
            self._budgets[0] -= weights + 2 * (weights // 3)

    def plan(self, wanted: Wanted) -> Plan:
        """The best explicit plan; where nothing fits, the one that needs the least."""
        if not self.rooms:
            return self._without_devices(wanted)
        best = self._largest(wanted) if wanted.ctx is None else self._at(wanted, wanted.ctx)
        return best or self._least(wanted)

    # Contexts

    def _largest(self, wanted: Wanted) -> Plan | None:
        """The largest context on the devices; below the floors, what it takes to reach them."""
        top = self.top(wanted)
        whole = wanted if wanted.gpu_layers is not None else replace(wanted, all_layers=True)
        unmoved = replace(whole, n_cpu_moe=wanted.n_cpu_moe or 0)
        best = self._climbed(unmoved, top)
        for floor, pinned in ((FLOOR, whole), (SLOW_FLOOR, wanted), (LEAST_CTX, wanted)):
            if best is not None and best.settings.ctx >= min(floor, top):
                return best
            found = self._at(pinned, min(floor, top))
            if found is not None:
                return self._grown(wanted, found, top)
        return best

    def _climbed(self, wanted: Wanted, top: int) -> Plan | None:
        """The largest context that fits. A larger one never needs less."""
        step, best = self.step(wanted), None
        low, high = 0, top // step
        while low < high:
            middle = (low + high + 1) // 2
            layout = self._layout(wanted, middle * step, level=False)
            if layout is None:
                high = middle - 1
            else:
                low, best = middle, layout
        return self._at(wanted, low * step) if best else None

    def _grown(self, wanted: Wanted, found: Plan, top: int) -> Plan:
        """The same placement with as much context as it has room for."""
        step = self.step(wanted)
        low, high = found.settings.ctx // step, top // step
        while low < high:
            middle = (low + high + 1) // 2
            more = self.priced(replace(found.settings, ctx=middle * step), found.moved_layers)
            if more.fits:
                low, found = middle, more
            else:
                high = middle - 1
        return found

    def top(self, wanted: Wanted) -> int:
        """The largest context there is any use for: what the model was trained for."""
        step = self.step(wanted)
        return max(step, (self.model.n_ctx_train or LEAST_CTX) // step * step)

    def step(self, wanted: Wanted) -> int:
        """Contexts are whole multiples of this: 256 for each slot that has cells of its own."""
        return CTX_STEP * (1 if wanted.settings.unified else max(1, wanted.settings.parallel))

    def _at(self, wanted: Wanted, ctx: int) -> Plan | None:
        """The best plan with that context, if the devices have room for one."""
        layout = self._layout(wanted, ctx)
        return self._made(wanted, layout, ctx) if layout else None

    # Layouts

    def _layout(self, wanted: Wanted, ctx: int, *, level: bool = True) -> Layout | None:
        settings = replace(wanted.settings, ctx=ctx, n_cpu_moe=wanted.n_cpu_moe or 0)
        search = Search(Prices(self.estimator, settings), self._budgets_beside(settings))
        if wanted.tensor_split is not None:
            return self._divided(search, wanted, wanted.tensor_split)
        return self._placed(search, wanted, level=level)

    def _budgets_beside(self, settings: Settings) -> list[int]:
        """What the draft model leaves of the devices, with that context."""
        draft = self._draft(settings)
        needs = self.estimator.drafting(draft)[0] if draft else ()
        return [one - most(needs[n]) if draft else one for n, one in enumerate(self._budgets)]

    def _draft(self, settings: Settings) -> Draft | None:
        if self.draft is None:
            return None
        return self.draft.at(settings, shape_of(self.model, settings).n_ctx)

    def _placed(self, search: Search, wanted: Wanted, *, level: bool) -> Layout | None:
        """Where units go when the split is open."""
        start, moe = self._start(wanted), wanted.n_cpu_moe or 0
        find = search.levelled if level else search.filled
        found = find(start, moe, piped=self._can_pipe(wanted, start, moe))
        if found is None and level and self._can_pipe(wanted, start, moe):
            found = search.levelled(start, moe, piped=False)
            found = found and replace(found, no_pipeline=True)
        if found is None and self._may_move(wanted):
            found = search.moving(start)
        if found is None and self._may_drop(wanted):
            moe = self.units if wanted.n_cpu_moe is None else moe
            starts = (one for one in range(1, self.units) if search.filled(one, moe, piped=False))
            first = next(starts, self.units)
            found = search.levelled(first, moe, piped=False)
        return found

    def _divided(self, search: Search, wanted: Wanted, split: tuple[int, ...]) -> Layout | None:
        """Where units go when the split is given."""
        first = self._start(wanted)
        for start in range(first, self.units + 1) if self._may_drop(wanted) else (first,):
            asked = Settings(gpu_layers=self.units - start, tensor_split=split)
            ends = tuple(end for _, end in place(self.model, asked, self.estimator.devices).runs)
            layout = search.layout(start, ends, wanted.n_cpu_moe or 0)
            if search.fits(layout, piped=self._can_pipe(wanted, start, wanted.n_cpu_moe or 0)):
                return layout
            if self._may_move(wanted) and (moved := search.moving_within(start, ends)):
                return moved
        return None

    @property
    def units(self) -> int:
        """Layers and the output."""
        return len(self.model.layers) + 1

    def _start(self, wanted: Wanted) -> int:
        given = None if wanted.all_layers else wanted.gpu_layers
        return 0 if given is None else max(0, self.units - given)

    def _can_pipe(self, wanted: Wanted, start: int, moe: int) -> bool:
        settings = wanted.settings
        plain = settings.kv_offload and settings.split_mode == "layer" and not settings.overrides
        return len(self.rooms) > 1 and start == 0 and moe == 0 and plain

    def _may_move(self, wanted: Wanted) -> bool:
        """May experts go to the CPU?"""
        return wanted.n_cpu_moe is None and self.has_experts and not wanted.settings.overrides

    def _may_drop(self, wanted: Wanted) -> bool:
        """May whole layers go to the CPU? Who says which experts do has said what does."""
        is_open = wanted.gpu_layers is None and not wanted.all_layers
        moe = wanted.n_cpu_moe
        return is_open and (moe is None or not self.has_experts or moe >= self.units - 1)

    @property
    def has_experts(self) -> bool:
        """Is it a mixture of experts?"""
        return any(self.estimator.borrowed[HOST].experts)

    # Plans

    def _made(self, wanted: Wanted, layout: Layout, ctx: int) -> Plan:
        """The flags that make a layout, and their price."""
        settings = replace(
            wanted.settings, ctx=ctx, gpu_layers=self.units - layout.start,
            tensor_split=layout.counts if len(self.rooms) > 1 else (),
            n_cpu_moe=wanted.n_cpu_moe or 0,
        )  # fmt: skip
        if wanted.tensor_split is not None:
            settings = replace(settings, tensor_split=wanted.tensor_split)
        if layout.no_pipeline:
            settings = replace(settings, overrides=(NO_PIPELINE,))
        elif wanted.n_cpu_moe is None:
            settings = self._moved(settings, layout)
        return self.priced(settings, layout.moved)

    def _moved(self, settings: Settings, layout: Layout) -> Settings:
        """Experts by number if they are those of the first layers, else by name, per device."""
        experts = [n for n, one in enumerate(self.estimator.borrowed[HOST].experts) if one]
        pairs = zip(layout.begins, layout.kept, strict=True)
        runs = [[n for n in experts if begin <= n < kept] for begin, kept in pairs]
        moved = [n for run in runs for n in run]
        if layout.start and not moved:
            return settings
        last = moved[-1] + 1 if moved else 0
        if moved == [n for n in experts if layout.start <= n < last]:
            return replace(settings, n_cpu_moe=last)
        return replace(settings, overrides=tuple(expert_override(run) for run in runs if run))

    def priced(self, settings: Settings, moved: int = 0) -> Plan:
        """A plan as it is given."""
        draft = self._draft(settings)
        made = self.estimator.estimate(settings, draft=draft, mmproj=self._mmproj)
        return Plan(
            settings=settings, estimate=made, rooms=self.rooms, ram=self.ram, moved_layers=moved
        )

    def _without_devices(self, wanted: Wanted) -> Plan:
        """All of it in host memory."""
        top = self.top(wanted)
        first = wanted.ctx or min(LEAST_CTX, top)
        found = self.priced(replace(wanted.settings, ctx=first, gpu_layers=0))
        return found if wanted.ctx or not found.fits else self._grown(wanted, found, top)

    def _least(self, wanted: Wanted) -> Plan:
        """What is given as it is, what is open as little as can be."""
        ctx = min(LEAST_CTX, self.top(wanted)) if wanted.ctx is None else wanted.ctx
        layers = self.units - self._start(wanted)
        if self._may_drop(wanted):
            layers = 0
        moe = self.units - 1 if self._may_move(wanted) else wanted.n_cpu_moe or 0
        split = wanted.tensor_split or self._shares(layers)
        settings = replace(
            wanted.settings, ctx=ctx, gpu_layers=layers, n_cpu_moe=moe,
            tensor_split=split if len(self.rooms) > 1 else (),
        )  # fmt: skip
        return self.priced(settings)

    def _shares(self, layers: int) -> tuple[int, ...]:
        """So many units divided by the memory of the devices."""
        total = sum(self._budgets) or 1
        ends = [layers * sum(self._budgets[: n + 1]) // total for n in range(len(self._budgets))]
        return tuple(end - begin for begin, end in zip((0, *ends[:-1]), ends, strict=True))


def expert_override(layers: Sequence[int]) -> Override:
    """The experts of these layers on the CPU: what `--n-cpu-moe` says of the first ones."""
    numbers = "|".join(map(str, layers))
    return Override(rf"blk\.({numbers})\.ffn_(up|down|gate|gate_up)_(ch|)exps", "CPU")
