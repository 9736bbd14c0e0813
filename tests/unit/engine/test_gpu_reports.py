"""engine/gpu_reports.py: what the kernel tells of a GPU, in a failure and in `llmctl status`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.fakes import FakeHost, Output
from support.world import Run, World

from llmctl.core.state import Health, UnitStatus
from llmctl.core.verdict import Crashed, Stalled
from llmctl.engine.evidence import evidence
from llmctl.engine.failure import Failure, failure
from llmctl.engine.gpu_reports import DUMPS, dumps, kernel_reports
from llmctl.engine.status import overview
from llmctl.errors import HostError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmctl.core.verdict import Outcome

A = "llm-a.service"
STATUS = UnitStatus(A, active="failed", result="core-dump", exit_code=3, exit_status=6, last_pid=77)
ABORTED = "ggml-cuda.cu:99: CUDA error: unspecified launch failure"
XID = "NVRM: Xid (PCI:0000:01:00): 8, pid={}, name=llama-server, Channel 0x00000007"
NAMED = "the kernel reports of its GPU: NVIDIA Xid 8 (it stopped processing) on 0000:01:00"


class Kernel:
    """A world whose kernel says something. began: when its units' processes were started."""

    def __init__(self, *said: str, at: float = 50.0, began: float | None = 40.0) -> None:
        self.world = World()
        self.world.profile("a")
        self.world.journal[A] = [ABORTED]
        self.said, self.at, self.began = said, at, began
        programs = self.world.host.programs
        self._journal, self._manager = (
            programs[f"/usr/bin/{name}"] for name in ("journalctl", "systemctl")
        )
        self.world.host.install("/usr/bin/journalctl", self._journalctl)
        self.world.host.install("/usr/bin/systemctl", self._systemctl)

    def _journalctl(self, argv: Sequence[str]) -> Output:
        if "--dmesg" not in argv:
            return self._journal(argv)
        return Output("\n".join(f"[{self.at:12.6f}] box kernel: {one}" for one in self.said))

    def _systemctl(self, argv: Sequence[str]) -> Output:
        began = "ExecMainStartTimestampMonotonic"
        if f"--property={began}" not in argv:
            return self._manager(argv)
        if self.began is None:
            return Output(stderr="no", status=1)
        return Output(f"{began}={self.began * 1e6:.0f}\n")

    def why(self, outcome: Outcome) -> Failure:
        box = self.world.box
        return failure(box, box.target("a"), outcome, self.world.clock)


def test_a_crash_with_a_report_that_names_the_process() -> None:
    found = Kernel(XID.format(77), began=None).why(Crashed(STATUS))
    assert found.what == f"{NAMED}, at work for llama-server 77"
    assert "journalctl --dmesg" in found.hint
    assert found.lines == (ABORTED,)


def test_a_report_that_names_nobody_counts_in_the_time_of_the_run() -> None:
    nobody = XID.format("'<unknown>'").replace("name=llama-server", "name=<unknown>")
    assert Kernel(nobody).why(Crashed(STATUS)).what == NAMED
    ended = "the GPU failed: CUDA error: unspecified launch failure"
    assert Kernel(nobody, began=60.0).why(Crashed(STATUS)).what == ended
    assert Kernel(nobody, began=0.0).why(Crashed(STATUS)).what == ended
    assert Kernel(nobody, began=None).why(Crashed(STATUS)).what == ended


def test_what_the_server_said_itself_is_believed() -> None:
    kernel = Kernel(XID.format(77))
    kernel.world.journal[A] = ["error: invalid argument: --foo"]
    assert "does not know the flag" in kernel.why(Crashed(STATUS)).what


def test_one_that_hangs_while_it_loads() -> None:
    status = UnitStatus(A, active="active", sub="running", pid=77, last_pid=77)
    stalled = Stalled(status, Health.LOADING, 120.0)
    assert Kernel(XID.format(77)).why(stalled).what.startswith(NAMED)
    assert Kernel().why(stalled).what.startswith("it still says that it is loading")


def test_status_names_it_where_a_model_has_failed() -> None:
    kernel = Kernel()
    kernel.world.apply()
    kernel.world.goes(A, Run(crash_s=1.0, says=(ABORTED,)))
    kernel.world.start(A)
    kernel.said = (XID.format(kernel.world.unit(A).last_pid),)
    kernel.world.clock.sleep(2.0)
    (instance,) = overview(kernel.world.box, explain=True).instances
    assert any(NAMED in note for note in instance.notes), instance.notes


def test_status_asks_nobody_where_all_is_well() -> None:
    kernel = Kernel(XID.format(1))
    kernel.world.apply()
    kernel.world.start(A)
    kernel.world.clock.sleep(2.0)
    overview(kernel.world.box, explain=True)
    assert kernel.world.host.called("journalctl") == []


@pytest.mark.parametrize("output", [Output(status=1), Output("-- No entries --\n")])
def test_who_may_not_read_the_log_gets_none(output: Output) -> None:
    world = World()
    world.host.install("/usr/bin/journalctl", lambda _: output)
    assert kernel_reports(world.box) == ()


def test_a_journal_that_does_not_answer_is_passed_over() -> None:
    kernel = Kernel(XID.format(77))
    kernel.world.hangs.add("journalctl")
    del kernel.world.host.programs["/usr/bin/journalctl"]
    with pytest.raises(HostError):
        kernel.world.box.systemd.kernel_log()
    assert kernel_reports(kernel.world.box) == ()
    assert evidence(kernel.world.box, STATUS, kernel.world.clock) == []


# Dumps


@pytest.fixture
def host() -> FakeHost:
    made = FakeHost()
    made.put(f"{DUMPS}/disabled", "0\n")
    return made


def test_a_dump_of_a_gpu(host: FakeHost) -> None:
    failing = f"{DUMPS}/devcd7/failing_device"
    host.put(f"{DUMPS}/devcd7/data", b"")
    host.put(f"{failing}/uevent", "DRIVER=xe\nPCI_CLASS=30000\nPCI_SLOT_NAME=0000:03:00.0\n")
    host.put(f"{failing}/drm/card1/dev", "226:1\n")
    (report,) = dumps(host)
    assert str(report) == "xe gave up a job and left a dump (devcd7) on 0000:03:00.0"


def test_a_dump_of_something_else(host: FakeHost) -> None:
    host.put(f"{DUMPS}/devcd7/failing_device/uevent", "DRIVER=iwlwifi\n")
    assert dumps(host) == ()


def test_a_device_that_tells_nothing_of_itself(host: FakeHost) -> None:
    host.put(f"{DUMPS}/devcd1/failing_device/drm/card0/dev", "226:0\n")
    (report,) = dumps(host)
    assert str(report) == "a driver gave up a job and left a dump (devcd1)"


def test_no_dumps_where_the_kernel_has_none() -> None:
    assert dumps(FakeHost()) == ()


def test_dumps_that_cannot_be_read(host: FakeHost) -> None:
    host.put(f"{DUMPS}/devcd7/failing_device/drm/card1/dev", "226:1\n")
    host.failing[DUMPS] = "Permission denied"
    assert dumps(host) == ()
