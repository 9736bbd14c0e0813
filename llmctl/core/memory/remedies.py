"""What would fit instead of a plan that does not, the nearest to what was asked first.

A remedy is said in keys of a profile, which are options of `llmctl plan` as well, and has been
planned: it fits. How far it is from what was asked is the sum of what its changes give up, each as
a share: of the context, of the slots, or of speed and quality by a rule of thumb.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import cache

import msgspec
from msgspec.structs import replace

from llmctl.core.gguf_types import TensorType
from llmctl.core.memory.context import cache_type
from llmctl.core.memory.model import Model
from llmctl.core.memory.planner import LEAST_CTX, Planner
from llmctl.core.memory.wanted import Plan, Wanted

REMEDIES = 3
"""Remedies that are said."""
_SMALLER = {"q8_0": 0.05, "q4_0": 0.25}
"""Types of K and V that are offered. They give up hardly anything, and some quality."""
_OTHER_SPLIT = 0.02
_HALF_UBATCH = 0.1
"""In speed of prompts, each time that the physical batch is halved."""
_ALL_MOVED = 0.5
_ALL_DROPPED = 3.0
"""In speed, with the experts of all layers on the CPU, and with all of each layer there: a few
whole layers already take longer than all the others."""
_LITTLE = 0.01
_LEAST_UBATCH = 128
_TENTH = (1 << 30) // 10


class Change(msgspec.Struct, frozen=True):
    """A key of a profile, its other value, and the share of what was asked that this gives up."""

    key: str
    value: str
    loss: float


class Remedy(msgspec.Struct, frozen=True):
    """Changes, and what is wanted with them."""

    changes: tuple[Change, ...]
    wanted: Wanted

    def __str__(self) -> str:
        return ", ".join(f"{one.key}: {one.value}" for one in self.changes)

    @property
    def loss(self) -> float:
        """What all of it gives up."""
        return sum(one.loss for one in self.changes)

    @property
    def keys(self) -> tuple[str, ...]:
        """What it changes."""
        return tuple(one.key for one in self.changes)

    def is_needless(self, others: Iterable["Remedy"]) -> bool:
        """Does one of the others do with a part of the changes, and none that gives up more?"""
        mine = {one.key: one.loss for one in self.changes}
        return any(
            all(one.key in mine and one.loss <= mine[one.key] for one in other.changes)
            for other in others
        )


def remedies(planner: Planner, asked: Wanted) -> tuple[str, ...]:
    """Up to three, none of which only gives up more than another, of different keys if there are
    enough: with one change, and if these are too few with two, then with all. If not even that
    fits: how much memory is lacking then."""
    search = _Remedies(planner, asked)
    return search.nearest() or (search.lacking(),)


def smaller(model: Model, wanted: Wanted) -> Iterator[tuple[str, Wanted]]:
    """The same with smaller K and V, where the model and flash attention allow it."""
    now = [cache_type(one) for one in (wanted.settings.type_k, wanted.settings.type_v)]
    for name in _SMALLER if wanted.settings.flash_attn else ():
        type_ = cache_type(name)
        is_less = all(type_.row_bytes(256) <= one.row_bytes(256) for one in now)
        if is_less and {type_} != {*now} and _is_possible(model, type_):
            yield name, replace(wanted, settings=replace(wanted.settings, type_k=name, type_v=name))


def _is_possible(model: Model, type_: TensorType) -> bool:
    """llama-context.cpp refuses types whose blocks do not divide a head."""
    widths = {*model.head_k, *(width for layer in model.layers for width in (layer.k, layer.v))}
    return not any(width % type_.block for width in widths)


class _Remedies:
    """The search for what would fit."""

    def __init__(self, planner: Planner, asked: Wanted) -> None:
        self._planner, self._asked = planner, asked
        self._plan = cache(planner.plan)

    def nearest(self) -> tuple[str, ...]:
        """The nearest first; none if nothing fits at all."""
        if not any(self._plan(one).fits for one in self._opened()):
            return ()
        found: list[Remedy] = []
        for tries in self._rounds():
            for one in sorted(self._fitting(tries), key=lambda one: one.loss):
                if not one.is_needless(found):
                    found.append(one)
            if len({one.keys for one in found}) >= REMEDIES:
                break
        found.sort(key=lambda one: one.loss)
        first = {one.keys: one for one in reversed(found)}  # of the same keys, the nearest
        found.sort(key=lambda one: one is not first[one.keys])
        return tuple(map(str, sorted(found[:REMEDIES], key=lambda one: one.loss)))

    def _rounds(self) -> Iterator[Iterator[Wanted]]:
        """One change; two, where the first does not do alone; all."""
        yield self._singles(self._asked)
        less = (replace(self._asked, ctx=one) for one in _halves(self._asked.ctx or 0, LEAST_CTX))
        for base in (*self._simple(self._asked), *less):
            if not self._plan(base).fits:
                yield self._singles(base)
        yield self._opened()

    def _fitting(self, tries: Iterable[Wanted]) -> Iterator[Remedy]:
        """Those that fit, with their values as they are to be typed."""
        for changed in tries:
            plan = self._plan(changed)
            remedy = self._said(changed, plan)
            if plan.fits and remedy.changes and self._plan(remedy.wanted).fits:
                yield remedy

    # What is tried

    def _singles(self, wanted: Wanted) -> Iterator[Wanted]:
        """One thing changed, no more than must be."""
        yield from self._simple(wanted)
        if wanted.gpu_layers is not None or not self._planner.choices(wanted).may_drop:
            yield from self._fewer_layers(wanted)
        if wanted.ctx is not None:
            yield from self._less_context(wanted, wanted.ctx)

    def _simple(self, wanted: Wanted) -> Iterator[Wanted]:
        """One thing left open, or a step smaller."""
        if wanted.tensor_split is not None:
            yield replace(wanted, tensor_split=None)
        if wanted.n_cpu_moe is not None and self._planner.has_experts:
            yield replace(wanted, n_cpu_moe=None)
        if wanted.gpu_layers is not None or wanted.all_layers:
            yield replace(wanted, gpu_layers=None, all_layers=False)
        settings = wanted.settings
        for _, other in smaller(self._planner.model, wanted):
            yield other
        for ubatch in _halves(settings.ubatch, _LEAST_UBATCH):
            yield replace(wanted, settings=replace(settings, ubatch=ubatch))
        for parallel in _halves(settings.parallel, 1):
            yield replace(wanted, settings=replace(settings, parallel=parallel))

    def _fewer_layers(self, wanted: Wanted) -> Iterator[Wanted]:
        """With the most layers on the devices that fit with the rest as it is."""

        def with_layers(count: int) -> Wanted:
            return replace(wanted, gpu_layers=count, all_layers=False)

        given = None if wanted.all_layers else wanted.gpu_layers
        most = self._planner.units if given is None else given
        best = _last(0, most - 1, lambda one: self._plan(with_layers(one)).fits)
        if best is not None:
            yield with_layers(best)

    def _less_context(self, wanted: Wanted, ctx: int) -> Iterator[Wanted]:
        """With the largest context that fits with the rest as it is."""
        step = self._planner.step(wanted)
        low = -(-LEAST_CTX // step)
        best = _last(
            low, (ctx - 1) // step, lambda one: self._plan(replace(wanted, ctx=one * step)).fits
        )
        if best is not None:
            yield replace(wanted, ctx=best * step)

    def _opened(self) -> Iterator[Wanted]:
        """Everything open; then with the smallest K and V, batch and number of slots, too."""
        settings = self._asked.settings
        least = replace(settings, parallel=1, ubatch=min(settings.ubatch, _LEAST_UBATCH))
        for one in (settings, least):
            yield Wanted(settings=one)
            for _, other in smaller(self._planner.model, Wanted(settings=one)):
                yield other

    # How it is said

    def _said(self, changed: Wanted, plan: Plan) -> Remedy:
        """The changes, with the values that the plan has found for what is open."""
        asked, made = self._asked, plan.settings
        typed = self._typed(changed, plan)
        changes = []
        if asked.ctx is not None and typed.ctx is not None and typed.ctx < asked.ctx:
            changes.append(Change("ctx", str(typed.ctx), 1 - typed.ctx / asked.ctx))
        if (made.type_k, made.type_v) != (asked.settings.type_k, asked.settings.type_v):
            changes.append(Change("kv", made.type_k, _SMALLER[made.type_k]))
        return Remedy((*changes, *self._placing(typed, plan), *self._sizes(typed)), typed)

    def _typed(self, changed: Wanted, plan: Plan) -> Wanted:
        """What is open only now, with the values of the plan where a number can say them."""
        asked, made = self._asked, plan.settings
        if asked.ctx is not None and changed.ctx is None:
            changed = replace(changed, ctx=min(made.ctx, asked.ctx))
        is_whole = made.gpu_layers == self._planner.units
        if asked.n_cpu_moe is not None and changed.n_cpu_moe is None:
            can_say = is_whole and not made.overrides
            changed = replace(changed, n_cpu_moe=made.n_cpu_moe if can_say else None)
        if changed.gpu_layers is None and not changed.all_layers:
            given = self._planner.units if asked.all_layers else asked.gpu_layers
            if given == made.gpu_layers:
                return replace(changed, gpu_layers=asked.gpu_layers, all_layers=asked.all_layers)
            changed = replace(changed, gpu_layers=None if given is None else made.gpu_layers)
        return changed

    def _placing(self, typed: Wanted, plan: Plan) -> Iterator[Change]:
        asked, units = self._asked, self._planner.units
        if (asked.gpu_layers, asked.all_layers) != (typed.gpu_layers, typed.all_layers):
            given = None if asked.all_layers else asked.gpu_layers
            fewer = (units if given is None else given) - (typed.gpu_layers or 0)
            loss = max(_LITTLE, _ALL_DROPPED * fewer / units)
            yield Change("gpu_layers", _word(typed.gpu_layers), loss)
        if asked.n_cpu_moe != typed.n_cpu_moe:
            more = plan.moved_layers - (asked.n_cpu_moe or 0)
            loss = max(_LITTLE, _ALL_MOVED * more / units)
            yield Change("n_cpu_moe", _word(typed.n_cpu_moe), loss)
        if asked.tensor_split != typed.tensor_split:
            yield Change("tensor_split", "auto", _OTHER_SPLIT)

    def _sizes(self, typed: Wanted) -> Iterator[Change]:
        asked, made = self._asked.settings, typed.settings
        if made.parallel != asked.parallel:
            yield Change("parallel", str(made.parallel), 1 - made.parallel / asked.parallel)
        if made.ubatch != asked.ubatch:
            times = (asked.ubatch // made.ubatch).bit_length() - 1
            yield Change("ubatch", str(made.ubatch), max(1, times) * _HALF_UBATCH)

    def lacking(self) -> str:
        """How much memory there would have to be, with everything open: of what lacks the least in
        the tenths that are said, the nearest to what was asked."""
        plans = [(one, self._plan(one)) for one in self._opened()]
        said = [(_tenths(plan), self._said(changed, plan)) for changed, plan in plans]
        tenths, remedy = min(said, key=lambda one: (sum(one[0]), one[1].loss))
        names = (*(room.name for room in self._planner.rooms), "RAM")
        lacks = (
            f"{name}: {lack / 10:.1f} GiB more"
            for name, lack in zip(names, tenths, strict=True) if lack
        )  # fmt: skip
        return ", ".join((*lacks, *([str(remedy)] if remedy.changes else [])))


def _tenths(plan: Plan) -> tuple[int, ...]:
    """What each device and the host lacks, in tenths of a GiB that are enough."""
    return tuple(-(-one // _TENTH) for one in plan.lacking)


def _halves(now: int, least: int) -> Iterator[int]:
    while now > least:
        now = max(least, now // 2)
        yield now


def _word(value: int | None) -> str:
    return "auto" if value is None else str(value)


def _last(low: int, high: int, is_good: Callable[[int], bool]) -> int | None:
    """The last number for which it is so: as it is for all below that."""
    best = None
    while low <= high:
        middle = (low + high) // 2
        if is_good(middle):
            low, best = middle + 1, middle
        else:
            high = middle - 1
    return best
