"""What aliases need to know of a box."""

import sys
from pathlib import PurePosixPath

from llmctl.core.aliases import is_open, proxy_url
from llmctl.core.listening import Address, parse_listen
from llmctl.core.proxy_settings import DEFAULT_LISTEN
from llmctl.engine.box import Box
from llmctl.engine.proxy_units import addresses
from llmctl.errors import ProfileError
from llmctl.store.known_boxes import Known

LLMCTL = "llmctl"


def look_at(box: Box, *, address: str | None) -> tuple[Known, str | None]:
    """What is there, and a warning, if LLM_URL will not lead to the proxy.

    address: what ssh connects to; None: the box is this machine.
    """
    listen, wrong = _listen(box)
    url = proxy_url(listen, address=address)
    if wrong is None and address is not None and not is_open(listen):
        wrong = (
            f"the proxy of {box.host.name} can be reached on that box alone, so {url} will not "
            "answer: see proxy: {listen: ...} in its config.yaml"
        )
    return Known(box.store.names, box.host.which(LLMCTL), url), wrong


def _listen(box: Box) -> tuple[tuple[Address, ...], str | None]:
    try:
        return addresses(box), None
    except ProfileError as error:  # said where the proxy is installed, too
        return tuple(parse_listen(one) for one in DEFAULT_LISTEN), error.message


def own_program() -> str | None:
    """This llmctl, by its path; None: it was not started as a program of that name."""
    path = PurePosixPath(sys.argv[0])
    return str(path) if path.is_absolute() and path.name == LLMCTL else None
