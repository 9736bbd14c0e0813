"""A box's clock: how far it is off, and whether anybody sets it."""

from collections.abc import Iterator

from llmctl.core.finding import Finding, advice

MOST_SKEW_S = 30.0
EARLIEST = 1_767_225_600
"""2026-01-01: before that no llmctl was there. A clock that says so has lost its battery."""
_WHY = "Downloads over TLS and the tailnet's keys fail, and times in logs mislead."
_SET = "sudo timedatectl set-ntp true"
SYNC_ARGV = ("timedatectl", "show", "--property=NTPSynchronized", "--value")


def clock_findings(told: str, *, ours: float | None, synced: str) -> Iterator[Finding]:
    """told: seconds since 1970, as `date +%s` printed them. ours: the same of the machine one types
    at, None if that is the box itself. synced: what SYNC_ARGV printed; empty where it is not known.
    """
    if not told.strip().isdigit():
        return
    now = int(told)
    if now < EARLIEST:
        yield Finding("its clock is years behind", _WHY, _SET)
        return
    off = 0.0 if ours is None else now - ours
    if abs(off) > MOST_SKEW_S:
        way = "ahead of" if off > 0 else "behind"
        yield Finding(f"its clock is {abs(off):.0f} s {way} this machine's", _WHY, _SET)
    elif synced.strip() == "no":
        yield advice("nobody sets its clock: it is not synchronized", why=_WHY, do=_SET)
