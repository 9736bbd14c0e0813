"""A Keeper's part for boxes without replicas and pools, and on which no GPU fails."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmctl.core.eviction import Ledger
    from llmctl.core.gpu_reports import GpuReport


class Alone:
    """Nobody may ask it for one, and nothing is to be unloaded."""

    def gpu_reports(self) -> tuple[GpuReport, ...]:
        return ()

    def start_replica(self, name: str, number: int, *, timeout: float) -> int:
        raise AssertionError((name, number, timeout))

    def stop_replica(self, name: str, number: int) -> None:
        raise AssertionError((name, number))

    def ledger(self, name: str) -> Ledger:
        raise AssertionError(name)

    def unload(self, names: tuple[str, ...]) -> None:
        raise AssertionError(names)
