"""From the name of a box to the box."""

from llmctl.engine.box import Box
from llmctl.errors import HostError
from llmctl.host.local import LocalHost

LOCAL = "local"


def open_box(host: str, *, verbose: bool = False) -> Box:
    """The box of that name. HostError: it is not one that llmctl can reach."""
    if host != LOCAL:
        raise HostError(
            f"there is no box {host}.",
            hint="This version speaks to this machine only: leave --host out.",
        )
    if not verbose:
        return Box(LocalHost())
    from llmctl.cli.trace import Traced

    return Box(Traced(LocalHost()))
