"""engine/resume.py: which models are asked after a sleep, and what becomes of the dead ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace
from support.fakes import HOME, Output
from support.world import World, http

from llmctl.core.finding import Grade
from llmctl.engine.alive import PATIENCE_S, Life, life
from llmctl.engine.doctor_sleep import sleep as check
from llmctl.engine.patient import Patient
from llmctl.engine.resume import Found, look_after, total_slept
from llmctl.engine.slept import looked, sleep_notes

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmctl.core.state import UnitStatus

    Server = Callable[[bytes], bytes | None]

A, R = "llm-a.service", "llm-a@2.service"
PORT = 12340
WELL = http(200, {"content": "b"})


def of_server(
    answer: bytes | None, *, working: int = 0, vector: bytes | None = None, crashes: bool = False
) -> tuple[Server, list[bytes]]:
    """A server that answers a completion so; and what it was asked."""
    asked: list[bytes] = []

    def server(request: bytes) -> bytes | None:
        asked.append(request.partition(b" HTTP")[0])
        if request.startswith(b"GET /metrics"):
            return b"HTTP/1.1 200 OK\r\n\r\nllamacpp:requests_processing " + str(working).encode()
        if request.startswith(b"POST /completion"):
            return answer
        if request.startswith(b"POST /v1/embeddings"):
            return vector
        return b"" if crashes else http(200, {"data": [{"id": "a"}]})

    return server, asked


class Resumed(World):
    """A box on which a model runs since before a sleep. Times are of the clock that stands still;
    slept: what was slept since the boot, before the model was started and in all."""

    def __init__(self, *, before: float = 100.0, slept: float = 3700.0) -> None:
        super().__init__()
        self.slept = slept
        self.profile("a")
        self.apply()
        self.run_since(before)
        self.asked = self.serves(WELL)

    def run_since(self, before: float) -> None:
        """A new run, after so much sleep."""
        self.start(A, again=True)
        self.clock.sleep(1)
        began = self.clock.now() - 1
        self.shows(A, replace(self.unit(A), started_us=int(began * 1e6)))
        self.put_stat(self.unit(A), began + before)

    def put_stat(self, status: UnitStatus, began: float) -> None:
        """When a process began, by the clock that goes on."""
        fields = " ".join(["0"] * 18)
        self.host.put(
            f"/proc/{status.pid}/stat", f"{status.pid} (a) S {fields} {began * 100:.0f} 0"
        )
        self.host.put("/proc/uptime", f"{self.clock.now() + self.slept:.2f} 0.00\n")

    def serves(
        self, answer: bytes | None, *, working: int = 0, vector: bytes | None = None,
        crashes: bool = False,
    ) -> list[bytes]:  # fmt: skip
        """See of_server."""
        server, asked = of_server(answer, working=working, vector=vector, crashes=crashes)
        self.host.servers[PORT] = server
        return asked

    def look_after(self) -> tuple[Found, ...]:
        return look_after(self.box, clock=self.clock, report=lambda _: None, slept=self.slept)

    @property
    def restarts(self) -> int:
        return len(self.host.called("restart", A))


def test_a_model_that_still_computes_is_left_alone_and_asked_once() -> None:
    box = Resumed()
    assert box.look_after() == (Found("a", Life.ALIVE),)
    assert b"POST /completion" in box.asked
    assert box.restarts == 0
    assert box.look_after() == ()
    box.slept += 600
    assert box.look_after() == (Found("a", Life.ALIVE),)


def test_a_model_that_fails_at_the_first_token_is_restarted() -> None:
    box = Resumed()
    box.serves(http(500, {"error": {"message": "CUDA error"}}))
    before = box.unit(A).invocation
    assert box.look_after() == (Found("a", Life.DEAD),)
    assert box.restarts == 1
    assert box.unit(A).invocation != before
    assert looked(box.box)[A].invocation == before


def test_a_model_that_hangs_is_restarted() -> None:
    box = Resumed()
    box.serves(None)
    assert box.look_after() == (Found("a", Life.DEAD),)
    assert box.restarts == 1


def test_a_model_that_crashes_over_it_is_restarted_even_if_it_was_busy() -> None:
    box = Resumed()
    box.serves(b"", working=1, crashes=True)
    assert box.look_after() == (Found("a", Life.DEAD),)


def test_a_busy_model_is_left_alone_and_asked_again() -> None:
    box = Resumed()
    box.serves(None, working=1)
    assert box.look_after() == (Found("a", Life.BUSY),)
    assert box.restarts == 0
    box.serves(WELL)
    assert box.look_after() == (Found("a", Life.ALIVE),)


@pytest.mark.parametrize(
    ("before", "slept"),
    [(3700.0, 3700.0), (3698.0, 3700.0), (0.0, 0.0), (0.0, 4.0)],
    ids=["started since", "started since, clocks apart", "never slept", "for a blink"],
)
def test_a_model_that_did_not_live_through_a_sleep_is_not_asked(
    before: float, slept: float
) -> None:
    box = Resumed(before=before, slept=slept)
    assert box.look_after() == ()
    assert box.asked == []


def test_a_model_whose_start_is_not_known_is_not_asked() -> None:
    box = Resumed()
    box.host.remove(f"/proc/{box.unit(A).pid}/stat")
    assert box.look_after() == ()


def test_where_nobody_counts_nothing_is_asked() -> None:
    box = Resumed()
    assert total_slept(box.box) is None
    assert look_after(box.box, clock=box.clock, report=lambda _: None) == ()
    assert box.asked == []


def test_a_replica_that_is_dead_is_stopped() -> None:
    box = Resumed()
    box.profile("a", "replicas: {max: 2}\n")
    box.apply()
    started = replace(box.unit(A), unit=R, pid=77, invocation="r")
    box.shows(R, started)
    box.put_stat(started, 1100.0)
    box.host.put("/proc/77/cmdline", "llama-server\0--port\0" + "14001\0")
    box.host.servers[14001], _ = of_server(http(500, {}))
    assert Found("a@2", Life.DEAD) in box.look_after()
    assert box.host.called("stop", R)
    assert box.restarts == 0


@pytest.mark.parametrize(
    ("answer", "vector", "means"),
    [
        (http(501, {}), http(200, {}), Life.ALIVE),
        (http(501, {}), http(500, {}), Life.DEAD),
        (http(501, {}), http(501, {}), Life.UNKNOWN),
        (http(401, {}), None, Life.UNKNOWN),
        (http(503, {}), None, Life.UNKNOWN),
    ],
)
def test_what_an_answer_says_of_life(answer: bytes, vector: bytes | None, means: Life) -> None:
    box = Resumed()
    box.serves(answer, vector=vector)
    assert life(box.host, PORT, key=None, clock=box.clock) is means
    assert PATIENCE_S > 10


def test_status_tells_of_a_restart_until_the_next_start() -> None:
    box = Resumed()
    box.serves(http(500, {}))
    box.look_after()
    box.run_since(box.slept)
    told = "restarted after the box had slept: its GPU context was dead"
    assert list(sleep_notes(box.box, box.unit(A), slept=None)) == [told]
    box.clock.sleep(3600)
    box.run_since(box.slept)
    assert list(sleep_notes(box.box, box.unit(A), slept=None)) == []


def test_here_status_says_that_nobody_has_asked_yet() -> None:
    box = Resumed()
    told = "the box has slept since it was started: llmctl doctor asks whether it still works"
    assert list(sleep_notes(box.box, box.unit(A), slept=box.slept)) == [told]
    box.look_after()
    assert list(sleep_notes(box.box, box.unit(A), slept=box.slept)) == []


SHOWN = "ActiveEnterTimestamp=@1700010000\nActiveEnterTimestampMonotonic=6300000000\n"


@pytest.mark.parametrize(
    ("shown", "slept"),
    [
        (SHOWN, 3700.0),
        ("ActiveEnterTimestamp=\nActiveEnterTimestampMonotonic=0\n", None),
        ("", None),
    ],
)
def test_of_another_machine_our_session_tells_how_long_it_slept(
    shown: str, slept: float | None
) -> None:
    box = World()
    box.host._environ["XDG_SESSION_ID"] = "c7"
    box.host.put("/proc/stat", "cpu 1 2 3\nbtime 1700000000\n")
    asked: list[str] = []

    def systemctl(argv: object) -> Output:
        asked.append(str(argv))
        return Output(stdout=shown)

    box.host.install("/usr/bin/systemctl", systemctl)
    assert total_slept(box.box) == slept
    assert "session-c7.scope" in asked[0]


def test_a_session_that_is_not_known_says_nothing() -> None:
    box = World()
    box.host._environ["XDG_SESSION_ID"] = "c7"
    box.host.remove("/usr/bin/systemctl")
    assert total_slept(box.box) is None


def test_the_doctor_tells_of_it() -> None:
    box = Resumed()
    box.serves(None, working=1)
    (busy,) = check(Patient(box.box, clock=box.clock, slept=box.slept))
    assert busy.grade is Grade.UNKNOWN
    box.serves(http(500, {}))
    (dead,) = check(Patient(box.box, clock=box.clock, slept=box.slept))
    assert dead.grade is Grade.WRONG
    assert "its GPU context was dead, and it is restarted" in dead.what
    box.run_since(box.slept)
    assert list(check(Patient(box.box, clock=box.clock, slept=box.slept))) == []


def test_a_disk_that_takes_nothing_keeps_no_model_dead() -> None:
    box = Resumed()
    box.serves(http(500, {}))
    box.host.full.add(f"{HOME}/.local/state/llmctl")
    assert box.look_after() == (Found("a", Life.DEAD),)
    assert box.restarts == 1
    assert looked(box.box) == {}
