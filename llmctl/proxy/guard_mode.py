"""X-Llmctl-Guard: the header by which one request switches the guard."""

from typing import TYPE_CHECKING, cast

import msgspec

from llmctl.core.guard.settings import GuardSettings
from llmctl.proxy.dialect import Endpoint, Trouble
from llmctl.proxy.head import Request

if TYPE_CHECKING:
    from llmctl.core.guard.settings import Mode

HEADER = b"x-llmctl-guard"
_MODES = ("on", "log", "off")


def refused_mode(request: Request, endpoint: Endpoint) -> Trouble | None:
    """What is wrong with the header by which a request switches the guard."""
    given = request.header(HEADER)
    if given is None or not endpoint.streams or _mode(given) in _MODES:
        return None
    return Trouble(
        400, "invalid_guard", f"X-Llmctl-Guard is on, log or off, not {_mode(given)[:40]!r}."
    )


def _mode(given: bytes) -> str:
    return given.strip().lower().decode("latin-1")


def settings_for(request: Request, settings: GuardSettings) -> GuardSettings:
    """The model's settings, with the mode that the request asks for."""
    given = request.header(HEADER)
    if given is None or _mode(given) not in _MODES:
        return settings
    return msgspec.structs.replace(settings, mode=cast("Mode", _mode(given)))
