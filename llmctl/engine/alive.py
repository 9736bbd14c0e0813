"""Does a server still compute? One whose GPU context died while the machine slept answers /health,
and fails or hangs at the first token."""

import enum

from llmctl.core.state import Health
from llmctl.engine.asking import Asker
from llmctl.engine.clock import Clock
from llmctl.errors import HostError
from llmctl.health import counters, probe
from llmctl.host.base import Host

PATIENCE_S = 30.0
"""For one token. Weights in host memory may have to come from the disk again."""
BUSY = "llamacpp:requests_processing"
_TOKEN = {"prompt": "a", "n_predict": 1, "cache_prompt": False}


class Life(enum.Enum):
    """What became of one token."""

    ALIVE = "alive"
    DEAD = "dead"
    BUSY = "busy"  # others are served, so silence says nothing
    UNKNOWN = "unknown"  # it will not be asked: another key, or it does something else


def life(
    host: Host, port: int, *, key: str | None, clock: Clock, patience: float = PATIENCE_S
) -> Life:
    """Ask for one token, or for one vector where the model makes those. patience: seconds."""
    is_busy = counters(host, port, key=key).get(BUSY, 0.0) > 0
    asker = Asker(host, port, clock, key=key, patience=patience)
    try:
        status = asker.post("/completion", _TOKEN).status
        if status == 501:  # not_supported_error: it makes vectors
            status = asker.post("/v1/embeddings", {"input": "a"}).status
    except HostError:
        # One that crashed over it is silent now; one that is busy may only be slow.
        still = probe(host, port, key=key).health is Health.READY
        return Life.BUSY if is_busy and still else Life.DEAD
    if status == 200:
        return Life.ALIVE
    return Life.DEAD if status >= 500 and status not in (501, 503) else Life.UNKNOWN
