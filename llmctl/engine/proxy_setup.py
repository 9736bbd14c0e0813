"""The proxy's units as systemd has them: started, followed after an `apply`, removed."""

from collections.abc import Sequence

import msgspec

from llmctl.core.listening import Address
from llmctl.core.progress import Report, Waiting
from llmctl.core.proxy_unit import MODULE, SERVICE, SOCKET, STOP_MARGIN_S, UNITS, listened
from llmctl.core.state import UnitStatus
from llmctl.core.unit import Owner, read_header
from llmctl.engine.apply import Change, Kind, carry_out, file_change
from llmctl.engine.box import Box
from llmctl.engine.clock import Clock
from llmctl.engine.ports import holders
from llmctl.engine.proxy_path import hidden_builds
from llmctl.engine.proxy_units import is_installed, lenient, wanted
from llmctl.errors import HostError, sentence

SETTLE_TIMEOUT_S = 20.0
_POLL_S = 0.05
CUT = f"systemctl --user kill {SERVICE}"
"""A second SIGTERM ends the proxy at once (proxy/__main__.py)."""


class Installed(msgspec.Struct, frozen=True):
    """What installing did. linger: the user manager runs without a login. problems: what will not
    work."""

    changes: tuple[Change, ...]
    listen: tuple[Address, ...]
    linger: bool
    user: str
    problems: tuple[str, ...] = ()


def install(
    box: Box, python: str, *, clock: Clock, report: Report, overwrite: bool = False
) -> Installed:
    """Write both units, start them, and at boot; the same once more changes nothing."""
    units = wanted(box, python)
    _check_program(box, python)
    changes = tuple(file_change(box, unit, overwrite=overwrite) for unit in units)
    for change in changes:
        if change.kind is Kind.FOREIGN:
            raise box.not_ours(change.unit)
    carry_out(box, changes, clock=clock, report=report)
    box.systemd.enable(SOCKET)
    follow(box, changes, clock=clock, report=report)
    for unit in UNITS:
        box.systemd.start(unit)
        status = _settled(box, unit, clock, report)
        if status.has_failed or not status.is_up:
            raise not_up(box, unit)
    user = box.host.environ().get("USER", "$USER")
    listen = listened(box.store.unit_text(SOCKET))
    return Installed(
        changes, listen, box.systemd.lingers(user), user, tuple(hidden_builds(box))
    )  # fmt: skip


def follow(box: Box, changes: Sequence[Change], *, clock: Clock, report: Report) -> None:
    """Have a running proxy see what was applied, with as little disturbance as will do.

    Other addresses: the socket is opened anew, as is one that has failed. Another program: the
    service is restarted, and the socket takes what comes meanwhile. Anything else: it reads its
    configuration again.
    """
    if not is_installed(box):
        return
    made = {one.unit: one for one in changes if one.is_change}
    if SOCKET in made and _moved(made[SOCKET]):
        _move(box, made[SOCKET], clock, report)
    elif box.systemd.status([SOCKET])[0].has_failed:
        _reopen(box, clock, report)
    elif SERVICE in made:
        box.systemd.try_restart(SERVICE)
    else:
        box.systemd.refresh(SERVICE)


def _moved(change: Change) -> bool:
    return set(listened(change.before)) != set(listened(change.after))


def _move(box: Box, change: Change, clock: Clock, report: Report) -> None:
    """Have the socket listen elsewhere. Where it cannot it goes back, so that a port that somebody
    else has costs no client the old one."""
    try:
        _reopen(box, clock, report)
    except HostError as error:
        if change.before is None:
            raise
        box.store.write_unit(SOCKET, change.before)
        box.systemd.reload()
        _reopen(box, clock, report)
        old = ", ".join(map(str, listened(change.before)))
        message = f"{sentence(error.message)} It listens where it did: {old}."
        raise HostError(message, hint=error.hint) from None


def _reopen(box: Box, clock: Clock, report: Report) -> None:
    """A socket that somebody has stopped stays closed; one that has failed was not stopped."""
    if box.systemd.status([SOCKET])[0].has_failed:
        box.systemd.restart(SOCKET)
    else:
        box.systemd.try_restart(SOCKET)
    if _settled(box, SOCKET, clock, report).has_failed:
        raise not_up(box, SOCKET)


def _check_program(box: Box, python: str) -> None:
    """Units do not see the shell's PYTHONPATH, nor the directory that one types in."""
    argv = ("env", "--unset=PYTHONPATH", python, "-P", "-c", f"import {MODULE}.__main__")
    told = box.host.run(argv, timeout=SETTLE_TIMEOUT_S)
    if not told.ok:
        lines = told.stderr.strip().splitlines() or ["no reason given"]
        raise HostError(
            f"{python} cannot run the proxy: {lines[-1]}",
            hint="Install llmctl where that Python finds it (pip install), not by PYTHONPATH.",
        )


def _settled(box: Box, unit: str, clock: Clock, report: Report) -> UnitStatus:
    """The unit when systemd has done with it, be it after a stop that let answers end."""
    timeout = SETTLE_TIMEOUT_S + STOP_MARGIN_S + box.store.config.proxy.stop_timeout_s
    began = clock.now()
    while (elapsed := clock.now() - began) < timeout:
        status, service = box.systemd.status([unit, SERVICE])
        if not status.is_queued:
            return status
        report(Waiting(_waited_for(box, unit, service), elapsed))
        clock.sleep(_POLL_S)
    return box.systemd.status([unit])[0]


def _waited_for(box: Box, unit: str, service: UnitStatus) -> str:
    """The socket waits for the service, and that for its clients."""
    if service.active != "deactivating":
        return f"{unit} is starting"
    limit = f"{box.store.config.proxy.stop_timeout_s:g} s"
    return f"the proxy lets answers under way end, for at most {limit}; to cut them: {CUT}"


def not_up(box: Box, unit: str) -> HostError:
    """Why it did not start: most often somebody else has the port."""
    for address in listened(box.store.unit_text(SOCKET)) if unit == SOCKET else ():
        found = [str(one) for one in holders(box, address.port)]
        if found:
            return HostError(
                f"the proxy cannot listen on {address}: port {address.port} is taken by "
                f"{'; '.join(found)}.",
                hint="End that, or let the proxy listen elsewhere: `proxy: {listen: [...]}` in "
                "config.yaml.",
            )
    lines = [line for line in box.systemd.journal(unit, lines=5) if line.strip()]
    told = lines[-1].partition(": ")[2] or lines[-1] if lines else "its journal is empty"
    return HostError(
        f"{unit} does not start: {told}", hint=f"Type: journalctl --user -u {unit} -n 50"
    )


class Removed(msgspec.Struct, frozen=True):
    """What uninstalling did. removed: units. edited: those that were changed by hand, and stay."""

    removed: tuple[str, ...]
    edited: tuple[str, ...]


def uninstall(box: Box, *, clock: Clock, report: Report) -> Removed:
    """Stop the proxy, after what is under way, and remove its units; twice is once."""
    lenient(box)
    if not is_installed(box):
        return Removed((), ())
    owners = {unit: read_header(box.store.unit_text(unit)).owner for unit in UNITS}
    mine = [unit for unit in UNITS if owners[unit] in (Owner.OURS, Owner.EDITED)]
    if SOCKET in mine:
        box.systemd.disable([SOCKET])
    box.systemd.stop(mine)
    for unit in mine:
        if _settled(box, unit, clock, report).is_up:
            raise HostError(f"{unit} did not stop.", hint=f"systemctl --user status {unit}")
    gone = tuple(unit for unit in mine if owners[unit] is Owner.OURS)
    for unit in gone:
        box.host.remove(box.store.unit_path(unit))
    box.systemd.reload()
    box.systemd.forget_failures(mine)
    return Removed(gone, tuple(unit for unit in mine if owners[unit] is Owner.EDITED))
