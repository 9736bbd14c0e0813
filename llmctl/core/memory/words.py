"""A plan in a few words: `ctx 40960, experts of 12 layers on the CPU`."""

from collections.abc import Iterator

from llmctl.core.memory.wanted import Plan

GIB = 1 << 30
MIB = 1 << 20


def in_words(plan: Plan, units: int) -> str:
    """What a plan that fits gives. units: layers of the model, its output counted as one."""
    return ", ".join(_parts(plan, units))


def _parts(plan: Plan, units: int) -> Iterator[str]:
    yield f"ctx {plan.settings.ctx}"
    if not plan.rooms:
        yield "on the CPU"
    elif on_gpus(plan, units) < units:
        yield f"{on_gpus(plan, units)} of {units} layers on the GPU{'s' * (len(plan.rooms) > 1)}"
    if plan.rooms and plan.moved_layers:
        yield f"experts of {plan.moved_layers} layers on the CPU"


def on_gpus(plan: Plan, units: int) -> int:
    """Layers on the devices, the output counted as one."""
    given = plan.settings.gpu_layers
    return 0 if not plan.rooms else units if given is None else min(given, units)


def too_much(plan: Plan) -> str:
    """What a plan that does not fit lacks, over all devices and the host: `3.2 GiB too much`."""
    lacking = sum(plan.lacking)
    if lacking >= GIB:
        return f"{lacking / GIB:.1f} GiB too much"
    return f"{max(1, -(-lacking // MIB))} MiB too much"
