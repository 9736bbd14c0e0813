"""From the name of a box to the box."""

import contextlib
import sys
from threading import Lock

from llmctl.engine.box import Box
from llmctl.host.base import Host
from llmctl.host.local import LocalHost
from llmctl.store import Store

LOCAL = "local"
_ASKING = Lock()
"""Of several boxes at once, one asks after the other."""


def open_box(host: str, *, verbose: bool = False) -> Box:
    """The box of that name. HostError: it is not one that llmctl can reach."""
    found = box_at(host)
    if verbose:
        from llmctl.cli.trace import Traced

        found = Traced(found)
    box = Box(found)
    if host != LOCAL:
        box.store = _noted(found)
    return box


def _noted(found: Host) -> Store:
    from llmctl.store.known_boxes import KnownBoxes, NotedStore

    return NotedStore(found, here=KnownBoxes(LocalHost()))


def box_at(host: str) -> Host:
    """The machine of that name: this one, or what ssh reaches under it. Nothing is asked yet."""
    if host == LOCAL:
        return LocalHost()
    from llmctl.engine.known import KnownHost
    from llmctl.host.ssh import SSHHost  # paramiko: only for boxes elsewhere

    return KnownHost(SSHHost(host, target=target_of(host), ask=ask))


def target_of(host: str) -> str:
    """What ssh is to be given for a box: as hosts.yaml says, else its name.

    ProfileError: hosts.yaml is wrong.
    """
    from llmctl.store.hosts import HostsFile

    entry = HostsFile(LocalHost()).boxes.get(host)
    return entry.ssh if entry else host


def ask(question: str) -> str | None:
    """Ask the person at the terminal for a secret; None: there is none, or no answer."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return None
    import getpass

    with _ASKING, contextlib.suppress(EOFError):
        return getpass.getpass(question, stream=sys.stderr)
    return None
