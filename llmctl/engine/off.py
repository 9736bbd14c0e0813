"""Stop models, and say so only when they are gone."""

from collections.abc import Sequence

import msgspec

from llmctl.core.progress import Report, Waiting
from llmctl.core.state import UnitStatus
from llmctl.core.words import profile_of, unit_name
from llmctl.engine.box import Box
from llmctl.engine.clock import Clock
from llmctl.errors import HostError, UsageError


class Stopped(msgspec.Struct, frozen=True):
    """Profiles that were stopped; none were up otherwise."""

    profiles: tuple[str, ...]


def units_of(box: Box, group: str | None, *, everything: bool) -> tuple[str, ...]:
    """Units that `off` means: of one group, of all groups, or of every profile."""
    store = box.store
    if group is not None and group not in store.config.groups:
        known = ", ".join(sorted(store.config.groups))
        raise UsageError(f"there is no group {group}; there is {known}.")
    chosen = [
        name
        for name, one in store.profiles.items()
        if everything or (one.group == group if group else one.group in store.config.groups)
    ]
    gone = [
        unit
        for unit in store.unit_texts()
        if (profile := profile_of(unit)) and profile not in store.profiles
        and (everything or store.unit_group(unit) == (group or store.unit_group(unit)))
    ]  # fmt: skip
    return (*(unit_name(name) for name in chosen), *gone)


def off(box: Box, units: Sequence[str], *, clock: Clock, report: Report, timeout: float) -> Stopped:
    """Stop units and wait until they are gone; systemd kills what outlasts its stop_timeout."""
    before = [one for one in box.systemd.status(units) if _is_there(one)]
    if not before:
        return Stopped(())
    names = [one.unit for one in before]
    box.systemd.stop(names)
    began = clock.now()
    while left := [one.unit for one in box.systemd.status(names) if one.is_up or one.is_queued]:
        elapsed = clock.now() - began
        if elapsed > timeout:
            raise HostError(
                f"{', '.join(left)} did not stop within {timeout:.0f} s.",
                hint=f"See systemctl --user status {left[0]}",
            )
        report(Waiting(f"{', '.join(left)} is stopping", elapsed))
        clock.sleep(min(0.25, max(0.02, elapsed / 20)))
    box.systemd.forget_failures(names)
    return Stopped(tuple(profile_of(name) or name for name in names))


def _is_there(status: UnitStatus) -> bool:
    return status.is_up or status.is_queued or status.has_failed
