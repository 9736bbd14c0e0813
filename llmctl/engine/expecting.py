"""What a host far away is told ahead, so that it is asked once and not step by step."""

from llmctl.health import request
from llmctl.host.base import Host


def expect(host: Host, port: int, *, key: str | None) -> None:
    """A model is waited for at a port; key: its API key. Nothing to a host that is near."""
    if (wait := getattr(host, "await_port", None)) is not None:
        wait(port, (request(port, "/health"), request(port, "/v1/models", key=key)))
