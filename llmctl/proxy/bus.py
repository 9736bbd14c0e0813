"""Hears from the user manager that something happens to a model's unit, as soon as it happens.

The manager listens on a private socket, `$XDG_RUNTIME_DIR/systemd/private`, where it speaks D-Bus
without a bus: whoever has said that he is the same user gets every signal, unasked (systemd,
src/core/dbus.c, bus_foreach_bus). This is what `systemctl` uses too. No bus needs to run.

A signal is only a reason to look: what is true is asked of systemd then. So nothing of a message
is read but how long it is, what it is called, and whether a model's unit is named in it; a D-Bus
library would read all of it, for each property of each unit of the session.
"""

import asyncio
import contextlib
import os
import struct
from collections.abc import Callable, Iterator

DEBOUNCE_S = 0.02
"""A start or a stop is a dozen signals within some milliseconds, and one reason to look."""
RECONNECT_S = 5.0
MOST_BYTES = 1 << 20
"""Of one message; systemd's are some kilobytes."""
_FIXED = 16
_SIGNAL = 4
_ORDERS = {0x6C: "<", 0x42: ">"}  # l and B
_UNIT_PATH = b"/org/freedesktop/systemd1/unit/llm_2d"  # `-` is escaped as _2d
_NAMED = b"llm-"


class NotDBusError(ValueError):
    """These bytes are no messages of D-Bus."""


class Messages:
    """Bytes in, whole messages out, for any chunking (D-Bus Specification, Message Format)."""

    def __init__(self) -> None:
        self._held = b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The messages that are whole by now. NotDBusError: the stream makes no sense."""
        held = self._held + data
        while len(held) >= _FIXED and len(held) >= (size := message_bytes(held)):
            message, held = held[:size], held[size:]
            self._held = held
            yield message
        self._held = held


def message_bytes(head: bytes) -> int:
    """The length of the message that begins with these 16 bytes: fixed part, header fields padded
    to 8, body."""
    order = _ORDERS.get(head[0])
    if order is None:
        raise NotDBusError(f"a message begins with {head[:1]!r}")
    body, _, fields = struct.unpack_from(f"{order}III", head, 4)
    size = int(_FIXED + (fields + 7 & ~7) + body)
    if size > MOST_BYTES:
        raise NotDBusError(f"a message of {size} bytes")
    return size


def concerns_models(message: bytes) -> bool:
    """Is it a signal that the state of a model's unit may have changed?

    Not UnitNew and UnitRemoved: they say that systemd has read a unit or forgotten it, which it
    does for whoever asks how the unit is. Looking would cause what causes a look.
    """
    if message[1] != _SIGNAL:
        return False
    if b"PropertiesChanged" in message:
        return _UNIT_PATH in message
    return (b"JobNew" in message or b"JobRemoved" in message) and _NAMED in message


class Bus:
    """Listens for ever, and calls `wake` when a model's unit is concerned. is_connected: it
    hears; if not, whoever looks now and then must do."""

    def __init__(self, path: str, wake: Callable[[], None]) -> None:
        self._path, self._wake = path, wake
        self._due: asyncio.TimerHandle | None = None
        self.is_connected = False

    async def listen(self) -> None:
        """For ever, through restarts of the manager."""
        while True:
            with contextlib.suppress(OSError, NotDBusError, asyncio.IncompleteReadError):
                await self._hear()
            self.is_connected = False
            await asyncio.sleep(RECONNECT_S)

    async def _hear(self) -> None:
        reader, writer = await asyncio.open_unix_connection(self._path)
        try:
            # D-Bus Specification, Authentication Protocol: EXTERNAL is who the kernel says we are.
            me = str(os.getuid()).encode().hex().encode()
            writer.write(b"\0AUTH EXTERNAL %b\r\nBEGIN\r\n" % me)
            answer = await reader.readuntil(b"\r\n")
            if not answer.startswith(b"OK "):
                raise NotDBusError(answer.decode(errors="replace"))
            self.is_connected = True
            self._wake()  # what was missed while nobody listened
            messages = Messages()
            while data := await reader.read(1 << 16):
                for message in messages.feed(data):
                    if concerns_models(message):
                        self._soon()
        finally:
            writer.close()

    def _soon(self) -> None:
        if self._due is None:
            self._due = asyncio.get_running_loop().call_later(DEBOUNCE_S, self._now)

    def _now(self) -> None:
        self._due = None
        self._wake()


def private_socket() -> str:
    """Where this user's manager listens."""
    runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
    return f"{runtime}/systemd/private"
