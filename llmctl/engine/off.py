"""Stop models, and say so only when they are gone."""

from collections.abc import Sequence

import msgspec

from llmctl.core.progress import Report, Waiting
from llmctl.core.unit import Owner, read_header
from llmctl.core.words import RESIDENT, profile_of
from llmctl.engine.box import Box
from llmctl.engine.clock import Clock
from llmctl.errors import HostError, UsageError


class Stopped(msgspec.Struct, frozen=True):
    """Profiles that were stopped; none were up otherwise."""

    profiles: tuple[str, ...]


def units_of(box: Box, group: str | None, *, everything: bool) -> tuple[str, ...]:
    """Units that `off` means: of one group, of all groups, or every model there is.

    What systemd has loaded is asked, and each unit says its group itself: `off` must work also
    when config.yaml or a profile is broken, or gone.
    """
    lively = [unit for unit in box.systemd.lively("llm-*.service") if profile_of(unit)]
    if everything:
        return tuple(lively)
    if group is not None and group not in box.store.config.groups:
        known = ", ".join(sorted(box.store.config.groups))
        raise UsageError(f"there is no group {group}; there is {known}.")
    groups = {unit: box.store.unit_group(unit) for unit in lively if _is_ours(box, unit)}
    return tuple(
        unit for unit, its in groups.items() if (its == group if group else its != RESIDENT)
    )


def _is_ours(box: Box, unit: str) -> bool:
    """A hand-made unit of such a name is in no group of ours."""
    return read_header(box.store.unit_text(unit)).owner is not Owner.FOREIGN


def off(box: Box, units: Sequence[str], *, clock: Clock, report: Report, timeout: float) -> Stopped:
    """Stop units and wait until they are gone; systemd kills what outlasts its stop_timeout."""
    seen = box.systemd.status(units)
    before = [one for one in seen if (one.is_up or one.is_queued) and not one.has_failed]
    crashed = [one.unit for one in seen if one.has_failed]
    if crashed:  # also ends systemd's own attempts to start them again
        box.systemd.stop(crashed)
        box.systemd.forget_failures(crashed)
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
