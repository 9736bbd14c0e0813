"""What a member of a pool needs, what is free, and who holds what."""

from collections import Counter
from collections.abc import Mapping

from llmctl.core.devices import RAM
from llmctl.core.eviction import HOST, Ledger
from llmctl.core.memory.request import pinned, settled
from llmctl.core.memory.wanted import Plan, most
from llmctl.core.state import State
from llmctl.engine.box import Box
from llmctl.engine.planning import Place, place_of, plan_profile
from llmctl.engine.status import overview
from llmctl.errors import DoesNotFitError, LlmctlError


def ledger(box: Box, name: str) -> Ledger:
    """LlmctlError: nobody can say, and why."""
    profile = box.store.profile(name)
    place = place_of(box, profile, now=True)
    if place.ram is None or (not place.rooms and place.warnings):
        raise DoesNotFitError(f"Nobody says how much memory is free: {place.warnings[:1]}.")
    running = [one for one in overview(box).instances if one.state in (State.READY, State.LOADING)]
    counts = Counter(one.profile for one in running)
    holds = {one: times(_needs(box, one, None), count) for one, count in counts.items()}
    free = {room.name: room.usable_bytes for room in place.rooms} | {HOST: place.ram.usable_bytes}
    for device in free:
        if _is_declared(box, device):
            free[device] -= sum(held.get(device, 0) for held in holds.values())
    pool = {one.profile for one in running if one.group == profile.group}
    mine = {one: held for one, held in holds.items() if one in pool}
    return Ledger(_needs(box, name, place), free, mine)


def times(held: Mapping[str, int], count: int) -> dict[str, int]:
    return {device: size * count for device, size in held.items()}


def _is_declared(box: Box, device: str) -> bool:
    given = box.store.config.devices.get(RAM if device == HOST else device)
    return given is not None and (given.total is not None or given.free is not None)


def _needs(box: Box, name: str, place: Place | None) -> dict[str, int]:
    try:
        resolved = box.resolve(name, ask=True)
    except LlmctlError:
        return {}
    words = resolved.plan.words or settled(resolved.argv)
    there = place or place_of(box, resolved.profile, now=True)
    found: Plan = plan_profile(box, name, there, lambda wanted: pinned(wanted, words)).plan
    pairs = zip(found.rooms, found.estimate.devices, strict=True)
    return {room.name: most(need) for room, need in pairs} | {HOST: most(found.estimate.host)}
