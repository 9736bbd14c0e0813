"""What other choices would give: offers for a plan that fits, remedies for one that does not.

K and V keep the types they were given; what others would do for the plan is only said.
"""

from collections.abc import Iterator

from msgspec.structs import replace

from llmctl.core.memory.planner import Planner
from llmctl.core.memory.remedies import remedies, smaller
from llmctl.core.memory.wanted import Plan, Wanted

GIB = 1 << 30


def advised(planner: Planner, wanted: Wanted) -> Plan:
    """The plan, with offers if it fits and with the nearest that would fit if it does not."""
    found = planner.plan(wanted)
    if found.fits:
        return replace(found, offers=tuple(_offers(planner, wanted, found)))
    return replace(found, remedies=remedies(planner, wanted))


def _offers(planner: Planner, wanted: Wanted, found: Plan) -> Iterator[str]:
    top, ctx = planner.top(wanted), found.settings.ctx
    layers = found.settings.gpu_layers or 0
    for name, other in smaller(planner.model, wanted):
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
