"""Which socket holds a port of this machine, as the kernel knows it."""

import errno
import functools
import itertools
import socket
import struct

_NETLINK_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST = 4, 20, 1
_TCP_LISTEN = 10
_HERE = "127.0.0.1"
_THERE = socket.inet_aton(_HERE) + bytes(12)
_HEADER = struct.Struct("=IHHII")
_MESSAGE = _HEADER.size + 56
"""Bytes of a header and an inet_diag_req_v2."""
_STATE, _COOKIE = _HEADER.size + 1, slice(_HEADER.size + 44, _HEADER.size + 52)
"""Where an inet_diag_msg has them."""
_numbers = itertools.count(1)


def holder(port: int) -> bytes | None:
    """Who listens there: the cookie of the socket (sock_diag(7)), which no other ever gets. None:
    nobody does, or the kernel does not say.

    While it is the same, whoever listened before listens still, and a connection that was made
    meanwhile leads there, unless the port is shared (see is_shared)."""
    number = next(_numbers) & 0xFFFFFFFF
    try:
        _diag().send(_question(port, number))
        while True:
            answer = _diag().recv(4096)
            _, kind, _, to, _ = _HEADER.unpack_from(answer)
            if to == number:  # else it is to a question that was given up
                break
    except OSError:  # a kernel without it, or a sandbox
        return None
    is_one = kind == _SOCK_DIAG_BY_FAMILY and answer[_STATE] == _TCP_LISTEN
    return answer[_COOKIE] if is_one else None


def is_shared(port: int) -> bool:
    """May several listen there at once, each with some of the connections? Only where each of their
    sockets asks for that (SO_REUSEPORT, socket(7)), and then another that asks is let in. A
    llama-server does with --reuse-port, and older ones (before llama.cpp's #21056) always do."""
    try:
        with socket.socket() as another:
            another.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            another.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # beside old connections
            another.bind((_HERE, port))  # it never listens, so nobody is led to it
    except OSError as error:
        return error.errno != errno.EADDRINUSE
    return True


def _question(port: int, number: int) -> bytes:
    """Whom would a connection to it reach? An inet_diag_req_v2 that names no other end."""
    header = _HEADER.pack(_MESSAGE, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, number, 0)
    wanted = struct.pack("=BBxxI", socket.AF_INET, socket.IPPROTO_TCP, 1 << _TCP_LISTEN)
    ends = struct.pack("!HH", port, 0) + _THERE + bytes(16)
    return header + wanted + ends + struct.pack("=I", 0) + b"\xff" * 8


@functools.cache
def _diag() -> socket.socket:
    """The kernel answers before `send` has returned, so nothing is waited for."""
    kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK
    return socket.socket(socket.AF_NETLINK, kind, _NETLINK_SOCK_DIAG)
