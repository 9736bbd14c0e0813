"""The kernel's reports of GPUs, read where that needs no root: its log in the journal, and sysfs.

The journal shows the kernel's log to members of `adm` or `systemd-journal`; for others there is
none, which is no error. A driver's dump itself is root's, but that there is one is everybody's to
see, for the five minutes that the kernel keeps it (drivers/base/devcoredump.c).
"""

from collections.abc import Iterator

from llmctl.core.causes import Cause
from llmctl.core.gpu_reports import GpuReport, blamed, dump_report, reports_of
from llmctl.core.state import UnitStatus
from llmctl.engine.box import Box
from llmctl.errors import HostError
from llmctl.host.base import Host

DUMPS = "/sys/class/devcoredump"


def kernel_reports(box: Box) -> tuple[GpuReport, ...]:
    """Those of this boot that the end of its log has; none where nobody may read it."""
    try:
        return reports_of(box.systemd.kernel_log())
    except HostError:
        return ()


def dumps(host: Host) -> tuple[GpuReport, ...]:
    """Of the dumps that GPUs' drivers have left: other devices leave some, too."""
    return tuple(_dumps(host))


def _dumps(host: Host) -> Iterator[GpuReport]:
    try:
        for entry in host.list(DUMPS):
            device = f"{DUMPS}/{entry.name}/failing_device"
            if entry.is_dir and host.stat(f"{device}/drm") is not None:
                facts = _facts(host, f"{device}/uevent")
                driver, slot = facts.get("DRIVER", ""), facts.get("PCI_SLOT_NAME", "")
                yield dump_report(entry.name, driver, slot)
    except HostError:  # it went away meanwhile
        return


def _facts(host: Host, path: str) -> dict[str, str]:
    try:
        lines = host.read(path).decode(errors="replace").splitlines()
    except FileNotFoundError:
        return {}
    return {key: value for key, _, value in (line.partition("=") for line in lines)}


def blame(box: Box, status: UnitStatus) -> GpuReport | None:
    """The report that explains why the last run of a unit ended, or hangs."""
    pid = status.pid or status.last_pid
    reports = [one for one in kernel_reports(box) if one.may_concern(pid)]
    if not reports:
        return None
    try:
        since = box.systemd.began_at(status.unit)
    except HostError:
        since = float("inf")
    return blamed(reports, pid, since)


def gpu_cause(box: Box, status: UnitStatus) -> Cause | None:
    """The same as a cause."""
    report = blame(box, status)
    if report is None:
        return None
    return Cause(f"the kernel reports of its GPU: {report}", report.hint)
