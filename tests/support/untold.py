"""A Told's part for scenes in which nothing of the kind happens."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmctl.core.gpu_reports import GpuReport
    from llmctl.proxy.dialect import Trouble


class Untold:
    """Nobody may tell it anything but what a test's own class hears."""

    def switching(self, model: str) -> None:
        raise AssertionError(model)

    def switched(self, model: str, seconds: float, *, why: str | None = None) -> None:
        raise AssertionError((model, seconds, why))

    def restarting(self, model: str, trouble: Trouble) -> None:
        raise AssertionError((model, trouble))

    def given_up(self, model: str, trouble: Trouble) -> None:
        raise AssertionError((model, trouble))

    def gpu(self, report: GpuReport, model: str | None) -> None:
        raise AssertionError((report, model))

    def instance(
        self, model: str, number: int, state: str, *, seconds: float = 0.0, why: str | None = None
    ) -> None:
        raise AssertionError((model, number, state, seconds, why))

    def unloading(
        self, model: str, state: str, *, why: str, room_for: str | None = None,
        idle_s: float = 0.0, total_s: float = 0.0,
    ) -> None:  # fmt: skip
        raise AssertionError((model, state, why, room_for, idle_s, total_s))
