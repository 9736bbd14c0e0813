"""The proxy's units on a box: installed, followed by `apply`, looked at, removed.

systemd holds the socket, so nothing here may stop it without need: what is installed already and
listens where it should is left alone, and a new text of the service restarts the service only.
"""

from llmctl import __version__
from llmctl.core.config import Config
from llmctl.core.listening import (
    KEYLESS_HINT,
    TAILSCALE,
    Address,
    exposure,
    is_tailnet,
    parse_listen,
    tailnet_address,
)
from llmctl.core.proxy_unit import SERVICE, SOCKET, UNITS, listened, service_file, socket_file
from llmctl.core.unit import Owner, UnitFile, read_header
from llmctl.engine.apply import Change, Kind, file_change
from llmctl.engine.box import Box
from llmctl.errors import HostError, ProfileError
from llmctl.store.data import template

_TAILSCALE_TIMEOUT_S = 5.0
_PLACES = ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME")
"""A shell may have set them where the user manager has not (store/places.py)."""


def addresses(box: Box) -> tuple[Address, ...]:
    """Where config.yaml wants the proxy to listen. ProfileError: it must not, or cannot, there."""
    settings = box.store.config.proxy
    given = [parse_listen(text) for text in settings.listen]
    tailnet = _tailnet(box) if any(one.host == TAILSCALE for one in given) else ""
    found = tuple(dict.fromkeys(one.on(tailnet) for one in given))
    wrong = exposure(
        found, has_keys=settings.api_keys is not None, allow_keyless=settings.allow_keyless
    )
    if wrong:
        raise ProfileError(f"{_file(box)}: proxy.listen: {wrong}", hint=KEYLESS_HINT)
    return found


def _file(box: Box) -> str:
    return f"{box.store.config_dir}/config.yaml"


def _tailnet(box: Box) -> str:
    """The box's address in its tailnet: as tailscale tells it, as an interface has it, or, while
    tailscale is down, as the installed socket has it. It stays the same as long as the machine is
    a member."""
    found = present_tailnet_address(box)
    if found is None:
        before = (one.host for one in listened(box.store.unit_text(SOCKET)))
        found = next(filter(is_tailnet, before), None)
    if found is None:
        raise ProfileError(
            f"{_file(box)}: proxy.listen: {TAILSCALE}: {box.host.name} has no address in a "
            "tailnet.",
            hint="Type: tailscale up. Or write the address itself; it need not be there yet.",
        )
    return found


def present_tailnet_address(box: Box) -> str | None:
    """The box's address in its tailnet now; None: it has none, or tailscale is down."""
    return _told_by_tailscale(box) or tailnet_address(_read(box, "/proc/net/fib_trie"))


def _told_by_tailscale(box: Box) -> str | None:
    program = box.host.which("tailscale")
    if program is None:
        return None
    try:
        told = box.host.run((program, "ip", "-4"), timeout=_TAILSCALE_TIMEOUT_S)
    except HostError:
        return None
    return next(filter(is_tailnet, told.stdout.split()), None) if told.ok else None


def _read(box: Box, path: str) -> str:
    try:
        return box.host.read(path).decode(errors="replace")
    except (FileNotFoundError, HostError):
        return ""


def wanted(box: Box, python: str) -> tuple[UnitFile, UnitFile]:
    """Both units as they should be. python: the interpreter that the service is to run."""
    settings = box.store.config.proxy
    socket = socket_file(template(SOCKET), addresses(box), version=__version__)
    given = {key: one for key, one in box.host.environ().items() if key in _PLACES}
    service = service_file(
        template(SERVICE), settings, python=python, environment=given, version=__version__
    )
    return socket, service


def lenient(box: Box) -> tuple[str, ...]:
    """What is wrong with config.yaml. Nobody is kept by it from looking at the proxy, or from
    removing it: where its units are is then what systemd says."""
    try:
        box.store.config  # noqa: B018  # it is read, and kept, here
    except ProfileError as error:
        path = next((one.path for one in box.systemd.status(UNITS) if one.path), None)
        box.store.config = Config(unit_dir=path.rpartition("/")[0]) if path else Config()
        return error.problems
    return ()


def is_installed(box: Box) -> bool:
    """Did `llmctl proxy install` write units here?"""
    owners = (read_header(box.store.unit_text(unit)).owner for unit in UNITS)
    return any(owner in (Owner.OURS, Owner.EDITED) for owner in owners)


def proxy_changes(box: Box, python: str, *, overwrite: bool = False) -> tuple[Change, ...]:
    """What `llmctl apply` would do to the proxy's units; nothing where it is not installed."""
    if not is_installed(box):
        return ()
    try:
        units = wanted(box, python)
    except ProfileError as error:
        return (Change(SOCKET, Kind.BROKEN, error=error),)
    return tuple(file_change(box, unit, overwrite=overwrite) for unit in units)
