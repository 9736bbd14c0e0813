"""A Keeper's part for boxes on which no model has replicas."""

from __future__ import annotations


class Alone:
    """Nobody may ask it for one."""

    def start_replica(self, name: str, number: int, *, timeout: float) -> int:
        raise AssertionError((name, number, timeout))

    def stop_replica(self, name: str, number: int) -> None:
        raise AssertionError((name, number))
