"""The proxy at one moment: its units, its process, and what it says of itself."""

import msgspec

from llmctl.core.listening import Address
from llmctl.core.proxy_unit import SOCKET, UNITS, listened
from llmctl.core.state import UnitStatus
from llmctl.core.unit import Owner, read_header
from llmctl.engine.apply import Kind, file_change
from llmctl.engine.box import Box
from llmctl.engine.process import memory, uptime
from llmctl.engine.proxy_path import hidden_builds
from llmctl.engine.proxy_setup import not_up
from llmctl.engine.proxy_told import Told, told
from llmctl.engine.proxy_told import port as port_of
from llmctl.engine.proxy_units import is_installed, lenient, wanted
from llmctl.errors import ProfileError

RUNNING, LISTENING, STOPPED, FAILED = "running", "listening", "stopped", "failed"
"""Of the proxy: it runs; its socket waits for the first client; neither; one of them failed."""
_FILES = {Kind.CREATE: "missing", Kind.UPDATE: "stale"}


class ProxyStatus(msgspec.Struct, frozen=True):
    """The proxy. files: what each unit's file is, in the words of `llmctl list`. told: what the
    process says of itself, None where it was not asked or did not answer."""

    installed: bool
    state: str
    files: dict[str, str]
    listen: tuple[Address, ...] = ()
    enabled: bool = False
    linger: bool = False
    pid: int = 0
    uptime_s: float | None = None
    memory_bytes: int | None = None
    told: Told | None = None
    problems: tuple[str, ...] = ()


def proxy_status(box: Box, python: str) -> ProxyStatus:
    """How the proxy is. A service that does not run is not asked, since asking would start it."""
    problems = lenient(box)
    files, more = _files(box, python, known=not problems)
    problems += more
    if not is_installed(box):
        return ProxyStatus(installed=False, state=STOPPED, files=files, problems=problems)
    problems += tuple(hidden_builds(box))
    socket, service = box.systemd.status(UNITS)
    port = port_of(box)
    _, said = told(box, port) if service.is_running and port else (False, None)
    problems += tuple(not_up(box, one.unit).message for one in (socket, service) if one.has_failed)
    return ProxyStatus(
        installed=True, state=_state(socket, service), files=files,
        listen=listened(box.store.unit_text(SOCKET)), enabled=socket.enabled,
        linger=box.systemd.lingers(box.host.environ().get("USER", "")), pid=service.pid,
        uptime_s=uptime(box, service.pid), memory_bytes=memory(box, service), told=said,
        problems=tuple(dict.fromkeys((*problems, *(said.all_problems if said else ())))),
    )  # fmt: skip


def _files(box: Box, python: str, *, known: bool) -> tuple[dict[str, str], tuple[str, ...]]:
    """known: what they should be. If not, an installed one of ours is called broken."""
    owners = {unit: read_header(box.store.unit_text(unit)).owner for unit in UNITS}
    words = {Owner.ABSENT: "missing", Owner.OURS: "broken"}
    unknown = {unit: words.get(one, one.value) for unit, one in owners.items()}
    if not known:
        return unknown, ()
    try:
        units = wanted(box, python)
    except ProfileError as error:
        return unknown, error.problems
    kinds = {one.name: file_change(box, one, overwrite=False).kind for one in units}
    return {unit: _FILES.get(kind, kind.value) for unit, kind in kinds.items()}, ()


def _state(socket: UnitStatus, service: UnitStatus) -> str:
    if socket.has_failed or service.has_failed:
        return FAILED
    if service.is_up:
        return RUNNING
    return LISTENING if socket.is_up else STOPPED
