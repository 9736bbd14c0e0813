"""What is set on the sockets of clients."""

import socket

GONE_AFTER_S = 60
"""After so long without a word from its machine, a client counts as gone."""


def watch(peer: socket.socket | None) -> None:
    """Let the kernel find out that a machine has gone without a word: a laptop that was closed
    would keep its place in the queue, and its slot, while nothing is written to it."""
    if peer is not None:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, GONE_AFTER_S // 4)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 2)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, GONE_AFTER_S // 2)
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * GONE_AFTER_S)


def send_at_once(connection: socket.socket | None) -> None:
    """No Nagle: a head and its first event are two writes, 40 ms apart otherwise. asyncio sees to
    it only where the listening socket was made with its protocol named."""
    if connection is not None and connection.family != socket.AF_UNIX:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
