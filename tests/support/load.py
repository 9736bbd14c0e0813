"""Clients that ask again and again, as real ones do: some on a fresh connection each time, some on
one that they keep; plain and streaming; and they remember whatever goes wrong.
"""

from __future__ import annotations

import http.client
import json
import select
import threading
from collections import Counter
from typing import Self

SAYS = "one two three four five six seven eight nine ten eleven twelve"
"""The stand-in says it back, a word at a time."""


class Load:
    """Clients in threads, until it is left. counts: how often what happened. faults: the first
    words of what should not have. think_s: how long client N thinks now and then, times N."""

    def __init__(
        self, port: int, model: str, *, fresh: int = 2, kept: int = 4, think_s: float = 0.013
    ) -> None:
        self.port, self.model, self._think_s = port, model, think_s
        self.counts: Counter[str] = Counter()
        self.faults: list[str] = []
        self._stop = threading.Event()
        kinds = [False] * fresh + [True] * kept
        self._threads = [
            threading.Thread(target=self._ask_again, args=(number, keeps))
            for number, keeps in enumerate(kinds)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def _ask_again(self, number: int, keeps: bool) -> None:
        connection = self._connection()
        turn = number
        while not self._stop.is_set():
            turn += 1
            if not keeps or was_closed(connection):
                self.counts["reconnected"] += keeps
                connection.close()
                connection = self._connection()
            try:
                self._ask(connection, stream=turn % 2 == 0, keeps=keeps)
                self.counts["answered"] += 1
            except (OSError, http.client.HTTPException, ValueError) as error:
                self.counts["failed"] += 1
                self.faults.append(f"{'kept' if keeps else 'fresh'}: {error!r}"[:300])
                connection.close()
                connection = self._connection()
            self._stop.wait(self._think_s * number if turn % 3 else 0)  # thinks, or asks on at once
        connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def _ask(self, connection: http.client.HTTPConnection, *, stream: bool, keeps: bool) -> None:
        body = {"model": self.model, "stream": stream, "messages": [{"content": SAYS}]}
        headers = {"Content-Type": "application/json"}
        if not keeps:
            headers["Connection"] = "close"
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        answer = connection.getresponse()
        text = answer.read().decode()
        if answer.status != 200:
            raise ValueError(f"{answer.status} {text}")
        if said(text, stream=stream) != SAYS:
            raise ValueError(text[-200:])


def said(text: str, *, stream: bool) -> str:
    """What an answer says; a ValueError when it is not whole."""
    if not stream:
        return str(json.loads(text)["choices"][0]["message"]["content"])
    events = [line[6:] for line in text.splitlines() if line.startswith("data: ")]
    if events[-1:] != ["[DONE]"]:
        raise ValueError(text[-200:])
    deltas = [json.loads(one)["choices"][0]["delta"] for one in events[:-1]]
    return "".join(one.get("content") or "" for one in deltas)


def was_closed(connection: http.client.HTTPConnection) -> bool:
    """Has the server ended a connection that was kept? urllib3, httpx and Go look so, too, before
    they send a request on one."""
    if connection.sock is None:
        return False
    return bool(select.select([connection.sock], [], [], 0)[0])
