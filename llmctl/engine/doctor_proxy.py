"""Checks of the proxy, where it is installed, and of the address that it listens on."""

import sys
from collections.abc import Iterator

from llmctl.core.finding import Finding, advice
from llmctl.core.listening import TAILSCALE, is_tailnet, parse_listen
from llmctl.core.proxy_unit import SOCKET, UNITS, listened
from llmctl.core.state import State
from llmctl.engine.apply import Kind
from llmctl.engine.patient import Patient
from llmctl.engine.proxy_setup import not_up
from llmctl.engine.proxy_units import is_installed, present_tailnet_address, proxy_changes
from llmctl.engine.proxy_view import proxy_view

_WHY = "Clients' one URL leads nowhere, or not where config.yaml says."


def proxy(patient: Patient) -> Iterator[Finding]:
    """Does it answer, if it is installed?"""
    box = patient.box
    if not is_installed(box):
        return
    statuses = box.systemd.status(UNITS)
    failed = [one.unit for one in statuses if one.has_failed]
    for unit in failed:
        error = not_up(box, unit)
        yield Finding(error.message, _WHY, error.hint or "llmctl proxy status")
    if not statuses[0].enabled:
        yield advice(f"{SOCKET} does not start at boot", why=_WHY, do="llmctl proxy install")
    view = proxy_view(box)
    if view is not None and view.state is not State.READY and not failed:
        what = f"the proxy does not answer on {view.url} ({view.state.value})"
        yield Finding(what, _WHY, "llmctl proxy install")
    for told in view.problems if view else ():
        yield Finding(f"the proxy: {told}", _WHY, "llmctl proxy status")
    if patient.ours is None:  # another machine may have another version, and another Python
        yield from _files(patient)


def _files(patient: Patient) -> Iterator[Finding]:
    for change in proxy_changes(patient.box, sys.executable):
        path = patient.box.store.unit_path(change.unit)
        if change.kind in (Kind.CREATE, Kind.UPDATE):
            what = "missing" if change.kind is Kind.CREATE else "stale"
            yield Finding(f"{path} is {what}", _WHY, "llmctl apply")
        elif change.kind is Kind.EDITED:
            do = "llmctl proxy install --overwrite"
            yield advice(f"{path} was edited by hand", why="Settings do not reach it.", do=do)
        elif change.error is not None:
            yield Finding(change.error.message, _WHY, change.error.hint or "correct config.yaml")


def tailnet(patient: Patient) -> Iterator[Finding]:
    """Has the box the address of its tailnet that the proxy listens on?"""
    box = patient.box
    wants = {parse_listen(text).host for text in box.store.config.proxy.listen}
    told = {one.host for one in listened(box.store.unit_text(SOCKET)) if is_tailnet(one.host)}
    named = {host for host in wants if host != TAILSCALE and is_tailnet(host)}
    if TAILSCALE not in wants and not named:
        return
    present = present_tailnet_address(box)
    if present is None:
        why = "Nobody reaches the proxy through the tailnet."
        yield Finding(f"{box.host.name} has no address in a tailnet", why, "sudo tailscale up")
    elif wrong := (named or told) - {present}:
        what = f"the proxy listens on {', '.join(sorted(wrong))}, and the tailnet's is {present}"
        do = "correct proxy.listen in config.yaml, then llmctl apply" if named else "llmctl apply"
        yield Finding(what, "Nobody reaches the proxy through the tailnet.", do)
