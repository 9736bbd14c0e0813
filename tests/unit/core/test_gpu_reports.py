"""core/gpu_reports.py: lines that kernels wrote, as people have quoted them in public reports."""

from __future__ import annotations

import pytest

from llmctl.core.gpu_reports import DUMP, HANG, XID, GpuReport, blamed, dump_report, reports_of

UNKNOWN = "pid='<unknown>', name=<unknown>"
RESET = "The GPU needs a reset"


def one(*texts: str) -> GpuReport:
    (found,) = reports_of([f"[12345.678901] box kernel: {text}" for text in texts])
    return found


@pytest.mark.parametrize(
    ("line", "told", "pid"),
    [
        ("NVRM: Xid (PCI:0000:18:00): 79, pid=1234, GPU has fallen off the bus.",
         "NVIDIA Xid 79 (it has fallen off the bus) on 0000:18:00, at work for pid 1234", 1234),
        (f"NVRM: Xid (PCI:0000:cb:00): 13, {UNKNOWN}, Graphics SM Warp Exception on (GPC 7)",
         "NVIDIA Xid 13 (a kernel failed in it) on 0000:cb:00", 0),
        ("NVRM: Xid (PCI:0000:cb:00): 109, pid=1797828, name=pt_main_thread, Ch 00000008, "
         "errorString CTX SWITCH TIMEOUT, Info 0x58005",
         "NVIDIA Xid 109 (a switch between jobs did not end) on 0000:cb:00, at work for "
         "pt_main_thread 1797828", 1797828),
        ("NVRM: Xid (PCI:0000:03:00): 31, pid='1234', name='python3', Ch 00000008",
         "NVIDIA Xid 31 (a kernel used memory that is not its own) on 0000:03:00, at work for "
         "python3 1234", 1234),
        ("NVRM: Xid (PCI:0000:00:05): 43, pid=1045242, name=llama-server, Ch 00000008",
         "NVIDIA Xid 43 (it stopped processing) on 0000:00:05, at work for llama-server 1045242",
         1045242),
        (f"NVRM: Xid (PCI:0000:10:00.0): 999, {UNKNOWN}, Something new happened.",
         "NVIDIA Xid 999 (Something new happened) on 0000:10:00.0", 0),
        ("NVRM: Xid (PCI:0000:10:00.0): 999",
         "NVIDIA Xid 999 (see the kernel's log) on 0000:10:00.0", 0),
    ],
)  # fmt: skip
def test_an_xid_is_named(line: str, told: str, pid: int) -> None:
    report = one(line)
    assert (report.kind, str(report), report.pid, report.at) == (XID, told, pid, 12345.678901)


@pytest.mark.parametrize(("code", "hint"), [(79, RESET), (62, RESET), (119, RESET), (31, "See")])
def test_what_to_do_hangs_on_the_code(code: int, hint: str) -> None:
    assert one(f"NVRM: Xid (PCI:0000:01:00): {code}, {UNKNOWN}, x").hint.startswith(hint)


@pytest.mark.parametrize(
    "lines",
    [
        ("amdgpu 0000:c2:00.0: ring comp_1.1.0 timeout, signaled seq=37013797, emitted seq=1",
         "amdgpu 0000:c2:00.0:  Process llama-server pid 60951 thread llama-server pid 60951"),
        ("amdgpu 0000:c2:00.0: amdgpu: ring comp_1.1.0 timeout, signaled seq=7, emitted seq=9",
         "amdgpu 0000:c2:00.0: amdgpu: Process information: process llama-server pid 60951 thread "
         "llama-server pid 60951"),
    ],
)  # fmt: skip
def test_amdgpu_tells_whose_job_it_was_in_the_next_line(lines: tuple[str, ...]) -> None:
    report = one("amdgpu 0000:c2:00.0: Dumping IP State", *lines, "amdgpu 0000:c2:00.0: x")
    assert report.kind == HANG
    assert str(report) == (
        "amdgpu: a job did not end (ring comp_1.1.0) on 0000:c2:00.0, at work for llama-server "
        "60951"
    )


def test_an_older_amdgpu_tells_less() -> None:
    report = one("[drm:amdgpu_job_timedout [amdgpu]] *ERROR* ring gfx timeout, signaled seq=1")
    assert str(report) == "amdgpu: a job did not end (ring gfx)"


@pytest.mark.parametrize(
    "line",
    [
        "i915 0000:03:00.0: [drm] GPU HANG: ecode 12:1:85dffffb, in llama-server [4242]",
        "xe 0000:03:00.0: [drm] GT0: Timedout job: seqno=9, lrc_seqno=9, guc_id=2, flags=0x0 in "
        "llama-server [4242]",
    ],
)
def test_intels_drivers(line: str) -> None:
    report = one(line)
    driver = line.split()[0]
    assert str(report) == (
        f"{driver}: a job did not end on 0000:03:00.0, at work for llama-server 4242"
    )


def test_nothing_else_is_a_report() -> None:
    lines = [
        "NVRM: loading NVIDIA UNIX x86_64 Kernel Module  560.35.03",
        "amdgpu 0000:c2:00.0: [drm] device wedged, but recovered through reset",
        "Out of memory: Killed process 77 (llama-server)",
        "amdgpu 0000:c2:00.0:  Process llama-server pid 60951 thread llama-server pid 60951",
    ]
    assert reports_of([f"[    1.000001] box kernel: {text}" for text in lines]) == ()
    assert reports_of(["NVRM: Xid (PCI:0000:01:00): 79", "-- No entries --", ""]) == ()


def at(seconds: float, pid: int = 0) -> GpuReport:
    return GpuReport(XID, "x", at=seconds, pid=pid)


@pytest.mark.parametrize(
    ("reports", "found"),
    [
        ([], None),
        ([at(5)], None),  # before the process began, and of nobody
        ([at(15)], 15),
        ([at(15), at(20)], 20),
        ([at(15, pid=7), at(20)], 15),  # it names the process
        ([at(15, pid=8)], None),  # it names another
    ],
)
def test_who_is_blamed(reports: list[GpuReport], found: float | None) -> None:
    report = blamed(reports, 7, 10.0)
    assert (report and report.at) == found


def test_a_dump() -> None:
    report = dump_report("devcd3", "amdgpu", "0000:03:00.0")
    assert report.kind == DUMP
    assert str(report) == "amdgpu gave up a job and left a dump (devcd3) on 0000:03:00.0"
