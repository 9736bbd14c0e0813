"""A datagram to all machines of a network."""

import socket

from llmctl.errors import HostError


def broadcast(data: bytes, address: str, port: int) -> None:
    """Send it by IPv4. HostError: this machine has no network that leads there."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        try:
            sender.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            sender.sendto(data, (address, port))
        except OSError as error:
            raise HostError(
                f"nothing can be sent to {address} from here: {error.strerror}.",
                hint="Say `broadcast:` in hosts.yaml, or `via:` another machine on its LAN.",
            ) from None
