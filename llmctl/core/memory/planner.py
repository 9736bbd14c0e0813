"""Resolves what a profile leaves open, for these devices: context, split, layers, experts.

    planner = Planner(model, [Room("CUDA0", 24 << 30, 23 << 30)], None, build=11434)
    found = planner.plan(Wanted(settings=Settings(type_k="q8_0", type_v="q8_0")))
    found.settings, found.fits, found.estimate

What is given is priced as it is; K and V keep the types they were given. The order of preference:
everything on the devices, then without copies of inputs (`NO_PIPELINE`), then the experts of as few
layers as possible on the CPU, then as few layers as possible. A context that is left open is the
largest one that fits, but what is on the devices goes to the CPU only for a context below `FLOOR`
(experts) or `SLOW_FLOOR` (layers), and copies are given up only for these, too.

The host counts: a plan that it has no room for does not fit. But which experts it has the most room
for is not searched: where layers are of unequal size and the host lacks less than their difference,
a plan may be missed.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cache

import msgspec
from msgspec.structs import replace

from llmctl.core.buffers import HOST as HOST_NAME
from llmctl.core.gguf import Header
from llmctl.core.memory.context import shape_of
from llmctl.core.memory.drafting import Drafting
from llmctl.core.memory.estimate import NO_DOUBT, Estimator
from llmctl.core.memory.learned import Learned
from llmctl.core.memory.model import Model
from llmctl.core.memory.need import Draft
from llmctl.core.memory.place import CPU
from llmctl.core.memory.price import Prices
from llmctl.core.memory.search import Layout, Search, Way
from llmctl.core.memory.settings import HOST, Device, Override, Settings
from llmctl.core.memory.wanted import Plan, Room, Wanted, most
from llmctl.core.memory.ways import Choices

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


class _Found(msgspec.Struct, frozen=True):
    """A plan, and the way that led to it."""

    way: Way
    plan: Plan


class Planner:
    """Plans for one model on fixed devices."""

    def __init__(
        self, model: Model, rooms: Sequence[Room], ram: Room | None, *,
        build: int | None = None, mmproj: Header | None = None, draft: Drafting | None = None,
        learned: Learned | None = None,
    ) -> None:  # fmt: skip
        devices = [Device(one.name, one.total_bytes, one.free_bytes) for one in rooms]
        ram_bytes = ram.total_bytes if ram else 0
        doubt = learned.doubt if learned else NO_DOUBT
        self.estimator = Estimator(model, devices, build=build, ram_bytes=ram_bytes, doubt=doubt)
        self._learned = learned
        self.model, self.rooms, self.ram, self._mmproj = model, tuple(rooms), ram, mmproj
        self.draft = draft
        self._budgets = [one.usable_bytes for one in rooms]
        if mmproj is not None and rooms:  # it goes to the first device (see Estimator.estimate)
            weights = sum(tensor.nbytes for tensor in mmproj.tensors)
            self._budgets[0] -= weights + 2 * (weights // 3)

    def plan(self, wanted: Wanted) -> Plan:
        """The best explicit plan; where nothing fits, one that lacks as little as can be."""
        if not self.rooms:
            return self._without_devices(wanted)
        best = self._largest(wanted) if wanted.ctx is None else self._at(wanted, wanted.ctx)
        return best.plan if best else self._short_of_ram(wanted) or self._least(wanted)

    # Contexts

    def _largest(self, wanted: Wanted) -> _Found | None:
        """The highest floor that can be reached, as well as it can be; then, in the same way, all
        the context there is room for."""
        whole = wanted if wanted.gpu_layers is not None else replace(wanted, all_layers=True)
        for floor in (FLOOR, SLOW_FLOOR, LEAST_CTX, 1):
            found = self._at(whole if floor == FLOOR else wanted, self._floor(wanted, floor))
            if found is not None:
                return self._grown(wanted, found)
        return None

    def _grown(self, wanted: Wanted, found: _Found) -> _Found:
        way, step = found.way, self.step(wanted)
        is_search = way.moe is None  # that takes long: first the same placement is stretched
        most = found.plan.moved_layers if is_search else None

        def stretched(count: int) -> Plan | None:
            longer = replace(found.plan.settings, ctx=count * step)
            return _fitting(self.priced(longer, found.plan.moved_layers))

        @cache
        def placed(count: int, *, level: bool = is_search) -> Plan | None:
            search = self._search(wanted, count * step)
            return _fitting(self._along(wanted, search, way, most=most, level=level))

        low, high = found.plan.settings.ctx // step, self.top(wanted) // step
        if is_search:
            low = _highest(low, high, stretched)
        low = _highest(low, high, placed)
        best = placed(low, level=True) or stretched(low)
        return _Found(way, best) if best else found

    def top(self, wanted: Wanted) -> int:
        """The largest context there is any use for: what the model was trained for, in each slot
        that has cells of its own."""
        trained = self.model.n_ctx_train or LEAST_CTX
        return max(1, trained // CTX_STEP) * self.step(wanted)

    def step(self, wanted: Wanted) -> int:
        """Contexts are whole multiples of this: 256 for each slot that has cells of its own."""
        return CTX_STEP * (1 if wanted.settings.unified else max(1, wanted.settings.parallel))

    def _floor(self, wanted: Wanted, least: int) -> int:
        """The smallest context with so many tokens, if the model has as many."""
        step = self.step(wanted)
        return min(-(-least // step) * step, self.top(wanted))

    # Plans

    def _at(self, wanted: Wanted, ctx: int) -> _Found | None:
        """The best plan with that context, if there is one that fits."""
        return next((one for one in self._plans(wanted, ctx) if one.plan.fits), None)

    def _plans(self, wanted: Wanted, ctx: int) -> Iterator[_Found]:
        """Plans that the devices have room for, the best first. More layers on the CPU than need be
        are of no use: they only take more of the host."""
        search, choices = self._search(wanted, ctx), self.choices(wanted)
        for start in choices.starts:
            is_found = False
            for way in choices.ways(start):
                plan = self._along(wanted, search, way)
                if plan is not None:
                    is_found = True
                    yield _Found(way, plan)
            if is_found:
                return

    def choices(self, wanted: Wanted) -> Choices:
        """What a request leaves open."""
        devices = self.estimator.devices
        return Choices(self.model, devices, wanted, has_experts=self.has_experts)

    def _search(self, wanted: Wanted, ctx: int) -> Search:
        settings = replace(wanted.settings, ctx=ctx)
        return Search(Prices(self.estimator, settings), self._budgets_beside(settings))

    def _budgets_beside(self, settings: Settings) -> list[int]:
        """What the draft model leaves of the devices, with that context."""
        draft = self._draft(settings)
        needs = self.estimator.drafting(draft)[0] if draft else ()
        return [one - most(needs[n]) if draft else one for n, one in enumerate(self._budgets)]

    @property
    def _seat(self) -> str | None:
        if self.draft is None:
            return None
        return HOST_NAME if self.draft.home == CPU else self.rooms[self.draft.home].name

    def _draft(self, settings: Settings) -> Draft | None:
        if self.draft is None:
            return None
        return self.draft.at(settings, shape_of(self.model, settings).n_ctx)

    def _along(
        self, wanted: Wanted, search: Search, way: Way, *,
        most: int | None = None, level: bool = True,
    ) -> Plan | None:  # fmt: skip
        """A plan of one kind. The devices have room for it; the host may not."""
        layout = search.along(way, most=most, level=level)
        return self._made(wanted, way, layout, search.prices.settings.ctx) if layout else None

    @property
    def units(self) -> int:
        """Layers and the output."""
        return len(self.model.layers) + 1

    @property
    def has_experts(self) -> bool:
        """Is it a mixture of experts?"""
        return any(self.estimator.borrowed[HOST].experts)

    # Flags

    def _made(self, wanted: Wanted, way: Way, layout: Layout, ctx: int) -> Plan:
        """The flags that make a layout, and their price."""
        settings = replace(
            wanted.settings, ctx=ctx, gpu_layers=self.units - layout.start,
            tensor_split=layout.counts if len(self.rooms) > 1 else (),
            n_cpu_moe=wanted.n_cpu_moe or 0,
        )  # fmt: skip
        if wanted.tensor_split is not None:
            settings = replace(settings, tensor_split=wanted.tensor_split)
        if way.no_pipeline:
            settings = replace(settings, overrides=(NO_PIPELINE,))
        elif way.moe is None:
            settings = self._moved(settings, layout)
        return self.priced(settings, layout.moved)

    def _moved(self, settings: Settings, layout: Layout) -> Settings:
        """Experts by number if they are those of the first layers, else by name, per device."""
        experts = [n for n, one in enumerate(self.estimator.borrowed[HOST].experts) if one]
        moved = [n for layers in layout.lent for n in layers]
        last = moved[-1] + 1 if moved else 0
        if moved == [n for n in experts if layout.start <= n < last]:
            return replace(settings, n_cpu_moe=last)
        named = tuple(expert_override(layers) for layers in layout.lent if layers)
        return replace(settings, overrides=named)

    def priced(self, settings: Settings, moved: int = 0) -> Plan:
        """A plan as it is given."""
        draft = self._draft(settings)
        made = self.estimator.estimate(settings, draft=draft, mmproj=self._mmproj)
        if self._learned:
            made = self._learned.correct(settings, made, self._seat)
        return Plan(
            settings=settings, estimate=made, rooms=self.rooms, ram=self.ram, moved_layers=moved
        )

    def _without_devices(self, wanted: Wanted) -> Plan:
        """All of it in host memory."""
        step, least = self.step(wanted), wanted.ctx or self._floor(wanted, LEAST_CTX)
        settings = replace(wanted.settings, gpu_layers=0)

        def alone(count: int) -> Plan | None:
            return _fitting(self.priced(replace(settings, ctx=count * step)))

        found = self.priced(replace(settings, ctx=least))
        if wanted.ctx or not found.fits:
            return found
        return alone(_highest(least // step, self.top(wanted) // step, alone)) or found

    def _short_of_ram(self, wanted: Wanted) -> Plan | None:
        """One that the devices have room for, if only the host has not."""
        plans = self._plans(wanted, wanted.ctx or self._floor(wanted, LEAST_CTX))
        return min((one.plan for one in plans), key=lambda one: one.lacking[-1], default=None)

    def _least(self, wanted: Wanted) -> Plan:
        """What is given as it is, what is open as little as can be."""
        choices = self.choices(wanted)
        layers = 0 if choices.may_drop else self.units - choices.start
        split = wanted.tensor_split or self._shares(layers)
        settings = replace(
            wanted.settings, ctx=wanted.ctx or self._floor(wanted, LEAST_CTX), gpu_layers=layers,
            n_cpu_moe=self.units - 1 if choices.may_move else wanted.n_cpu_moe or 0,
            tensor_split=split if len(self.rooms) > 1 else (),
        )  # fmt: skip
        return self.priced(settings)

    def _shares(self, layers: int) -> tuple[int, ...]:
        """So many units divided by the memory of the devices."""
        sizes = [max(0, one) for one in self._budgets]
        total = sum(sizes) or 1
        ends = [layers * sum(sizes[: n + 1]) // total for n in range(len(sizes))]
        return tuple(end - begin for begin, end in zip((0, *ends[:-1]), ends, strict=True))


def _fitting(plan: Plan | None) -> Plan | None:
    return plan if plan is not None and plan.fits else None


def _highest(low: int, high: int, found: Callable[[int], Plan | None]) -> int:
    """The highest number for which there is something, if there is for `low`: in ever longer steps
    from there, since it often is near."""
    jump = 1
    while low < high:
        middle = min(low + jump, (low + high + 1) // 2)
        if found(middle) is None:
            high = middle - 1
        else:
            low, jump = middle, 2 * jump
    return low


def expert_override(layers: Sequence[int]) -> Override:
    """The experts of these layers on the CPU: what `--n-cpu-moe` says of the first ones."""
    numbers = "|".join(map(str, layers))
    return Override(rf"blk\.({numbers})\.ffn_(up|down|gate|gate_up)_(ch|)exps", "CPU")
