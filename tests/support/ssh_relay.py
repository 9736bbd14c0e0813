"""A relay between a client and a box's sshd: it is late by a round trip, counts, and can cut.

The lab's network is hidden from this machine's; the relay listens here and connects there.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import selectors
import socket
import threading
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from kit.boxes import Lab

CLONE_NEWNET = 0x40000000


def socket_in(pid: int) -> socket.socket:
    """A TCP socket of another process's network: a thread of its own goes there to make it."""
    made: list[socket.socket | int] = []

    def make() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        with Path(f"/proc/{pid}/ns/net").open("rb") as there:
            if libc.setns(there.fileno(), CLONE_NEWNET):
                made.append(ctypes.get_errno())
                return
        made.append(socket.socket())

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    if isinstance(found := made[0], int):
        raise OSError(found, os.strerror(found))
    return found


class _Pair:
    """One connection and its two directions: what is on the way, and when it arrives."""

    def __init__(self, near: socket.socket, far: socket.socket) -> None:
        self.ends = {near: far, far: near}
        self.near = near
        self.on_the_way: dict[socket.socket, deque[tuple[float, int, bytes]]] = {
            near: deque(), far: deque(),
        }  # fmt: skip


class Relay:
    """Listens on `port` of this machine; every byte is `round_trip_s` / 2 late in each direction.

    round_trips: the longest chain of words and answers that has reached the client: how often it
    waited. What it sends without waiting for anything counts as sent together.
    """

    def __init__(self, lab: Lab, address: str, *, round_trip_s: float = 0.0) -> None:
        self._target = (address, 22)
        self._place = lab.init
        self.round_trip_s = round_trip_s
        self.round_trips = 0
        self.connections = 0
        self.from_client = 0
        self._cut = False
        self._depth = 0
        self.pairs: list[_Pair] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._wake, self._waker = socket.socketpair()
        self._ended = False
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up everything."""
        self._ended = True
        self._waker.send(b"x")
        self._thread.join(timeout=10)

    def cut(self) -> None:
        """The cable is pulled: nothing arrives any more, on either side, and nobody is told."""
        self._cut = True
        self._waker.send(b"x")

    def mend(self) -> None:
        """The cable is plugged in again; what was sent meanwhile arrives, as TCP sends it again."""
        self._cut = False
        self._waker.send(b"x")

    @property
    def held_bytes(self) -> int:
        """What the client has sent and the box has not got, since the cable was pulled."""
        way = [one for pair in self.pairs for one in pair.on_the_way[pair.ends[pair.near]]]
        return sum(len(data) for _, _, data in way) if self._cut else 0

    def reset_count(self) -> None:
        """Begin to count anew."""
        self.round_trips = self._depth = 0

    # The thread

    def _serve(self) -> None:
        with contextlib.ExitStack() as stack:
            self._selector = stack.enter_context(selectors.DefaultSelector())
            for one in (self._listener, self._wake, self._waker):
                stack.enter_context(one)
            for one in (self._listener, self._wake):
                self._selector.register(one, selectors.EVENT_READ)
            while not self._ended:
                for key, _ in self._selector.select(self._patience()):
                    self._ready(key.fileobj)
                self._deliver()
            for pair in list(self.pairs):
                self._drop(pair)

    def _patience(self) -> float | None:
        if self._cut:
            return None
        due = [way[0][0] for pair in self.pairs for way in pair.on_the_way.values() if way]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _ready(self, one: object) -> None:
        if one is self._listener:
            self._accept()
        elif one is self._wake:
            self._wake.recv(100)
        else:
            assert isinstance(one, socket.socket)
            self._take(one)

    def _accept(self) -> None:
        near, _ = self._listener.accept()
        far = socket_in(self._place)
        far.settimeout(5)
        try:
            far.connect(self._target)
        except OSError:
            near.close()
            far.close()
            return
        self.connections += 1
        pair = _Pair(near, far)
        self.pairs.append(pair)
        for end in pair.ends:
            end.settimeout(5)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._selector.register(end, selectors.EVENT_READ)

    def _take(self, end: socket.socket) -> None:
        pair = next((one for one in self.pairs if end in one.ends), None)
        if pair is None:
            return
        try:
            data = end.recv(1 << 16)
        except OSError:
            data = b""
        if not data:
            self._selector.unregister(end)
        elif end is pair.near:
            self.from_client += len(data)
        depth = self.round_trips + 1 if end is pair.near else self._depth
        due = time.monotonic() + self.round_trip_s / 2
        pair.on_the_way[pair.ends[end]].append((due, depth, data))

    def _deliver(self) -> None:
        for pair in list(self.pairs) * (not self._cut):
            for end, way in pair.on_the_way.items():
                while way and way[0][0] <= time.monotonic():
                    _, depth, data = way.popleft()
                    if not data:
                        self._drop(pair)
                        break
                    if end is pair.near:
                        self.round_trips = max(self.round_trips, depth)
                    else:
                        self._depth = max(self._depth, depth)
                    try:
                        end.sendall(data)
                    except OSError:
                        self._drop(pair)
                        break

    def _drop(self, pair: _Pair) -> None:
        if pair not in self.pairs:
            return
        self.pairs.remove(pair)
        for end in pair.ends:
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(end)
            end.close()
