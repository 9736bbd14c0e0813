"""Stop models, and say so only when they are gone."""

from collections.abc import Sequence

import msgspec

from llmctl.core.progress import Report
from llmctl.core.unit import Header, Owner, read_header
from llmctl.core.words import DEFAULT_GROUP, RESIDENT, instance_of, unit_name
from llmctl.engine.box import Box
from llmctl.engine.clock import Clock
from llmctl.engine.wait import await_stopped, not_stopped
from llmctl.errors import HostError, UsageError


class Stopped(msgspec.Struct, frozen=True):
    """Profiles that were stopped, or whose crash was forgotten; none otherwise."""

    profiles: tuple[str, ...]


def units_of(box: Box, group: str | None, *, everything: bool) -> tuple[str, ...]:
    """Units that `off` means: of one group, of all groups, or of every profile there is.

    What systemd has loaded is asked, and each unit's own file says whose and of which group it
    is: `off` must work also when config.yaml or a profile is broken, or gone.
    """
    lively = [unit for unit in box.systemd.lively("llm-*.service") if instance_of(unit)]
    headers = {one.unit: _header(box, one.path) for one in box.systemd.status(lively)}
    ours = {unit: its.group for unit, its in headers.items() if its.owner is not Owner.FOREIGN}
    if everything:
        return tuple(ours)
    if group is None:
        return tuple(unit for unit, its in ours.items() if its != RESIDENT)
    if group not in ours.values() and group not in box.store.config.groups:
        known = ", ".join(sorted(box.store.config.groups))
        raise UsageError(f"there is no group {group}; there is {known}.")
    return tuple(unit for unit, its in ours.items() if its == group)


def units_named(box: Box, names: Sequence[str]) -> tuple[str, ...]:
    """Units of these profiles, and of their replicas. ProfileError: nobody knows such a one, or its
    unit is not ours."""
    box.store.require(names)
    units = units_of(box, None, everything=True)
    found = tuple(unit for unit in units if (instance_of(unit) or ("", 0))[0] in names)
    lively = box.systemd.lively("llm-*.service")
    for name in names:
        if unit_name(name) in lively and unit_name(name) not in found:
            raise box.not_ours(unit_name(name))
    return found


def _header(box: Box, path: str) -> Header:
    """Whose a loaded unit is; one whose file is gone by now was ours to remove."""
    gone = Header(Owner.ABSENT, DEFAULT_GROUP)  # as `status` shows it
    if not path:
        return gone
    try:
        return read_header(box.host.read(path).decode(errors="replace"))
    except FileNotFoundError:
        return gone
    except HostError:  # what we cannot read we did not write
        return Header(Owner.FOREIGN)


def off(box: Box, units: Sequence[str], *, clock: Clock, report: Report, timeout: float) -> Stopped:
    """Stop units and wait until they are gone; systemd kills what outlasts its stop_timeout."""
    seen = box.systemd.status(units)
    names = [one.unit for one in seen if one.holds_on or one.has_failed]
    if not names:
        return Stopped(())
    box.systemd.stop(names)  # also ends systemd's own attempts to start what crashed
    left = await_stopped(box, names, clock=clock, report=report, timeout=timeout)
    if left:
        raise HostError(
            not_stopped(box, left, timeout=timeout),
            hint=f"See `systemctl --user status {left[0]}`.",
        )
    box.systemd.forget_failures(names)
    return Stopped(tuple(dict.fromkeys(_profile(name) for name in names)))


def _profile(unit: str) -> str:
    whose = instance_of(unit)
    return whose[0] if whose else unit
