"""Room on the disks of a box: df(1) read, and what is wrong with it."""

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from llmctl.core.finding import Finding, Grade

LEAST_BYTES = 64 << 20
"""Below that, units, logs and what llmctl notes down cannot be relied upon to be written."""
SCARCE_SHARE = 0.03
"""Below that share of a disk advice is given: a download of a model would fill it."""
DF_ARGV = ("df", "-P", "-k", "--")
"""POSIX: kilobytes, one line per argument, in their order."""


class Room(msgspec.Struct, frozen=True):
    """One file system: where it is mounted, its size and what an ordinary user may still use."""

    mount: str
    total_bytes: int
    free_bytes: int


def parse_df(text: str) -> tuple[Room | None, ...]:
    """What `df -P -k` printed, in the order of its arguments; None for a line that says nothing
    (`-` for a file system without blocks)."""
    return tuple(_room(line) for line in text.splitlines()[1:])


def _room(line: str) -> Room | None:
    # FILESYSTEM TOTAL USED FREE SHARE% MOUNT; the first and the last may hold spaces.
    head, percent, mount = line.partition("% ")
    words = head.split()
    if not percent or len(words) < 5 or not all(one.isdigit() for one in words[-4:-1]):
        return None
    total, _, free = (int(one) << 10 for one in words[-4:-1])
    return Room(mount.strip(), total, free) if total else None


def room_findings(places: Mapping[str, str], rooms: Sequence[Room | None]) -> Iterator[Finding]:
    """places: paths with what llmctl has there, in the order that `rooms` were asked for."""
    uses: dict[Room, list[str]] = {}
    for what, room in zip(places.values(), rooms, strict=False):
        if room is not None:
            uses.setdefault(room, []).append(what)
    for room, all_of in uses.items():
        held = ", ".join(dict.fromkeys(all_of))
        left = f"{room.mount} has {_size(room.free_bytes)} left of {_size(room.total_bytes)}"
        do = f"du -xh --max-depth=2 {room.mount} | sort -h | tail"
        if room.free_bytes < LEAST_BYTES:
            why = f"It holds {held}: what cannot be written is lost, and switches fail."
            yield Finding(left, why, do)
        elif room.free_bytes < SCARCE_SHARE * room.total_bytes:
            yield Finding(left, f"It holds {held}: the next model may fill it.", do, Grade.ADVICE)


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"
