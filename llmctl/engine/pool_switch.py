"""A switch within a pool: who is beside the wanted model, and who leaves for it.

Nobody is stopped silently who works: what a member does is asked of the proxy, where it runs, and
of the servers themselves.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from llmctl.core.progress import Note, Report
from llmctl.core.unit import Owner, UnitFile, read_header
from llmctl.core.words import unit_name
from llmctl.engine.box import Box, Resolved
from llmctl.engine.clock import Clock
from llmctl.errors import LlmctlError
from llmctl.health import get

if TYPE_CHECKING:
    from llmctl.engine.pool import Seen
    from llmctl.engine.status import Instance

_SLEEPS = "--sleep-idle-seconds"


def members_beside(box: Box, target: Resolved) -> tuple[str, ...]:
    """Units of the other members of a profile's pool; none where its group is exclusive."""
    name, group = target.profile.name, target.profile.group
    found = box.store.config.groups.get(group)
    if found is None or not found.is_pool:
        return ()
    return tuple(unit_name(one) for one in box.members(group) if one != name)


def renewed(box: Box, target: Resolved) -> tuple[UnitFile, ...]:
    """Units of members that were rendered when the group was exclusive, as they are to be now: as
    they are installed they would stop the wanted one when they start, and it them."""
    units = {one: box.store.unit_text(one) for one in members_beside(box, target)}
    old = [one for one, text in units.items() if f"Conflicts={target.unit}\n" in (text or "")]
    ours = [one for one in old if read_header(units[one]).owner is Owner.OURS]
    names = {unit_name(name): name for name in box.store.names}
    return tuple(unit for one in ours if one in names and (unit := _rendered(box, names[one])))


def _rendered(box: Box, name: str) -> UnitFile | None:
    try:
        return box.render(box.resolve(name))
    except LlmctlError:  # its own faults are told where it is asked for
        return None


def leaving_for(box: Box, name: str, *, clock: Clock, report: Report) -> tuple[str, ...]:
    """Units of the members that stop so that a profile fits. DoesNotFitError: none would do."""
    from llmctl.engine.pool import chosen, settled_room  # the planner, which few commands need
    from llmctl.engine.status import overview

    room = settled_room(box, name, clock=clock, report=report)
    instances = [one for one in overview(box).instances if one.profile in room.ledger.holds]
    found = chosen(room, look(box, instances))
    if found:
        report(Note(f"{', '.join(found)} {'makes' if len(found) == 1 else 'make'} room for {name}"))
    return tuple(unit_name(one) for one in found)


def check_room_beside(box: Box, name: str) -> None:
    """See engine/pool.py."""
    from llmctl.engine.pool import check_beside  # the planner, which few commands need

    check_beside(box, name)


# What members do


class _Member(msgspec.Struct, frozen=True):
    in_flight: int = 0
    waiting: int = 0
    idle_s: float | None = None
    load_s: float | None = None


class _Pool(msgspec.Struct, frozen=True):
    members: dict[str, _Member] = {}


class _Told(msgspec.Struct, frozen=True):
    """Of the proxy's /llmctl/status, what matters here."""

    pools: dict[str, _Pool] = {}


def look(box: Box, instances: Iterable["Instance"]) -> "dict[str, Seen]":
    """What each model does that runs; one that does not say is not in it, so it counts as busy."""
    from llmctl.engine.pool import Seen

    told, found = _told(box), dict[str, Seen]()
    of: dict[str, list[Instance]] = {}
    for one in instances:
        of.setdefault(one.profile, []).append(one)
    for name, its in of.items():
        known, states = told.get(name, _Member()), [_works(box, one) for one in its]
        if None not in states:
            busy = any(states) or known.in_flight > 0 or known.waiting > 0
            found[name] = Seen(known.idle_s or 0.0, busy, known.load_s or 0.0)
    return found


def _works(box: Box, one: "Instance") -> bool | None:
    """Is any of its slots busy? None: it does not say. One that may sleep is not asked, since that
    would wake it, and start its time anew."""
    loaded = box.store.profiles.get(one.profile)
    profile = loaded.profile if loaded else None
    if profile is None:
        return None
    if _SLEEPS in map(str, profile.args):
        return False
    status, body = get(box.host, one.port, "/slots", key=box.api_key(profile))
    return _is_any_busy(body) if status == 200 else None


def _is_any_busy(body: bytes) -> bool | None:
    try:
        slots: Sequence[Any] = msgspec.json.decode(body)
        return any(bool(one["is_processing"]) for one in slots)
    except (msgspec.DecodeError, KeyError, TypeError):
        return None


def _told(box: Box) -> dict[str, _Member]:
    """What the proxy says of members, where there is one."""
    from llmctl.engine.proxy_told import TIMEOUT_S, port

    number = port(box)
    if number is None:
        return {}
    status, body = get(box.host, number, "/llmctl/status", timeout=TIMEOUT_S)
    try:
        said = msgspec.json.decode(body, type=_Told) if status == 200 else _Told()
    except msgspec.DecodeError:
        return {}
    return {name: one for pool in said.pools.values() for name, one in pool.members.items()}
