"""Connections for protocols: those that clients made, and those to this machine's servers."""

import asyncio
import errno
import socket

from llmctl.proxy.loop import Loop
from llmctl.proxy.wire import Wire

_HERE = "127.0.0.1"


async def accepted(connection: socket.socket, protocol: asyncio.BufferedProtocol) -> None:
    """A protocol for a connection that somebody made. OSError: it has gone already."""
    loop = asyncio.get_running_loop()
    if isinstance(loop, Loop):
        Wire(loop, connection, protocol)
    else:
        await loop.connect_accepted_socket(lambda: protocol, connection)


async def connected(protocol: asyncio.BufferedProtocol, port: int) -> None:
    """Connect to a port of this machine. OSError: nobody is there."""
    loop = asyncio.get_running_loop()
    if not isinstance(loop, Loop):
        await loop.create_connection(lambda: protocol, _HERE, port)
        return
    connection = _socket()
    try:
        await loop.sock_connect(connection, (_HERE, port))
    except BaseException:
        connection.close()
        raise
    Wire(loop, connection, protocol)


def connected_at_once(protocol: asyncio.BufferedProtocol, port: int) -> bool:
    """Connect to a port of this machine, if nothing has to be waited for. False: nobody is there,
    or too many want to be let in, or too much is open here.

    Linux has connected the two ends before it says that it is in progress; whether it could is what
    it says when it is asked again (connect(2))."""
    loop = asyncio.get_running_loop()
    if not isinstance(loop, Loop):
        return False
    try:
        connection = _socket()
    except OSError:
        return False
    said = connection.connect_ex((_HERE, port))
    if said == errno.EINPROGRESS:
        said = connection.connect_ex((_HERE, port))
    if said:
        connection.close()
        return False
    Wire(loop, connection, protocol)
    return True


def _socket() -> socket.socket:
    made = socket.socket()
    made.setblocking(False)  # noqa: FBT003  # its own way of asking
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made
