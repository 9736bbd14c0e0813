"""The machines of this machine's tailnet."""

from llmctl.core.tailnet import Peer, parse_peers
from llmctl.errors import HostError
from llmctl.host.base import Host

PROGRAMS = ("tailscale", "/Applications/Tailscale.app/Contents/MacOS/Tailscale")
"""The Mac's app has its command line inside (tailscale.com/kb/1080/cli)."""
_TIMEOUT_S = 5.0


def peers_of(host: Host) -> tuple[Peer, ...] | None:
    """The other machines of its tailnet; None: it has no tailscale.

    HostError: tailscale does not answer, or is not logged in.
    """
    program = next(filter(None, map(host.which, PROGRAMS)), None)
    if program is None:
        return None
    told = host.run((program, "status", "--json"), timeout=_TIMEOUT_S)
    try:
        return parse_peers(told.stdout)
    except ValueError:
        said = (told.stderr.strip().splitlines() or [f"status {told.status}"])[-1]
        raise HostError(f"tailscale lists no machines: {said}", hint="tailscale status") from None
