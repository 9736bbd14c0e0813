"""After a box has slept: models whose GPU context did not survive it are found and restarted.

Only those are asked that ran before the sleep and were not asked since.
"""

import contextlib

import msgspec

from llmctl.core.progress import Note, Report
from llmctl.core.slept import NOTICEABLE_S, slept_until
from llmctl.core.state import UnitStatus
from llmctl.core.words import instance_of
from llmctl.engine.alive import Life, life
from llmctl.engine.box import Box
from llmctl.engine.clock import Clock
from llmctl.engine.replica_units import port_of_replica
from llmctl.engine.replicas import restart, stop_replica
from llmctl.engine.slept import Looked, lived_through, looked, note, slept_here
from llmctl.errors import HostError

UNITS = "llm-*.service"
_TIMEOUT_S = 5.0


class Found(msgspec.Struct, frozen=True):
    """One model that ran while the box slept. name: with `@2` and so on for a replica."""

    name: str
    life: Life


def total_slept(box: Box) -> float | None:
    """How long the box has slept since it was booted; None: nobody says.

    Of another machine our own session there tells: systemd noted by both clocks when it began.
    """
    if box.host.name == "local":
        return slept_here(box)
    session = box.host.environ().get("XDG_SESSION_ID")
    if not session:
        return None
    argv = ("systemctl", "show", "--timestamp=unix",
            "--property=ActiveEnterTimestamp,ActiveEnterTimestampMonotonic",
            f"session-{session}.scope")  # fmt: skip
    try:
        shown = box.host.run(argv, timeout=_TIMEOUT_S).stdout
        return slept_until(shown, box.host.read("/proc/stat").decode(errors="replace"))
    except (FileNotFoundError, HostError):
        return None


def look_after(
    box: Box, *, clock: Clock, report: Report, slept: float | None = None
) -> tuple[Found, ...]:
    """Ask each model that lived through a sleep for a token, and restart those that are dead.

    slept: how long the box has slept in all, where the caller knows. HostError: it cannot be done.
    """
    total = total_slept(box) if slept is None else slept
    if total is None or total < NOTICEABLE_S:
        return ()
    known = looked(box)
    return tuple(
        _seen_to(box, one, total, clock, report)
        for one in box.systemd.lively_status(UNITS)
        if one.is_running and instance_of(one.unit)
        and lived_through(box, one, total, known.get(one.unit))
    )  # fmt: skip


def _seen_to(box: Box, status: UnitStatus, slept: float, clock: Clock, report: Report) -> Found:
    name, number = instance_of(status.unit) or ("", 1)
    found = Found(name if number == 1 else f"{name}@{number}", _life(box, status, clock))
    now = _uptime(box) - slept
    if found.life is Life.DEAD:
        report(Note(f"{found.name} did not survive the box's sleep, and is restarted"))
        if number == 1:
            restart(box, name, clock=clock, report=report)
        else:  # whoever needs it starts it again
            stop_replica(box, name, number, clock=clock, report=report)
    if found.life is not Life.BUSY:  # such a one is asked again
        with contextlib.suppress(HostError):  # a full disk: it is asked again, too
            note(box, status.unit, Looked(status.invocation, found.life.value, slept, now))
    return found


def _life(box: Box, status: UnitStatus, clock: Clock) -> Life:
    name, number = instance_of(status.unit) or ("", 1)
    loaded = box.store.profiles.get(name)
    key = box.api_key(loaded.profile) if loaded and loaded.profile else None
    if number == 1:
        port = box.port_of(status.unit, box.store.unit_group(status.unit), pid=status.pid)
    else:
        port = port_of_replica(box, name, number, pid=status.pid)
    return life(box.host, port, key=key, clock=clock)


def _uptime(box: Box) -> float:
    """Seconds since the boot, sleep and all."""
    return float(box.host.read("/proc/uptime").split()[0])
