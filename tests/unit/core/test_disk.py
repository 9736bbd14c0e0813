"""core/disk.py: what df prints, and what is scarce."""

from __future__ import annotations

import pytest

from llmctl.core.disk import Room, parse_df, room_findings
from llmctl.core.finding import Grade

HEAD = "Filesystem 1024-blocks Used Available Capacity Mounted on\n"
GIB = 1 << 30


@pytest.mark.parametrize(
    ("line", "room"),
    [
        ("/dev/sda1 1048576 1024 524288 1% /", Room("/", GIB, GIB // 2)),
        ("my nas:/a b 1048576 1024 524288 1% /mnt/a b", Room("/mnt/a b", GIB, GIB // 2)),
        ("proc 0 0 0 - /proc", None),
        ("none 0 0 0 0% /x", None),
        ("df: something", None),
    ],
)
def test_a_line_of_df(line: str, room: Room | None) -> None:
    assert parse_df(HEAD + line + "\n") == (room,)


def test_no_output_is_no_room() -> None:
    assert parse_df("") == ()


@pytest.mark.parametrize(
    ("free", "total", "grades"),
    [
        (GIB, 10 * GIB, []),
        (GIB, 100 * GIB, [Grade.ADVICE]),
        (63 << 20, GIB, [Grade.WRONG]),
        (0, 1000 * GIB, [Grade.WRONG]),
    ],
)
def test_what_is_scarce(free: int, total: int, grades: list[Grade]) -> None:
    found = room_findings({"/a": "caches"}, [Room("/", total, free)])
    assert [one.grade for one in found] == grades


def test_one_disk_is_told_once_with_all_that_it_holds() -> None:
    room = Room("/home", GIB, 0)
    places = {"/home/a": "caches", "/home/b": "models", "/c": "your home"}
    (found,) = room_findings(places, [room, room, None])
    assert "caches, models:" in found.why
