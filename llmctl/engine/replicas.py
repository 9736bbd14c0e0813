"""Further instances of a profile: one more where it fits into what is free now, and its end.

Nothing makes way for a replica, and it is the first instance in everything but its port and its
threads: the plan of the first must fit once more, as it is. What runs is in systemd alone.
"""

import contextlib
from typing import NoReturn

import msgspec

from llmctl.core.plan import plan_writes
from llmctl.core.progress import Report
from llmctl.core.replica_unit import has_replicas
from llmctl.core.state import State
from llmctl.core.verdict import Outcome, Ready, Watch
from llmctl.core.words import replica_template, replica_unit_name, unit_name
from llmctl.engine.box import Box, Resolved, Target
from llmctl.engine.clock import Clock
from llmctl.engine.evidence import log_of
from llmctl.engine.failure import failure
from llmctl.engine.off import off
from llmctl.engine.replica_units import port_of_replica, replica_file, running_replicas
from llmctl.engine.status import Instance, overview
from llmctl.engine.wait import Waiter
from llmctl.errors import DoesNotFitError, HostError, ProfileError, SwitchError

STOP_TIMEOUT_S = 600.0


class Started(msgspec.Struct, frozen=True):
    """A replica that answers: where, and which process."""

    port: int
    pid: int


def start_replica(
    box: Box, name: str, number: int, *, timeout: float, clock: Clock, report: Report
) -> Started:
    """Start instance `number` of a profile, and wait until it answers.

    DoesNotFitError: there is no room, or nobody can say so. SwitchError: it did not come up, and
    is stopped. timeout: seconds in which something must move.
    """
    resolved = box.resolve(name, ask=True)
    if not has_replicas(resolved.profile) or number > resolved.profile.replicas.max:
        raise ProfileError(f"{name} has no instance {number}: see its replicas.max.")
    _check_first(box, resolved)
    _check_room(box, resolved)
    _install(box, resolved)
    unit = replica_unit_name(name, number)
    watch = Watch(box.systemd.status([unit])[0])
    _empty_log(box, unit)
    box.systemd.start_alone(unit)
    port = port_of_replica(box, name, number)
    size = box.store.model_bytes(resolved.profile) or 0
    target = Target(name, unit, port, size, box.api_key(resolved.profile))
    waiter = Waiter(box, target, watch, timeout=timeout, clock=clock, report=report)
    outcome = waiter.wait()
    if not isinstance(outcome, Ready):
        _give_up(box, target, outcome, clock=clock, report=report)
    return Started(port, outcome.pid)


def stop_replica(box: Box, name: str, number: int, *, clock: Clock, report: Report) -> None:
    """Stop instance `number`, and wait until it is gone. HostError: it is not."""
    unit = replica_unit_name(name, number)
    off(box, (unit,), clock=clock, report=report, timeout=STOP_TIMEOUT_S)


def restart(box: Box, name: str, *, clock: Clock, report: Report) -> None:
    """Restart a profile's first instance. Its replicas end: systemd would restart them as well,
    whether there is room for them or not."""
    running = running_replicas(box, name)
    off(box, running, clock=clock, report=report, timeout=STOP_TIMEOUT_S)
    box.systemd.restart(unit_name(name))


def _check_first(box: Box, resolved: Resolved) -> None:
    """A replica is to be what the first instance is, and to fill what is really free."""
    name, seen = resolved.profile.name, overview(box).instances
    first = next((one for one in seen if (one.profile, one.number) == (name, 1)), None)
    if first is None or first.state is not State.READY:
        raise DoesNotFitError(f"{name} is not ready.")
    if box.running_process(first.pid) != resolved.process:
        raise DoesNotFitError(
            f"{name} runs with older settings than its replicas would.",
            hint=f"Restart it with them: llmctl switch {name}",
        )
    if changing := next((one for one in seen if _is_changing(one)), None):
        raise DoesNotFitError(f"{changing.name} is starting or stopping: what is free will change.")


def _is_changing(one: Instance) -> bool:
    return one.state in (State.LOADING, State.STOPPED)


def _check_room(box: Box, resolved: Resolved) -> None:
    """DoesNotFitError: what the first instance has does not fit once more into what is free."""
    from llmctl.core.memory.advice import shortage
    from llmctl.core.memory.request import pinned, placing, settled, wanted_of
    from llmctl.engine.holdings import Holdings
    from llmctl.engine.planning import place_of, plan_profile
    from llmctl.engine.pool import room_of

    profile, words = resolved.profile, resolved.plan.words or settled(resolved.argv)
    name = profile.name
    holdings = Holdings(box)
    place = place_of(box, profile, now=True, seen=holdings.survey(profile))
    if place.ram is None or (not place.rooms and place.warnings):
        raise DoesNotFitError(f"Nobody says how much memory is free: {place.warnings[:1]}.")
    found = plan_profile(box, name, place, lambda wanted: pinned(wanted, words)).plan
    room = room_of(box, name, again=True, found=holdings)
    if not found.fits:
        needs = (*found.estimate.devices, found.estimate.host)
        short = {one.name for one, lack in zip(needs, found.lacking, strict=True) if lack}
        held = room.held({space.key for space in room.spaces if space.name in short})
        raise DoesNotFitError(f"{name} does not fit once more: {shortage(found)}{held}.")
    if not room.fits:
        raise DoesNotFitError(f"{name} does not fit once more: {room.told()}.")
    given = wanted_of(profile).settings.overrides
    is_moved = any(one not in given for one in found.settings.overrides)  # that no unit would say
    if resolved.plan.words:
        is_moved = tuple(placing(found, given)) != resolved.plan.words
    if is_moved:
        raise DoesNotFitError(f"{name} would fit once more only with less on the devices.")


def _install(box: Box, resolved: Resolved) -> None:
    """The template, where it is not there or is stale; one edited by hand is used as it stands."""
    name = replica_template(resolved.profile.name)
    unit = replica_file(box, resolved)
    if unit is None:
        return
    writes = plan_writes((unit,), {name: box.store.unit_text(name)})
    for one in writes:
        box.store.write_unit(one.unit.name, one.unit.text, log_of=resolved.profile.name)
    if writes:
        box.systemd.reload()


def _empty_log(box: Box, unit: str) -> None:
    """A log file holds what one run wrote."""
    log = log_of(box, unit)
    if log:
        with contextlib.suppress(HostError):  # a full disk is no reason not to start
            box.host.write(log, b"", mode=0o600)


def _give_up(
    box: Box, target: Target, outcome: Outcome, *, clock: Clock, report: Report
) -> NoReturn:
    """SwitchError: why it did not come up. It is gone by then."""
    why = failure(box, target, outcome, clock)
    off(box, (target.unit,), clock=clock, report=report, timeout=STOP_TIMEOUT_S)
    raise why.error(SwitchError, f"{target.unit} failed: {why.what}.")
