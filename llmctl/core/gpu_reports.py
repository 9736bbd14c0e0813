"""What the kernel says of GPUs that hang or fail: lines of its log, and dumps that drivers leave.

Lines are as drivers wrote them in public reports: NVIDIA's `NVRM: Xid` (570 and 580), amdgpu's
`ring ... timeout` (Linux 5.4 to 7.0), i915's `GPU HANG` and xe's `Timedout job`. Times are seconds
of CLOCK_MONOTONIC, which the kernel's log, systemd and Python's time.monotonic() share.
"""

import re
from collections.abc import Iterable

import msgspec

XID, HANG, DUMP = "xid", "hang", "dump"
"""What a report is: an NVIDIA error, a job that the driver gave up, a dump it left in sysfs."""

_RESET = "The GPU needs a reset, or the machine a reboot; look at its power, heat and slot."
_OTHER = "See `journalctl --dmesg`; if it comes back, update driver and llama-server."
_XIDS = {
    8: "it stopped processing",
    13: "a kernel failed in it",
    31: "a kernel used memory that is not its own",
    43: "it stopped processing",
    45: "what ran on it was ended",
    48: "its memory has an error that cannot be corrected",
    62: "its own controller stopped",
    74: "its NVLink has an error",
    79: "it has fallen off the bus",
    94: "its memory has an error",
    95: "its memory has an error that may be anywhere",
    109: "a switch between jobs did not end",
    119: "its own controller does not answer",
    120: "its own controller failed",
    154: "it asks for a reset",
}
"""NVIDIA's list of Xid errors, in short."""
_NEED_RESET = frozenset({62, 79, 95, 119, 120, 154})

_LINE = re.compile(r"\[ *(?P<at>\d+\.\d+)\] \S+ kernel: (?P<text>.*)")
"""journalctl --output=short-monotonic."""
_XID = re.compile(r"NVRM: Xid \(PCI:(?P<device>[0-9a-fA-F:.]+)\): (?P<code>\d+)(?P<rest>.*)")
_XID_PID = re.compile(r"\bpid='?(?P<pid>\d+)")
_XID_NAME = re.compile(r"\bname='?(?P<name>[^',<]+)")
_RING = re.compile(r"\bring (?P<ring>[\w.]+) timeout\b")
_AMD = re.compile(r"\bamdgpu (?P<device>[0-9a-f]{4}:[0-9a-f:.]+):")
_AMD_PROCESS = re.compile(r"\b[Pp]rocess (?P<name>\S+) pid (?P<pid>\d+)")
_INTEL = re.compile(
    r"\b(?P<driver>i915|xe) (?P<device>\S+): .*(?:GPU HANG|Timedout job)(?P<rest>.*)"
)
_INTEL_PROCESS = re.compile(r" in (?P<name>\S+) \[(?P<pid>\d+)\]")


class GpuReport(msgspec.Struct, frozen=True):
    """One report. what: a clause of its own. device: its PCI address, if it is told. pid, process:
    on whose behalf the GPU worked, 0 and empty where that is not known."""

    kind: str
    what: str
    device: str = ""
    at: float = 0.0
    pid: int = 0
    process: str = ""
    hint: str = _OTHER

    def __str__(self) -> str:
        where = f" on {self.device}" if self.device else ""
        whose = f", at work for {self.process or 'pid'} {self.pid}" if self.pid else ""
        return f"{self.what}{where}{whose}"

    def may_concern(self, pid: int) -> bool:
        """Is it about this process, as far as is known?"""
        return self.pid in (0, pid)


def reports_of(lines: Iterable[str]) -> tuple[GpuReport, ...]:
    """The reports in the kernel's log, in order; all other lines are passed over."""
    found: list[GpuReport] = []
    for line in lines:
        match = _LINE.match(line)
        if match is None:
            continue
        at, text = float(match["at"]), match["text"]
        report = _nvidia(text, at) or _amd(text, at) or _intel(text, at)
        if report is not None:
            found.append(report)
        elif found and found[-1].kind == HANG and not found[-1].pid:
            found[-1] = _with_process(found[-1], text)
    return tuple(found)


def dump_report(name: str, driver: str, device: str) -> GpuReport:
    """Of a dump that lies in sysfs under this name. When it came is for who looks to say."""
    return GpuReport(DUMP, f"{driver or 'a driver'} gave up a job and left a dump ({name})", device)


def blamed(reports: Iterable[GpuReport], pid: int, since: float) -> GpuReport | None:
    """The report that explains the end of a process which began at `since`: one that names it, else
    the last one of its time that names nobody."""
    named = [one for one in reports if one.may_concern(pid) and (one.pid or one.at >= since)]
    return max(named, key=lambda one: (one.pid == pid, one.at), default=None)


def _nvidia(text: str, at: float) -> GpuReport | None:
    match = _XID.search(text)
    if match is None:
        return None
    code, rest = int(match["code"]), match["rest"]
    pid, name = _XID_PID.search(rest), _XID_NAME.search(rest)
    said = rest.rpartition(", ")[2].strip(" .") or "see the kernel's log"
    what = f"NVIDIA Xid {code} ({_XIDS.get(code, said)})"
    hint = _RESET if code in _NEED_RESET else _OTHER
    return GpuReport(
        XID, what, match["device"], at, int(pid["pid"]) if pid else 0,
        name["name"].strip() if name else "", hint,
    )  # fmt: skip


def _amd(text: str, at: float) -> GpuReport | None:
    match = _RING.search(text)
    if match is None:
        return None
    device = _AMD.search(text)
    what = f"amdgpu: a job did not end (ring {match['ring']})"
    return GpuReport(HANG, what, device["device"] if device else "", at)


def _intel(text: str, at: float) -> GpuReport | None:
    match = _INTEL.search(text)
    if match is None:
        return None
    report = GpuReport(HANG, f"{match['driver']}: a job did not end", match["device"], at)
    return _named(report, _INTEL_PROCESS.search(match["rest"]))


def _with_process(report: GpuReport, text: str) -> GpuReport:
    """amdgpu names the process in a line of its own, after the first."""
    return _named(report, _AMD_PROCESS.search(text) if "amdgpu" in text else None)


def _named(report: GpuReport, process: "re.Match[str] | None") -> GpuReport:
    if process is None:
        return report
    return msgspec.structs.replace(report, pid=int(process["pid"]), process=process["name"])
