"""The end of profiles that are to make room, or had nothing to do for long."""

from collections.abc import Sequence

from llmctl.core.progress import Report
from llmctl.core.words import unit_name
from llmctl.engine.box import Box
from llmctl.engine.clock import Clock
from llmctl.engine.off import off
from llmctl.engine.replica_units import running_replicas

STOP_TIMEOUT_S = 600.0


def unload(box: Box, names: Sequence[str], *, clock: Clock, report: Report) -> None:
    """Stop profiles, with all their instances, and wait until all are gone: their memory is free
    then. HostError: they are not."""
    units = [unit for name in names for unit in (unit_name(name), *running_replicas(box, name))]
    off(box, units, clock=clock, report=report, timeout=STOP_TIMEOUT_S)
