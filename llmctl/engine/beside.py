"""What residents need: plans of other profiles leave room for it, whether they run or not.

Residents (`group: none`) run beside everything else, so what they need is nobody's who is planned
for a whole device. Of two residents the one whose name comes first is planned first.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from msgspec.structs import replace

from llmctl.core.profile import Profile
from llmctl.errors import LlmctlError

if TYPE_CHECKING:
    from llmctl.core.memory.wanted import Room
    from llmctl.engine.box import Box
    from llmctl.engine.holdings import Holdings
    from llmctl.engine.planning import Place


def residents(box: "Box", profile: Profile) -> tuple[Profile, ...]:
    """Those that a profile's plan leaves room for."""
    found = (one.profile for one in box.store.profiles.values())
    mine = (one for one in found if one is not None and one.is_resident)
    return tuple(one for one in mine if not profile.is_resident or one.name < profile.name)


def usual_place(box: "Box", profile: Profile) -> "Place":
    """The devices that a profile is planned for on this box: with their whole memory, less what
    residents need of them."""
    from llmctl.core.eviction import HOST  # whoever needs a plan at all imports the planner
    from llmctl.core.holding import gib
    from llmctl.engine.holdings import Holdings

    found = Holdings(box)
    place, others = found.place(profile), residents(box, profile)
    needs = {one.name: needs for one in others if (needs := _needs(box, found, one)) is not None}
    if not needs:
        return place
    names = {room.name: key for room, key in zip(place.rooms, found.keys(profile), strict=True)}
    kept = {
        name: {one: its[key] for one, its in needs.items() if its.get(key, 0) >> 20}
        for name, key in (*names.items(), (place.ram.name if place.ram else "", HOST))
    }
    rooms = tuple(_less(room, kept[room.name]) for room in place.rooms)
    told = (
        f"{room.name}: {gib(size)} are left for {one}, a resident"
        for room in place.rooms
        for one, size in kept[room.name].items()
    )
    ram = place.ram and _less(place.ram, kept[place.ram.name])
    return replace(place, rooms=rooms, ram=ram, kept=tuple(told))


def _needs(box: "Box", found: "Holdings", one: Profile) -> dict[str, int] | None:
    """Bytes by device; None: it cannot be planned, which is told where it is asked for."""
    try:
        priced = found.priced(box.resolve(one.name, ask=True))
    except LlmctlError:
        return None
    return None if priced is None else priced.by_key(priced.most)


def _less(room: "Room", taken: Mapping[str, int]) -> "Room":
    return replace(room, free_bytes=max(0, room.free_bytes - sum(taken.values())))
