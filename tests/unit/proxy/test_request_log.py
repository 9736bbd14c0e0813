"""request_log.py: lines on a disk that rotates, fills up, and comes back."""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING

from llmctl.proxy.request_log import MOST_WAITING, RequestLog

if TYPE_CHECKING:
    from pathlib import Path

LINE = b'{"n":"0123456789"}'


def log(directory: Path, said: list[str] | None = None, **more: int) -> RequestLog:
    say = (said if said is not None else []).append
    return RequestLog(str(directory / "state/requests.jsonl"), say=say, **more)


def lines(directory: Path, number: int = 0) -> list[bytes]:
    path = directory / f"state/requests.jsonl{f'.{number}' if number else ''}"
    return path.read_bytes().splitlines() if path.exists() else []


def test_lines_are_written_when_it_is_flushed(tmp_path: Path) -> None:
    one = log(tmp_path)
    one.add(b"1")
    assert (one.has_lines, lines(tmp_path)) == (True, [])
    one.flush()
    one.add(b"2")
    one.flush()
    assert (one.has_lines, lines(tmp_path)) == (False, [b"1", b"2"])


def test_it_is_for_its_owner_alone(tmp_path: Path) -> None:
    one = log(tmp_path)
    one.add(b"1")
    one.flush()
    assert (tmp_path / "state/requests.jsonl").stat().st_mode & 0o777 == 0o600


def test_nothing_is_written_when_there_is_nothing(tmp_path: Path) -> None:
    log(tmp_path).flush()
    assert list(tmp_path.iterdir()) == []


def test_it_is_kept_in_three_files_of_bounded_size(tmp_path: Path) -> None:
    one = log(tmp_path, most_bytes=100)
    for number in range(60):
        one.add(b'{"n":%d}' % number)
        one.flush()
    kept = [line for number in (2, 1, 0) for line in lines(tmp_path, number)]
    newest = [b'{"n":%d}' % number for number in range(60)][-len(kept) :]
    assert kept == newest
    sizes = [path.stat().st_size for path in (tmp_path / "state").iterdir()]
    assert len(sizes) == 3
    assert all(size <= 100 for size in sizes)


def test_it_goes_on_where_an_earlier_run_ended(tmp_path: Path) -> None:
    for number in range(2):
        one = log(tmp_path)
        one.add(b"%d" % number)
        one.flush()
    assert lines(tmp_path) == [b"0", b"1"]


def full_after(size: int) -> None:
    """No file of this process may grow beyond that: a full disk, as write(2) shows it."""
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))


def test_a_full_disk_costs_lines_and_is_complained_about_once(tmp_path: Path) -> None:
    said: list[str] = []
    one = log(tmp_path, said)
    one.add(LINE)
    one.flush()
    try:
        full_after(len(LINE) + 10)  # the next line goes in partly
        for _ in range(3):
            one.add(LINE)
            one.flush()
    finally:
        full_after(resource.RLIM_INFINITY)
    assert lines(tmp_path) == [LINE]  # and none of it is torn
    assert (one.dropped, len(said)) == (3, 1)
    assert "cannot be written: File too large" in said[0]
    one.add(LINE)
    one.flush()
    assert lines(tmp_path) == [LINE, LINE]
    assert said[1:] == [f"{tmp_path}/state/requests.jsonl can be written again; 3 lines were lost."]


def test_a_place_that_cannot_be_written_is_no_trouble(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    said: list[str] = []
    one = log(tmp_path, said)
    for _ in range(2):
        one.add(LINE)
        one.flush()
    assert (one.dropped, len(said)) == (2, 1)


def test_a_disk_that_hangs_costs_a_bounded_amount_of_memory(tmp_path: Path) -> None:
    one = log(tmp_path)
    for _ in range(-(-MOST_WAITING // (len(LINE) + 1)) + 5):
        one.add(LINE)
    assert one.dropped == 5


def test_a_file_that_was_removed_is_made_again(tmp_path: Path) -> None:
    one = log(tmp_path)
    one.add(b"1")
    one.flush()
    (tmp_path / "state/requests.jsonl").unlink()
    one.add(b"2")
    one.flush()
    assert lines(tmp_path) == [b"2"]
