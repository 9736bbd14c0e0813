"""engine/failure.py, evidence.py and ports.py: why it failed, who is in the way, what it wrote."""

from __future__ import annotations

import pytest
from support.fakes import HOME
from support.world import PORT, World

from llmctl.core.state import Health, UnitStatus
from llmctl.core.verdict import Crashed, Gone, Impostor, Outcome, Ready, Stalled
from llmctl.engine.evidence import last_lines
from llmctl.engine.failure import Failure, failure
from llmctl.engine.ports import Holder, holders
from llmctl.errors import NothingRunsError

A = "llm-a.service"
STATUS = UnitStatus(A, active="failed", result="exit-code", exit_code=1, exit_status=1, last_pid=77)

LOG = f"{HOME}/.local/state/llmctl/logs/a.log"
TAKEN = f"couldn't bind HTTP server socket, hostname: 127.0.0.1, port: {PORT}"


def make_world(*said: str) -> World:
    world = World()
    world.profile("a")
    world.journal[A] = list(said)
    return world


def why(world: World, outcome: Outcome) -> Failure:
    box = world.box
    return failure(box, box.target("a"), outcome, world.clock)


@pytest.mark.parametrize(
    ("outcome", "what"),
    [
        (Crashed(STATUS), "it ended with status 1"),
        (Gone(STATUS, fresh=True), "it was stopped, or ended by itself, before it was ready"),
        (Gone(STATUS, fresh=False), "its start was cancelled by a stop"),
        (Stalled(STATUS, Health.LOADING, 120.0), "it still says that it is loading, and nothing"),
        (Stalled(STATUS, Health.SILENT, 120.0), "it does not answer on its port, and nothing"),
        (Stalled(STATUS, Health.ODD, 120.0), "its /health answers as no llama-server does"),
        (Impostor(STATUS, "other"), f"port {PORT} is taken by somebody"),
    ],
)
def test_an_outcome_is_a_clause(outcome: Outcome, what: str) -> None:
    assert why(make_world(), outcome).what.startswith(what)


@pytest.mark.parametrize(
    "outcome",
    [Crashed(STATUS), Gone(STATUS, fresh=True), Gone(STATUS, fresh=False),
     Stalled(STATUS, Health.LOADING, 1.0), Impostor(STATUS, "other")],
)  # fmt: skip
def test_every_failure_says_what_to_do(outcome: Outcome) -> None:
    assert why(make_world(), outcome).hint


def test_ready_is_no_failure() -> None:
    with pytest.raises(AssertionError):
        why(make_world(), Ready(1.0))


def test_a_cause_that_is_known_is_named() -> None:
    world = make_world("error: invalid argument: --foo")
    assert why(world, Crashed(STATUS)).what == "this llama-server does not know the flag --foo"


def test_the_journal_that_lags_is_waited_for() -> None:
    world = make_world()
    world.clock.after(0.4, lambda: world.journal.update({A: ["late words"]}))
    assert why(world, Crashed(STATUS)).lines == ("late words",)


def test_an_empty_journal_is_not_waited_for_long() -> None:
    world = make_world()
    began = world.clock.now()
    assert why(world, Crashed(STATUS)).lines == ()
    assert world.clock.now() - began < 1.2


def test_a_run_that_wrote_nothing_is_told_as_such() -> None:
    failed = why(make_world(), Crashed(STATUS))
    assert failed.what == "it ended with status 1, and the journal has no line of it"
    assert "logs: file" in failed.hint


def test_a_log_file_without_a_line_is_told_as_such() -> None:
    world = make_world()
    world.config("logs: file")
    failed = why(world, Crashed(STATUS))
    assert failed.what == "it ended with status 1, and its log file has no line of it"


def test_lines_of_an_older_run_are_no_evidence() -> None:
    world = make_world()
    world.older[A] = ["cudaMalloc failed: out of memory"]
    failed = why(world, Crashed(STATUS))
    assert failed.lines == ()
    assert "memory" not in failed.what


def test_the_last_lines_of_a_unit_may_be_of_an_older_run() -> None:
    world = make_world("new")
    world.older[A] = ["old"]
    assert last_lines(world.box, A) == ["old", "new"]


@pytest.mark.parametrize("program", ["journalctl", "find"])
def test_evidence_that_cannot_be_had_spoils_no_explanation(program: str) -> None:
    world = make_world(TAKEN)
    world.listening(PORT, 77)
    world.hangs.add(program)
    assert why(world, Crashed(STATUS)).what


def test_a_journal_that_hangs_is_asked_once() -> None:
    world = make_world("words")
    world.hangs.add("journalctl")
    began = world.clock.now()
    assert why(world, Crashed(STATUS)).lines == ()
    assert len(world.host.called("journalctl")) == 1
    assert world.clock.now() == began


def test_a_log_file_that_cannot_be_read_has_no_lines() -> None:
    world = make_world()
    world.config("logs: file")
    world.host.put(LOG, "words\n")
    world.host.failing[LOG] = "Permission denied"
    assert why(world, Crashed(STATUS)).lines == ()


def test_a_failure_becomes_an_error_with_its_evidence() -> None:
    error = Failure("x", "Do y.", ("line",)).error(NothingRunsError, "a failed: x.")
    assert (error.hint, error.evidence, error.exit_status) == ("Do y.", ("line",), 7)


def test_who_holds_the_port_is_named() -> None:
    world = make_world(TAKEN)
    world.listening(PORT, 77)
    world.host.put("/proc/77/cmdline", b"nginx\0-g\0")
    world.host.put("/proc/77/cgroup", "0::/system.slice/nginx.service\n")
    assert why(world, Crashed(STATUS)).what == (
        f"port {PORT} is taken by pid 77, nginx -g in nginx.service"
    )


def test_a_port_that_nobody_holds_by_now_is_not_called_taken() -> None:
    failed = why(make_world(TAKEN), Crashed(STATUS))
    assert failed.what == f"it could not listen on port {PORT}"
    assert failed.hint == "Nobody holds it now; if it serves TLS, check its files."


def test_a_cause_that_only_sounds_like_a_port_asks_for_no_holder() -> None:
    world = make_world("gguf_init_from_file: failed to open GGUF file '/m/port taken' (x)")
    why(world, Crashed(STATUS))
    assert not world.host.called("find")


def test_a_wrong_name_from_our_own_server_is_told_as_such() -> None:
    world = make_world()
    world.listening(PORT, 77)
    world.host.put("/proc/77/cmdline", b"llama-server\0")
    world.host.put("/proc/77/cgroup", f"0::/llm.slice/{A}\n")
    assert why(world, Impostor(STATUS, "other")).what == "its server answers as other"


def test_a_stranger_on_the_port_is_named() -> None:
    world = make_world()
    world.listening(PORT, 77)
    world.host.put("/proc/77/cmdline", b"ollama\0serve\0")
    assert why(world, Impostor(STATUS, "x")).what == (
        f"port {PORT} is taken by pid 77, ollama serve"
    )


def test_a_free_port_has_no_holder() -> None:
    assert holders(make_world().box, PORT) == ()


def held(world: World, command: bytes) -> Holder:
    world.listening(PORT, 77)
    world.host.put("/proc/77/cmdline", command)
    (holder,) = holders(world.box, PORT)
    return holder


def test_a_holders_command_line_is_shown_with_its_words() -> None:
    assert held(make_world(), b"python\0-m\0http.server\0").command == "python -m http.server"


def test_a_long_command_line_is_shortened() -> None:
    command = held(make_world(), b"x" * 40 + b"\0" + b"y" * 100 + b"\0").command
    assert command == "x" * 40 + " " + "y" * 36 + "..."
    assert len(command) == 80


def test_a_command_line_of_80_is_shown_whole() -> None:
    assert held(make_world(), b"x" * 80 + b"\0").command == "x" * 80


def test_a_process_without_a_command_line_is_a_question_mark() -> None:
    assert held(make_world(), b"").command == "?"


def test_holders_that_cannot_be_found_out_are_none() -> None:
    world = make_world()
    world.listening(PORT, 77)
    world.host.failing["/proc/net/tcp"] = "Permission denied"
    assert holders(world.box, PORT) == ()


def test_another_users_process_is_hidden_but_there() -> None:
    world = make_world()
    world.listening(PORT, 1)
    (holder,) = holders(world.box, PORT)
    assert str(holder) == "a process of another user"


@pytest.mark.parametrize(
    ("holder", "text"),
    [
        (Holder(7, "nginx", None), "pid 7, nginx"),
        (Holder(7, "nginx", "x.service"), "pid 7, nginx in x.service"),
    ],
)
def test_a_holder_is_told_in_words(holder: Holder, text: str) -> None:
    assert str(holder) == text


def test_the_last_lines_come_from_the_log_file_where_there_is_one() -> None:
    world = make_world("from the journal")
    world.config("logs: file")
    world.host.put(LOG, "".join(f"line {n}\n" for n in range(100)))
    assert last_lines(world.box, A, lines=2) == ["line 98", "line 99"]


def test_a_huge_log_file_is_read_from_its_end() -> None:
    world = make_world()
    world.config("logs: file")
    world.host.put(LOG, "x" * 10_000_000 + "\nlast words\n")
    assert last_lines(world.box, A, lines=1) == ["last words"]


def test_no_lines_are_no_lines() -> None:
    world = make_world()
    world.config("logs: file")
    world.host.put(LOG, "one\ntwo\n")
    assert last_lines(world.box, A, lines=0) == []


def test_a_log_file_that_is_not_there_has_no_lines() -> None:
    world = make_world()
    world.config("logs: file")
    assert last_lines(world.box, A) == []
