"""The proxy's two units: their texts, and what an installed socket's text says.

The socket belongs to systemd, so that it outlives every restart of the service, and what arrives
meanwhile waits in its backlog instead of being refused.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from llmctl.core.listening import Address, parse_listen
from llmctl.core.proxy_settings import ProxySettings
from llmctl.core.unit import UnitFile, quote, render_unit

SOCKET, SERVICE = "llmctl-proxy.socket", "llmctl-proxy.service"
UNITS = (SOCKET, SERVICE)
MODULE = "llmctl.proxy"
STOP_MARGIN_S = 10.0
"""What the proxy has beyond `stop_timeout` to say farewell before systemd kills it."""


def socket_file(template: str, addresses: Sequence[Address], *, version: str) -> UnitFile:
    """The socket's unit."""
    return render_unit(SOCKET, template, {"listen": [str(one) for one in addresses]},
                       version=version)  # fmt: skip


def service_file(
    template: str,
    settings: ProxySettings,
    *,
    python: str,
    environment: Mapping[str, str],
    version: str,
) -> UnitFile:
    """The service's unit. python: the absolute path of an interpreter that has llmctl. environment:
    what it needs to find the files that the person who installs it sees.

    The version counts as something that the text is made from: after an upgrade the unit is stale,
    and `llmctl apply` restarts the process that still runs the old code.
    """
    stop = settings.stop_timeout_s + STOP_MARGIN_S
    variables: dict[str, Any] = {
        "exec_start": " ".join((quote(python), "-P", "-m", MODULE)),
        "environment": [quote(f"{key}={one}") for key, one in sorted(environment.items())],
        "stop_timeout": f"{stop:g}s",
        "version": version,
    }
    return render_unit(SERVICE, template, variables, version=version)


def listened(text: str | None) -> tuple[Address, ...]:
    """The addresses in the text of an installed socket; those that cannot be read are left out."""
    found = []
    for value in re.findall(r"^ListenStream=(\S+)$", text or "", re.MULTILINE):
        try:
            found.append(parse_listen(value))
        except ValueError:
            continue
    return tuple(found)
