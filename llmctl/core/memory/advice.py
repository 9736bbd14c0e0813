"""What other choices would give: offers for a plan that fits, remedies for one that does not.

K and V keep the types they were given; what others would do for the plan is only said.
"""

import itertools
from collections.abc import Iterator

from msgspec.structs import replace

from llmctl.core.memory.context import cache_type
from llmctl.core.memory.planner import Planner
from llmctl.core.memory.wanted import Plan, Wanted

GIB = 1 << 30
_SMALLER = ("q8_0", "q4_0")
REMEDIES = 3


def advised(planner: Planner, wanted: Wanted) -> Plan:
    """The plan, with offers if it fits and with the nearest that would fit if it does not."""
    found = planner.plan(wanted)
    if found.fits:
        return replace(found, offers=tuple(_offers(planner, wanted, found)))
    remedies = itertools.islice(_remedies(planner, wanted), REMEDIES)
    return replace(found, remedies=tuple(remedies))


def _smaller(wanted: Wanted) -> Iterator[tuple[str, Wanted]]:
    """The same with smaller K and V."""
    now = cache_type(wanted.settings.type_k)
    for name in _SMALLER if wanted.settings.flash_attn else ():
        type_ = cache_type(name)
        if type_.row_bytes(256) < now.row_bytes(256):
            yield name, replace(wanted, settings=replace(wanted.settings, type_k=name, type_v=name))


def _offers(planner: Planner, wanted: Wanted, found: Plan) -> Iterator[str]:
    top, ctx = planner.top(wanted), found.settings.ctx
    layers = found.settings.gpu_layers or 0
    for name, other in _smaller(wanted):
        more = planner.plan(other)
        if not more.fits:
            continue
        if wanted.ctx is None and ctx < top and more.settings.ctx > ctx:
            yield f"kv: {name} would give ctx {more.settings.ctx}"
        elif more.moved_layers < found.moved_layers:
            count = found.moved_layers - more.moved_layers
            yield f"kv: {name} would keep the experts of {count} more layers on the GPUs"
        elif (more.settings.gpu_layers or 0) > layers:
            yield f"kv: {name} would put {more.settings.gpu_layers} layers on the GPUs"


def _remedies(planner: Planner, wanted: Wanted) -> Iterator[str]:
    """One thing changed at a time, the mildest first."""
    if wanted.ctx is not None:
        found = planner.plan(replace(wanted, ctx=None))
        if found.fits and found.settings.ctx < wanted.ctx:
            yield f"ctx: {found.settings.ctx}"
    for name, other in _smaller(wanted):
        if planner.plan(other).fits:
            yield f"kv: {name}"
            break
    if wanted.n_cpu_moe is not None:
        found = planner.plan(replace(wanted, n_cpu_moe=None))
        if found.fits and found.settings.overrides:
            yield "n_cpu_moe: auto"
        elif found.fits:
            yield f"n_cpu_moe: {found.settings.n_cpu_moe}"
    yield from _fewer_layers(planner, wanted)
    if wanted.settings.parallel > 1:
        single = replace(wanted, settings=replace(wanted.settings, parallel=1))
        if planner.plan(single).fits:
            yield "parallel: 1"
    if wanted.tensor_split is not None and planner.plan(replace(wanted, tensor_split=None)).fits:
        yield "tensor_split: auto"
    found = planner.plan(Wanted(settings=wanted.settings))
    if found.fits:
        yield _all_of(found)


def _all_of(found: Plan) -> str:
    """With nothing given but the types of K and V."""
    settings = found.settings
    experts = f" with n_cpu_moe: {settings.n_cpu_moe}" if settings.n_cpu_moe else ""
    experts = " with n_cpu_moe: auto" if settings.overrides else experts
    return f"ctx: {settings.ctx} and gpu_layers: {settings.gpu_layers}{experts}"


def _fewer_layers(planner: Planner, wanted: Wanted) -> Iterator[str]:
    """The most layers that fit with the rest as it is."""
    start = 0 if wanted.all_layers or wanted.gpu_layers is None else wanted.gpu_layers
    low, high, best = 0, (start or planner.units) - 1, -1
    while low <= high:
        middle = (low + high) // 2
        if planner.plan(replace(wanted, gpu_layers=middle, all_layers=False)).fits:
            low, best = middle + 1, middle
        else:
            high = middle - 1
    if best >= 0:
        yield f"gpu_layers: {best}"


def shortage(found: Plan) -> str:
    """What a plan that does not fit needs, and what there is."""
    needs = (*found.estimate.devices, found.estimate.host)
    parts = []
    for need, room, lack in zip(needs, (*found.rooms, found.ram), found.lacking, strict=True):
        if room and lack:
            parts.append(
                f"{need.name} needs {need.total_bytes / GIB:.2f} GiB"
                f" (up to {need.compute_error_bytes / GIB:.2f} more) and has"
                f" {room.usable_bytes / GIB:.2f}"
            )
    return "; ".join(parts)
