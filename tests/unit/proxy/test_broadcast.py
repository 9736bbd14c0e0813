"""events.py: who watches, and who is dropped."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from llmctl.proxy.broadcast import MOST_WATCHERS, Events

if TYPE_CHECKING:
    from llmctl.proxy.dialect import Trouble


@dataclass
class Ending:
    broken: bool = False


@dataclass(eq=False)
class Watcher:
    is_full: bool = False
    answer: Ending = field(default_factory=Ending)
    got: list[bytes] = field(default_factory=list)
    refused: list[Trouble] = field(default_factory=list)
    is_gone: bool = False

    def progress(self, event: bytes) -> None:
        self.got.append(event)

    def refuse(self, trouble: Trouble) -> None:
        self.refused.append(trouble)

    def client_gone(self) -> None:
        self.is_gone = True


def test_every_watcher_gets_every_event() -> None:
    events, watchers = Events(), [Watcher(), Watcher()]
    for one in watchers:
        assert events.add(one) is None
    events.tell("model", {"model": "a", "state": "ready"})
    assert [one.got for one in watchers] == [
        [b'event: model\ndata: {"model":"a","state":"ready"}\n\n']
    ] * 2


def test_one_that_reads_too_slowly_is_dropped_and_the_others_go_on() -> None:
    events, slow, good = Events(), Watcher(), Watcher()
    events.add(slow)
    events.add(good)
    slow.is_full = True
    for _ in range(3):
        events.tell("model", {})
    assert (slow.got, slow.is_gone, slow.answer.broken) == ([], True, True)
    assert (len(good.got), len(events)) == (3, 1)


def test_there_is_room_for_so_many() -> None:
    events = Events()
    assert [events.add(Watcher()) for _ in range(MOST_WATCHERS)] == [None] * MOST_WATCHERS
    trouble = events.add(Watcher())
    assert trouble is not None
    assert (trouble.status, trouble.kind, len(events)) == (503, "too_many_watchers", MOST_WATCHERS)


def test_one_that_has_left_gets_nothing_more() -> None:
    events, one = Events(), Watcher()
    events.add(one)
    events.remove(one)
    events.remove(one)
    events.tell("model", {})
    assert one.got == []


def test_the_end_is_told_and_nobody_joins_after_it() -> None:
    events, one = Events(), Watcher()
    events.add(one)
    events.close()
    assert [trouble.kind for trouble in one.refused] == ["proxy_stopped"]
    assert events.add(Watcher()) is not None
