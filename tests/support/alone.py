"""A Keeper's part for boxes on which no model has replicas, and no group is a pool."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmctl.core.eviction import Ledger


class Alone:
    """Nobody may ask it for one."""

    def start_replica(self, name: str, number: int, *, timeout: float) -> int:
        raise AssertionError((name, number, timeout))

    def stop_replica(self, name: str, number: int) -> None:
        raise AssertionError((name, number))

    def ledger(self, name: str) -> Ledger:
        raise AssertionError(name)

    def unload(self, names: tuple[str, ...]) -> None:
        raise AssertionError(names)
