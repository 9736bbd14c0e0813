"""Tries points on the real machine: each is a switch of the profile, measured when it is ready.

The profile's file is not touched. At the end, and whatever ends it early, what ran before runs
again, unless somebody has decided otherwise meanwhile (engine/tune_end.py).
"""

from collections.abc import Iterator, Sequence

import msgspec

from llmctl.core.bench import Record
from llmctl.core.progress import Note, Report
from llmctl.core.tuning import Point
from llmctl.core.unit import Owner, read_header
from llmctl.core.words import unit_name
from llmctl.engine.bench import Bench, Wish
from llmctl.engine.bench_target import others
from llmctl.engine.box import Box
from llmctl.engine.clock import Clock
from llmctl.engine.switch import TIMEOUT_S, Options, Switch
from llmctl.engine.tune_end import Before
from llmctl.engine.tune_points import trial_box
from llmctl.errors import (
    DisplacedError,
    HostError,
    NothingRunsError,
    ProfileError,
    TakenDownError,
    UsageError,
)


class Tried(msgspec.Struct, frozen=True):
    """A point, and what was measured of it; else why it was not, in a sentence."""

    point: Point
    record: Record | None = None
    failure: str | None = None


class Tune:
    """One sweep. `run` yields what was tried; `end` must be called however that ends.

    UsageError: the box is in use. ProfileError: the unit was edited by hand, so that no flag of
    ours would reach it.
    """

    def __init__(
        self, box: Box, name: str, points: Sequence[Point], wish: Wish, *, clock: Clock,
        report: Report, timeout: float = TIMEOUT_S,
    ) -> None:  # fmt: skip
        self._host, self._name, self._points, self._wish = box.host, name, points, wish
        self._clock, self._report, self._timeout = clock, report, timeout
        self._before: Before | None = None
        self._check(box)

    def _check(self, box: Box) -> None:
        unit = unit_name(self._name)
        if read_header(box.store.unit_text(unit)).owner is Owner.EDITED:
            raise ProfileError(
                f"{box.store.unit_path(unit)} was edited by hand, so no other flags would reach"
                f" {self._name}.",
                hint=f"`llmctl apply --overwrite {self._name}` renders it anew.",
            )
        profile = box.store.profile(self._name)
        found = None if self._wish.force else others(box, box.port(profile), box.api_key(profile))
        if found:
            raise UsageError(
                f"A sweep would cut off others: {found}.",
                hint="Wait until they have ended (`llmctl status`), or say --force.",
            )

    def run(self) -> Iterator[Tried]:
        """Each point that fits. SwitchError: somebody switched to another model, or stopped it."""
        for point in self._points:
            if point.why_not is None:
                yield self._tried(point)

    def _tried(self, point: Point) -> Tried:
        box = trial_box(self._host, point.profile)
        options = Options(timeout=self._timeout, rollback=False)
        work = Switch(
            box, self._name, options=options, clock=self._clock, report=self._report
        )  # fmt: skip
        if self._before is None:
            self._before = Before(work)
        self._before.is_ready = False
        try:
            work.run()
        except (DisplacedError, TakenDownError):
            raise
        except NothingRunsError as error:
            self._report(Note(f"{point.label}: {error.message}"))
            return Tried(point, failure=error.message)
        self._before.is_ready = True
        return self._measured(box, point)

    def _measured(self, box: Box, point: Point) -> Tried:
        """HostError: the server went away, and not by itself."""
        bench = Bench(box, self._name, self._wish, clock=self._clock, report=self._report)
        try:
            records = list(bench.run())
        except HostError as error:
            if not box.systemd.status([unit_name(self._name)])[0].has_failed:
                raise
            return Tried(point, failure=error.message)
        return Tried(point, records[-1])

    def end(self) -> str | None:
        """Have what ran before run again. What runs now, in a sentence; None: nothing was changed.

        SwitchError: it did not come back.
        """
        if self._before is None:
            return None
        return self._before.restore(self._host, clock=self._clock, report=self._report)
