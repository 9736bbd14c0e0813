"""The proxy's logs, of requests and of its guard, read: the last entries, and those to come."""

from collections.abc import Iterator
from typing import Any

import msgspec

from llmctl.engine.box import Box
from llmctl.errors import HostError

OLDEST = 2
"""requests.jsonl.2: see proxy/request_log.py."""
_PIECE = 256 << 10


def last_entries(box: Box, log: str, *, lines: int) -> list[dict[str, Any]]:
    """The last entries, oldest first; from the older files too, where the newest has too few.

    log: its path, that of the newest file.
    """
    newest = _tail(box, log, lines)
    return _older(box, log, lines - len(newest)) + newest


def _older(box: Box, log: str, lines: int) -> list[dict[str, Any]]:
    """The last entries of the older files."""
    found: list[dict[str, Any]] = []
    for number in range(1, OLDEST + 1):
        if len(found) >= lines:
            break
        found = _tail(box, f"{log}.{number}", lines - len(found)) + found
    return found


def _tail(box: Box, path: str, lines: int) -> list[dict[str, Any]]:
    """The last entries of one file, read from its end."""
    entry = box.host.stat(path)
    start = entry.size_bytes if entry else 0
    data, found = b"", list[dict[str, Any]]()
    while start > 0 and data.count(b"\n") <= lines:
        began, start = start, max(0, start - _PIECE)
        try:
            data = box.host.read(path, start=start, length=began - start) + data
        except (FileNotFoundError, HostError):
            return []
    for line in reversed(data.splitlines()):
        if len(found) >= lines:
            break
        if (one := parsed(line)) is not None:
            found.append(one)
    return found[::-1]


def parsed(line: bytes | str) -> dict[str, Any] | None:
    """A line of the log; None: it is none, as the first may be where reading began."""
    try:
        one = msgspec.json.decode(line)
    except msgspec.DecodeError:
        return None
    return one if isinstance(one, dict) else None


def follow_entries(box: Box, log: str, *, lines: int) -> Iterator[dict[str, Any]]:
    """The last entries, from the older files too, and those to come; a file that is moved away is
    left for its successor, of which tail would tell on the screen, as of one that is not there
    yet."""
    yield from _older(box, log, lines - len(_tail(box, log, lines)))
    argv = ("sh", "-c", 'exec tail --follow=name --retry --quiet "$@" 2>/dev/null', "tail",
            f"--lines={lines}", "--", log)  # fmt: skip
    for line in box.host.lines(argv):
        if (one := parsed(line)) is not None:
            yield one
