"""The packet that wakes a machine, and how a machine without llmctl sends it.

A card that is armed looks for its own address 16 times after six bytes of 0xFF, wherever in a
frame they stand (AMD, Magic Packet Technology, publication 20213). UDP carries it; port 9 (discard)
is the usual one, and nobody listens there.
"""

import re
from collections.abc import Sequence

PORT = 9
EVERYBODY = "255.255.255.255"
"""All of the network that a machine's default route leads to (RFC 919)."""
_MAC = re.compile(r"[0-9A-Fa-f]{2}(?:[:-][0-9A-Fa-f]{2}){5}")

# argv: the packet in hexadecimal, the address, the port.
_PYTHON = (
    "import socket,sys;s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM);"
    "s.setsockopt(socket.SOL_SOCKET,socket.SO_BROADCAST,1);"
    "s.sendto(bytes.fromhex(sys.argv[1]),(sys.argv[2],int(sys.argv[3])))"
)
_PERL = (
    "socket(S,PF_INET,SOCK_DGRAM,0) and setsockopt(S,SOL_SOCKET,SO_BROADCAST,1)"
    ' and send(S,pack("H*",$ARGV[0]),0,sockaddr_in($ARGV[2],inet_aton($ARGV[1]))) or die "$!\\n"'
)


def magic_packet(mac: str) -> bytes:
    """The packet for a card. ValueError: that is no address of one."""
    if not _MAC.fullmatch(mac):
        raise ValueError(f"{mac} is no address of a network card")
    return b"\xff" * 6 + bytes.fromhex(re.sub(r"[:-]", "", mac)) * 16


def senders(packet: bytes, address: str, *, port: int = PORT) -> Sequence[tuple[str, ...]]:
    """Commands of which any sends a packet by broadcast; each begins with a program that a machine
    may have or not. Perl is essential on Debian and comes with a Mac."""
    words = (packet.hex(), address, str(port))
    return (("python3", "-c", _PYTHON, *words), ("perl", "-MSocket", "-e", _PERL, *words))
