"""Requests to a model's own server that take their time: generations, timed as a client sees them.

health.py asks how a server is, within two seconds; here an answer may take minutes, may be asked
for several times at once, and ends at once when the work is given up.
"""

import contextlib
import threading

import msgspec

from llmctl.core.http_body import split_answer
from llmctl.engine.clock import Clock
from llmctl.errors import HostError
from llmctl.host.base import Host

SILENCE_S = 120.0
"""Without a byte for so long a server hangs: its units are rendered with a ping each 5 s."""
_CONNECT_S = 5.0
_LOOK_S = 0.2
"""How soon a request sees that the work was given up."""
_EVENT = b"data: {"


class Answer(msgspec.Struct, frozen=True):
    """Status and body; seconds until the first event of a stream, and until the end."""

    status: int
    body: bytes
    first_s: float
    whole_s: float


class GivenUpError(Exception):
    """The work was given up while a request was under way."""


class Asker:
    """One server. It may be asked from several threads; `give_up` ends all requests.

    key: its API key, where it wants one. patience: seconds without a byte until it hangs.
    """

    def __init__(
        self, host: Host, port: int, clock: Clock, *,
        key: str | None = None, patience: float = SILENCE_S,
    ) -> None:  # fmt: skip
        self._host, self._port, self._clock, self._key = host, port, clock, key
        self._patience = patience
        self._given_up = threading.Event()

    def give_up(self) -> None:
        """End what is under way; the server sees its clients go."""
        self._given_up.set()

    def post(self, path: str, body: object) -> Answer:
        """HostError: it does not answer (any more). GivenUpError: `give_up` was called."""
        data = msgspec.json.encode(body)
        secret = f"Authorization: Bearer {self._key}\r\n" if self._key else ""
        head = (
            f"POST {path} HTTP/1.0\r\nHost: 127.0.0.1:{self._port}\r\n{secret}"
            f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
        )
        began = self._clock.now()
        try:
            raw, first = self._exchange(head.encode() + data)
        except OSError as error:
            why = error.strerror or str(error) or type(error).__name__
            raise HostError(f"The server on port {self._port} does not answer: {why}.") from None
        ended = self._clock.now()
        status, answered = split_answer(raw)
        if status is None:
            raise HostError(f"The server on port {self._port} went away without an answer.")
        return Answer(status, answered, (first or ended) - began, ended - began)

    def _exchange(self, request: bytes) -> tuple[bytes, float | None]:
        """All that comes back, and when its first event did."""
        with contextlib.closing(self._host.dial(self._port, timeout=_CONNECT_S)) as connection:
            connection.settimeout(_CONNECT_S)
            connection.sendall(request)
            connection.settimeout(_LOOK_S)
            raw, first, silent = bytearray(), None, 0.0
            while not self._given_up.is_set():
                try:
                    piece = connection.recv(65536)
                except TimeoutError:
                    silent += _LOOK_S
                    if silent > self._patience:
                        raise
                    continue
                if not piece:
                    return bytes(raw), first
                raw, silent = raw + piece, 0.0
                if first is None and _EVENT in raw:
                    first = self._clock.now()
            raise GivenUpError
