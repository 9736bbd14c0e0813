"""What is set on the sockets of clients, and where what comes on any connection is read to."""

import socket

BUFFER = memoryview(bytearray(64 << 10))
"""What was just read. One is enough for all connections: it is used up before the next read, which
spares each read the making of a buffer of this size."""
GONE_AFTER_S = 60
"""After so long without a word from its machine, a client counts as gone."""


def watch(peer: socket.socket | None, *, is_here: bool) -> None:
    """Let the kernel find out that a machine has gone without a word: a laptop that was closed
    would keep its place in the queue, and its slot, while nothing is written to it. The kernel's
    TCP_USER_TIMEOUT also ends a connection whose window was shut for so long, and that of loopback
    opens by 64 KiB at a time: who reads 1 KB/s would be cut in the midst of it."""
    if peer is not None:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, GONE_AFTER_S // 4)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 2)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, GONE_AFTER_S // 2)
            if not is_here:  # this machine does not vanish
                peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * GONE_AFTER_S)


def send_at_once(connection: socket.socket | None) -> None:
    """No Nagle: a head and its first event are two writes, 40 ms apart otherwise. asyncio sees to
    it only where the listening socket was made with its protocol named."""
    if connection is not None and connection.family != socket.AF_UNIX:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
