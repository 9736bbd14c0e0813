"""Which model starts at boot: at most one of a group."""

import msgspec

from llmctl.core.progress import Report
from llmctl.core.unit import Owner, read_header
from llmctl.core.words import profile_of, unit_name
from llmctl.engine.apply import carry_out, plan_apply
from llmctl.engine.box import Box
from llmctl.engine.clock import Clock


class Enabled(msgspec.Struct, frozen=True):
    """What enabling did. linger: the user manager runs without a login."""

    disabled: tuple[str, ...]
    linger: bool
    user: str


def enable(box: Box, name: str, *, clock: Clock, report: Report) -> Enabled:
    """Start a profile at boot. Two of a group would fight for the devices, so the rest is not."""
    resolved = box.resolve(name, ask=True)
    carry_out(box, plan_apply(box, [name]), clock=clock, report=report)
    if read_header(box.store.unit_text(resolved.unit)).owner is Owner.FOREIGN:
        raise box.not_ours(resolved.unit)
    others = [one.unit for one in box.systemd.status(resolved.place.rivals) if one.enabled]
    if others:
        box.systemd.disable(others)
    box.systemd.enable(resolved.unit)
    user = box.host.environ().get("USER", "$USER")
    linger = box.systemd.lingers(user)
    return Enabled(tuple(profile_of(one) or one for one in others), linger, user)


def disable(box: Box, name: str) -> None:
    """Do not start a profile at boot, be it broken or gone."""
    box.store.require([name])
    box.systemd.disable([unit_name(name)])
