"""engine/switch.py: what happens when it goes well, and what is said and undone when not."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from support.world import PORT, UNIT_DIR, Run, World, running_process

from llmctl.core.plan import AwaitReady, Reload, Restart, Start, WriteUnit
from llmctl.core.progress import Began, Event, Note, Waiting
from llmctl.core.state import State, UnitStatus
from llmctl.engine.switch import Options, Switch, Switched, dry_run
from llmctl.errors import HostError, NoAnswerError, ProfileError, SwitchError

A, B, C = "llm-a.service", "llm-b.service", "llm-c.service"


def make_world() -> World:
    """Three profiles, installed; nothing runs."""
    world = World()
    for name in ("a", "b", "c"):
        world.profile(name)
    world.apply()
    return world


def switch(
    world: World,
    name: str,
    events: list[Event] | None = None,
    *,
    options: Options = Options(),  # noqa: B008  # it is frozen
) -> Switched:
    report = (events if events is not None else []).append
    return Switch(world.box, name, options=options, clock=world.clock, report=report).run()


def steps_of(world: World, name: str) -> list[type]:
    """The kinds of the steps that a switch would take."""
    work = Switch(world.box, name, options=Options(), clock=world.clock, report=print)
    return [type(step) for step in work.steps]


def failed(world: World, name: str, options: Options | None = None) -> SwitchError:
    with pytest.raises(SwitchError) as caught:
        switch(world, name, options=options or Options())
    return caught.value


# When it goes well


def test_a_model_becomes_ready_under_its_own_name() -> None:
    world = make_world()
    done = switch(world, "a")
    assert done.ready_s is not None
    pid = world.unit(A).pid
    assert done == Switched(
        "a", None, State.READY, done.ready_s, f"http://127.0.0.1:{PORT}", pid=pid
    )


def test_it_is_ready_as_soon_as_it_answers() -> None:
    world = make_world()
    world.goes(A, Run(ready_s=0.3))
    done = switch(world, "a")
    assert done.ready_s == pytest.approx(0.3, abs=0.05)


def test_the_earlier_model_is_named() -> None:
    world = make_world()
    switch(world, "a")
    assert switch(world, "b").previous == "a"


def test_exactly_one_model_runs_afterwards() -> None:
    world = make_world()
    switch(world, "a")
    switch(world, "b")
    assert world.up() == [B]


def test_a_missing_unit_is_written_and_read() -> None:
    world = World()
    world.profile("a")
    switch(world, "a")
    assert world.host.paths(UNIT_DIR) == (f"{UNIT_DIR}/{A}", f"{UNIT_DIR}/llm.slice")
    assert world.host.called("daemon-reload")


def test_a_switch_to_what_runs_already_changes_nothing() -> None:
    world = make_world()
    switch(world, "a")
    pid = world.unit(A).pid
    switch(world, "a")
    assert world.unit(A).pid == pid


def test_a_running_process_with_older_settings_is_restarted() -> None:
    world = make_world()
    switch(world, "a")
    before = running_process(world, A)
    world.profile("a", "ctx: 8192")
    world.apply()
    switch(world, "a")
    assert running_process(world, A) != before


def test_a_new_neighbour_restarts_nobody() -> None:
    world = make_world()
    switch(world, "a")
    pid = world.unit(A).pid
    world.profile("d")
    switch(world, "a")
    assert world.unit(A).pid == pid


def test_without_waiting_it_is_starting() -> None:
    world = make_world()
    done = switch(world, "a", options=Options(wait=False))
    assert (done.state, done.ready_s) == (State.LOADING, None)


def test_the_steps_are_reported_before_they_are_done() -> None:
    events: list[Event] = []
    switch(make_world(), "a", events)
    steps = [event.step for event in events if isinstance(event, Began)]
    assert steps == [Start(A), AwaitReady("a")]


def test_waiting_is_reported() -> None:
    events: list[Event] = []
    switch(make_world(), "a", events)
    assert any(isinstance(event, Waiting) for event in events)


def test_a_dry_run_says_the_steps_and_does_none() -> None:
    world = World()
    world.profile("a")
    work = Switch(world.box, "a", options=Options(), clock=world.clock, report=print)
    assert dry_run(work) == (
        "write llm.slice", f"write {A}", "reload systemd's units", f"start {A}",
        "wait until a answers",
    )  # fmt: skip
    assert world.host.paths(UNIT_DIR) == ()


def test_a_dry_run_without_waiting_does_not_wait() -> None:
    world = make_world()
    options = Options(wait=False)
    work = Switch(world.box, "a", options=options, clock=world.clock, report=print)
    assert dry_run(work) == (f"start {A}",)


def test_the_plan_restarts_what_runs_from_an_older_profile() -> None:
    world = make_world()
    switch(world, "a")
    world.profile("a", "ctx: 8192")
    assert steps_of(world, "a") == [WriteUnit, Reload, Restart, AwaitReady]


def test_a_unit_edited_by_hand_is_used_as_it_stands() -> None:
    world = make_world()
    path = f"{UNIT_DIR}/{A}"
    edited = world.host.text(path).replace("RestartSec=5", "RestartSec=9")
    world.host.put(path, edited)
    events: list[Event] = []
    switch(world, "a", events)
    assert world.host.text(path) == edited
    assert any(isinstance(event, Note) and "edited by hand" in event.text for event in events)


def test_settings_added_at_the_end_of_a_unit_by_hand_are_kept() -> None:
    world = make_world()
    path = f"{UNIT_DIR}/{A}"
    edited = world.host.text(path) + "[Service]\nNice=5\n"
    world.host.put(path, edited)
    world.profile("a", "ctx: 8192")
    switch(world, "a")
    assert world.host.text(path) == edited


@pytest.mark.parametrize("more", ["", "ctx: 8192"])
def test_an_edit_by_hand_of_the_running_model_is_taken_up(more: str) -> None:
    world = make_world()
    switch(world, "a")
    path = f"{UNIT_DIR}/{A}"
    world.host.put(path, world.host.text(path).replace("RestartSec=5", "RestartSec=9"))
    world.profile("a", more)
    assert steps_of(world, "a") == [Restart, AwaitReady]


def test_an_edited_unit_that_runs_as_it_stands_is_not_restarted() -> None:
    world = make_world()
    path = f"{UNIT_DIR}/{A}"
    world.host.put(path, world.host.text(path).replace("RestartSec=5", "RestartSec=9"))
    switch(world, "a")
    assert steps_of(world, "a") == [Start, AwaitReady]


def test_a_digest_that_cannot_be_read_restarts_nobody() -> None:
    """The environment of a binary with file capabilities is not ours to read."""
    world = make_world()
    switch(world, "a")
    world.host.failing[f"/proc/{world.unit(A).pid}/environ"] = "Permission denied"
    assert steps_of(world, "a") == [Start, AwaitReady]


# When it cannot begin


def test_a_hand_made_unit_of_the_same_name_is_refused_with_its_path() -> None:
    world = make_world()
    path = f"{UNIT_DIR}/{A}"
    world.host.put(path, "[Service]\nExecStart=/theirs\n")
    with pytest.raises(ProfileError, match=f"{path} was not written by llmctl"):
        switch(world, "a")


def test_a_missing_model_stops_nobody() -> None:
    world = make_world()
    switch(world, "a")
    world.host.remove("/models/b.gguf")
    error = failed(world, "b")
    assert "/models/b.gguf does not exist. a still runs." in error.message
    assert (error.exit_status, world.up()) == (6, [A])


def test_a_missing_model_when_nothing_runs_says_so() -> None:
    world = make_world()
    world.host.remove("/models/b.gguf")
    assert failed(world, "b").exit_status == 7


@pytest.mark.parametrize("data", [b"", b"GG", b"PK\3\4...."])
def test_a_file_that_is_no_gguf_stops_nobody(data: bytes) -> None:
    world = make_world()
    switch(world, "a")
    world.profile("b", file=data)
    assert "no GGUF file" in failed(world, "b").message


def test_a_start_that_systemd_refuses_leaves_the_earlier_model() -> None:
    world = make_world()
    switch(world, "a")
    world.refuses["start"] = "Failed to start llm-b.service: Unit is masked."
    error = failed(world, "b")
    assert error.message.endswith("Unit is masked. a still runs.")
    assert error.exit_status == 6


def test_a_start_that_systemd_refuses_when_nothing_runs_says_so() -> None:
    world = make_world()
    world.refuses["start"] = "Failed to start llm-b.service: Unit is masked."
    assert failed(world, "b").exit_status == 7


def test_a_disk_that_takes_no_unit_changes_nothing() -> None:
    world = make_world()
    switch(world, "a")
    world.profile("b", "ctx: 8192")
    world.host.full.add(f"{UNIT_DIR}/{B}")
    with pytest.raises(HostError, match="No space left on device"):
        switch(world, "b")
    assert world.up() == [A]


# When systemd does not answer


def unanswered(world: World, name: str) -> NoAnswerError:
    with pytest.raises(NoAnswerError) as caught:
        switch(world, name)
    return caught.value


def test_a_start_without_an_answer_has_no_known_outcome() -> None:
    world = make_world()
    switch(world, "a")
    world.hangs.add("start")
    error = unanswered(world, "b")
    assert error.message == (
        "systemctl did not end within 15 s. "
        "Whether b started is not known: the switch may go on in systemd."
    )
    assert (error.hint, error.exit_status) == ("Run `llmctl status`.", 5)
    assert world.up() == [B]


def test_a_restart_without_an_answer_has_no_known_outcome() -> None:
    world = make_world()
    switch(world, "a")
    world.profile("a", "ctx: 8192")
    world.hangs.add("restart")
    assert "Whether a started is not known" in unanswered(world, "a").message


def test_a_wait_that_loses_the_manager_has_no_known_outcome_and_undoes_nothing() -> None:
    world = make_world()
    switch(world, "a")
    world.goes(B, Run(ready_s=60))
    world.clock.after(1.0, lambda: world.hangs.add("show"))
    assert "Whether b started is not known" in unanswered(world, "b").message
    assert world.up() == [B]
    assert len(world.host.called("start", A)) == 1


def test_a_wait_that_the_manager_refuses_has_no_known_outcome() -> None:
    world = make_world()
    world.goes(A, Run(ready_s=60))
    world.clock.after(1.0, lambda: world.refuses.update(show="Access denied"))
    message = unanswered(world, "a").message
    assert message.startswith("systemctl show failed: Access denied. Whether a started")


# When the model fails


@pytest.mark.parametrize("again", [False, True], ids=["gives-up", "tries-again"])
def test_a_crash_ends_the_wait_at_once_and_brings_the_earlier_model_back(again: bool) -> None:
    world = make_world()
    switch(world, "a")
    world.goes(
        B, Run(crash_s=2.0, ready_s=60, again=again, says=("cudaMalloc failed: out of memory",))
    )
    began = world.clock.now()
    error = failed(world, "b")
    assert error.message == "b failed: the GPU ran out of memory. a is ready again."
    assert (error.exit_status, world.up()) == (6, [A])
    assert world.clock.now() - began < 4


def test_the_servers_last_words_are_in_the_error() -> None:
    world = make_world()
    world.goes(A, Run(crash_s=0.1, says=("error: invalid argument: --foo",)))
    assert failed(world, "a").evidence == ("error: invalid argument: --foo",)


def test_a_crash_with_nothing_before_leaves_nothing() -> None:
    world = make_world()
    world.goes(A, Run(crash_s=0.1, again=True))
    error = failed(world, "a")
    assert error.message.endswith("Nothing ran before.")
    assert (error.exit_status, world.up()) == (7, [])


def test_without_rollback_a_failed_model_is_left_as_it_is() -> None:
    world = make_world()
    switch(world, "a")
    world.goes(B, Run(ready_s=1e9))
    error = failed(world, "b", Options(rollback=False, timeout=10.0))
    assert (error.exit_status, world.up()) == (7, [B])


def test_a_rollback_that_fails_is_told_and_names_both() -> None:
    world = make_world()
    world.goes(A, Run(), Run(crash_s=0.1, again=True))
    switch(world, "a")
    world.goes(B, Run(crash_s=0.1))
    error = failed(world, "b")
    assert "b failed" in error.message
    assert "a, which ran before, did not come back either" in error.message
    assert error.exit_status == 7


def test_a_rollback_that_systemd_refuses_is_told() -> None:
    world = make_world()
    switch(world, "a")
    world.goes(B, Run(crash_s=1.0, ready_s=60))
    world.clock.after(0.5, lambda: world.refuses.update(start="Access denied"))
    error = failed(world, "b")
    assert "going back failed too" in error.message
    assert error.exit_status == 7


def test_a_rollback_is_reported_as_such() -> None:
    world = make_world()
    switch(world, "a")
    world.goes(B, Run(crash_s=0.1))
    events: list[Event] = []
    with pytest.raises(SwitchError):
        switch(world, "b", events)
    steps = [event.step for event in events if isinstance(event, Began) and event.back]
    assert steps == [Start(A), AwaitReady("a")]


def test_a_changed_profile_that_fails_goes_back_to_the_text_that_ran() -> None:
    world = make_world()
    switch(world, "a")
    text, process = world.host.text(f"{UNIT_DIR}/{A}"), running_process(world, A)
    world.profile("a", "ctx: 8192")
    world.goes(A, Run(crash_s=0.1), Run())
    error = failed(world, "a")
    assert error.message.endswith("It runs as it did before.")
    assert error.exit_status == 6
    assert world.host.text(f"{UNIT_DIR}/{A}") == text
    assert running_process(world, A) == process


@pytest.mark.parametrize("text", [None, "[Service]\nExecStart=/theirs\n"])
def test_what_a_person_writes_meanwhile_is_not_overwritten_by_going_back(text: str | None) -> None:
    world = make_world()
    switch(world, "a")
    path = f"{UNIT_DIR}/{A}"
    world.profile("a", "ctx: 8192")
    world.goes(A, Run(ready_s=60, crash_s=2.0), Run())

    def edit() -> None:
        world.host.put(path, text or world.host.text(path).replace("RestartSec=5", "RestartSec=9"))
        theirs.append(world.host.text(path))

    theirs: list[str] = []
    world.clock.after(1.0, edit)
    failed(world, "a")
    assert [world.host.text(path)] == theirs
    assert world.up() == [A]


def test_a_units_older_crash_is_not_taken_for_the_reason() -> None:
    world = make_world()
    world.goes(A, Run(crash_s=0.1, says=("cudaMalloc failed: out of memory",)), Run(crash_s=0.1))
    assert "out of memory" in failed(world, "a").message
    error = failed(world, "a")
    assert "memory" not in error.message
    assert "has no line of it" in error.message
    assert error.evidence == ()


@pytest.mark.parametrize("program", ["journalctl", "find"])
def test_evidence_that_cannot_be_had_does_not_keep_the_earlier_model_from_coming(
    program: str,
) -> None:
    world = make_world()
    switch(world, "a")
    taken = f"couldn't bind HTTP server socket, hostname: 127.0.0.1, port: {PORT}"
    world.goes(B, Run(crash_s=1.0, ready_s=60, says=(taken,)))
    world.listening(PORT, 77)
    world.hangs.add(program)
    error = failed(world, "b")
    assert error.message.endswith("a is ready again.")
    assert (error.exit_status, world.up()) == (6, [A])


def test_an_explanation_that_cannot_be_had_does_not_keep_the_earlier_model_from_coming() -> None:
    world = make_world()
    switch(world, "a")
    world.goes(B, Run(crash_s=1.0, ready_s=60))
    unreadable = {f"{UNIT_DIR}/{B}": "Permission denied"}
    world.clock.after(0.5, lambda: world.host.failing.update(unreadable))
    error = failed(world, "b")
    assert error.message == "b failed: it did not become ready. a is ready again."
    assert error.hint == f"{UNIT_DIR}/{B} cannot be read: Permission denied."
    assert (error.exit_status, world.up()) == (6, [A])


def test_a_switch_that_failed_knows_it() -> None:
    world = make_world()
    world.goes(A, Run(crash_s=0.1))
    work = Switch(world.box, "a", options=Options(), clock=world.clock, report=print)
    seen = [(work.failed, work.executor.asked)]
    with pytest.raises(SwitchError):
        work.run()
    seen.append((work.failed, work.executor.asked))
    assert seen == [(False, ()), (True, (A,))]


def test_a_restart_that_fails_with_nothing_to_go_back_to_does_not_claim_to_have_gone_back() -> None:
    """The new text was installed by `apply` before; what ran is not known any more."""
    world = make_world()
    switch(world, "a")
    world.profile("a", "ctx: 8192")
    world.apply()
    world.goes(A, Run(crash_s=0.1))
    error = failed(world, "a")
    assert world.up() == []
    assert error.exit_status == 7
    assert "as it did before" not in error.message


def test_an_earlier_model_whose_profile_is_broken_by_now_comes_back_all_the_same() -> None:
    world = make_world()
    switch(world, "a")
    world.profile("a", "ctx: nonsense")
    world.goes(B, Run(crash_s=0.1))
    error = failed(world, "b")
    assert world.up() == [A]
    assert error.exit_status == 6


def test_what_runs_but_never_answers_under_its_name_is_left_as_it_is() -> None:
    world = make_world()
    switch(world, "a", options=Options(wait=False))
    world.host.servers.clear()
    error = failed(world, "a", Options(timeout=5.0))
    assert error.message.endswith("It was left as it is.")
    assert (error.exit_status, world.up()) == (7, [A])


def test_foreign_units_that_made_way_come_back() -> None:
    world = make_world()
    world.config("groups: {gpu: {port: 12340, conflicts: [ollama.service]}}")
    world.shows("ollama.service", UnitStatus("ollama.service", active="active", sub="running"))
    world.goes(A, Run(crash_s=0.1))
    with pytest.raises(SwitchError):
        switch(world, "a")
    assert (
        "systemctl",
        "--user",
        "start",
        "--no-block",
        "--",
        "ollama.service",
    ) in world.host.calls


def test_a_start_cancelled_by_a_stop_is_told() -> None:
    world = make_world()
    world.goes(A, Run(queue_s=5.0))
    world.clock.after(1.0, lambda: world.stop(A))
    error = failed(world, "a")
    assert "its start was cancelled by a stop" in error.message
    assert error.exit_status == 7


def test_a_server_that_ends_by_itself_is_told() -> None:
    world = make_world()
    world.goes(A, Run(exit_s=0.1, says=("bye",)))
    error = failed(world, "a")
    assert "ended by itself, before it was ready" in error.message
    assert error.evidence == ("bye",)


def test_a_server_that_ends_by_itself_gives_way_to_the_earlier_model() -> None:
    world = make_world()
    switch(world, "a")
    world.goes(B, Run(exit_s=1.0, ready_s=60))
    error = failed(world, "b")
    assert error.message.endswith("a is ready again.")
    assert (error.exit_status, world.up()) == (6, [A])


@pytest.mark.parametrize(
    "run", [Run(ready_s=60), Run(ready_s=60, stop_s=30.0, killed=True)], ids=["at-once", "killed"]
)
@pytest.mark.parametrize("before", [True, False])
def test_a_stop_by_a_person_is_final(run: Run, before: bool) -> None:
    world = make_world()
    if before:
        switch(world, "a")
    world.goes(B, run)
    world.clock.after(1.0, lambda: world.stop(B))
    error = failed(world, "b")
    assert error.message.startswith("b is not running: it was stopped")
    assert (error.exit_status, world.up()) == (7, [])


def test_a_start_that_a_person_cancels_is_not_made_good_for() -> None:
    world = make_world()
    switch(world, "a")
    world.goes(B, Run(queue_s=5.0))
    world.clock.after(1.0, lambda: world.stop(B))
    error = failed(world, "b")
    assert error.message == "b is not running: its start was cancelled by a stop."
    assert (error.exit_status, world.up()) == (7, [])


# When others switch too


def test_a_foreign_unit_that_displaces_a_model_is_named() -> None:
    world = World()
    world.profile("a")
    world.config("groups: {gpu: {port: 12340, conflicts: [ollama.service]}}")
    world.apply()
    world.goes(A, Run(ready_s=60))
    world.clock.after(1.0, lambda: world.start("ollama.service"))
    error = failed(world, "a")
    assert error.message.startswith("a was displaced by ollama.service")
    assert (error.exit_status, world.up()) == (6, ["ollama.service"])


@pytest.mark.parametrize("queue_s", [0.0, 5.0], ids=["running", "queued"])
def test_the_loser_is_told_who_displaced_it(queue_s: float) -> None:
    world = make_world()
    world.goes(A, Run(ready_s=60, queue_s=queue_s))
    world.clock.after(1.0, lambda: world.start(B))
    error = failed(world, "a")
    assert error.message == "a was displaced by b: somebody switched to that one after you."
    assert (error.exit_status, world.up()) == (6, [B])


def test_a_rollback_does_not_take_the_box_from_a_third_switch() -> None:
    world = make_world()
    switch(world, "a")
    world.goes(B, Run(crash_s=1.0, ready_s=60))
    world.goes(C, Run(ready_s=0.1))
    original = world.host.programs["/usr/bin/journalctl"]

    def meanwhile(argv: object) -> object:
        world.start(C)  # while we read why b failed
        return original(argv)  # type: ignore[arg-type]

    world.host.programs["/usr/bin/journalctl"] = meanwhile  # type: ignore[assignment]
    error = failed(world, "b")
    assert "displaced by c" in error.message
    assert world.up() == [C]


def test_a_switch_back_to_the_earlier_model_by_somebody_else_is_told() -> None:
    world = make_world()
    switch(world, "a")
    world.goes(B, Run(ready_s=60))
    world.clock.after(1.0, lambda: world.start(A))
    error = failed(world, "b")
    assert "displaced by a" in error.message
    assert world.up() == [A]


def test_more_than_one_active_member_is_settled_by_a_switch() -> None:
    world = make_world()
    switch(world, "a")
    status = world.unit(A)
    world.shows(B, replace(status, unit=B))
    switch(world, "c")
    assert world.up() == [C]
