"""engine/proxy_logs.py: the proxy's logs, read from their end."""

from __future__ import annotations

import json

import pytest
from support.fakes import HOME, Output
from support.world import World

from llmctl.engine.proxy_logs import follow_entries, last_entries

PATH = f"{HOME}/.local/state/llmctl/requests.jsonl"


def lines(numbers: range, *, pad: int = 0) -> str:
    return "".join(json.dumps({"n": n, "pad": "x" * pad}) + "\n" for n in numbers)


def world(**files: str) -> World:
    made = World()
    for suffix, text in files.items():
        made.host.put(PATH + suffix.replace("_", ".").removeprefix("newest"), text)
    return made


def numbers(made: World, count: int) -> list[int]:
    return [one["n"] for one in last_entries(made.box, made.box.store.request_log, lines=count)]


@pytest.mark.parametrize("pad", [0, 5000])
def test_the_last_of_the_newest_file_come_in_order(pad: int) -> None:
    assert numbers(world(newest=lines(range(500), pad=pad)), 3) == [497, 498, 499]


def test_older_files_fill_up() -> None:
    made = world(newest=lines(range(8, 10)), _1=lines(range(4, 8)), _2=lines(range(4)))
    assert numbers(made, 3) == [7, 8, 9]
    assert numbers(made, 7) == [3, 4, 5, 6, 7, 8, 9]
    assert numbers(made, 99) == list(range(10))


def test_none_are_none() -> None:
    assert (numbers(World(), 5), numbers(world(newest=lines(range(3))), 0)) == ([], [])


@pytest.mark.parametrize("torn", ['{"n": 1', "\x00\x00", "[1]", ""])
def test_what_is_no_entry_is_left_out(torn: str) -> None:
    assert numbers(world(newest=f"{torn}\n{lines(range(2))}{torn}"), 5) == [0, 1]


def test_those_to_come_are_followed_by_name() -> None:
    made = World()
    made.host.install("/usr/bin/sh", lambda _: Output(stdout=f"{lines(range(2))}torn\n"))
    assert [one["n"] for one in follow_entries(made.box, PATH, lines=7)] == [0, 1]
    (argv,) = made.host.called("sh")
    assert {"--lines=7", PATH} <= set(argv)


@pytest.mark.parametrize(("count", "older"), [(2, []), (4, [6, 7]), (7, [3, 4, 5, 6, 7])])
def test_who_follows_sees_the_older_files_first(count: int, older: list[int]) -> None:
    made = world(newest=lines(range(8, 10)), _1=lines(range(4, 8)), _2=lines(range(4)))
    made.host.install("/usr/bin/sh", lambda _: Output(stdout=lines(range(8, 11))))
    told = [one["n"] for one in follow_entries(made.box, PATH, lines=count)]
    assert told == [*older, 8, 9, 10]
