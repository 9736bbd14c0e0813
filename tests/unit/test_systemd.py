"""systemd.py: arguments built, output read (recorded from systemd 252), refusals explained."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.fakes import FakeHost, Output
from support.world import DATA, format_show

from llmctl.core.state import UnitStatus
from llmctl.errors import HostError
from llmctl.systemd import Systemd, journal_argv, parse_show, show_argv

SHOWN = {one.unit: one for one in parse_show((DATA / "systemctl-show-252.txt").read_text())}


def manager(**answers: Output) -> tuple[Systemd, FakeHost]:
    """A manager whose systemctl answers by verb."""
    host = FakeHost()

    def systemctl(argv: object) -> Output:
        assert isinstance(argv, tuple)
        verb = next(word for word in argv[1:] if not word.startswith("-"))
        return answers.get(verb.replace("-", "_"), Output())

    host.install("/usr/bin/systemctl", systemctl)
    host.install("/usr/bin/journalctl", lambda _: answers.get("journal", Output()))
    return Systemd(host), host


def test_one_call_shows_any_number_of_units() -> None:
    argv = show_argv(["a.service", "-b.service"])
    assert argv[:3] == ("systemctl", "--user", "show")
    assert argv[-3:] == ("--", "a.service", "-b.service")


def test_every_recorded_unit_is_read() -> None:
    assert list(SHOWN) == [f"llm-{name}.service" for name in ("a", "b", "c", "d", "e", "nope")]


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("a", {"active": "active", "sub": "running", "pid": 20045, "job": 0, "memory_bytes": None}),
        ("b", {"active": "inactive", "invocation": "", "enabled": True}),
        ("c", {"active": "activating", "sub": "auto-restart", "exit_code": 1, "exit_status": 3}),
        ("d", {"active": "failed", "result": "signal", "exit_code": 2, "exit_status": 9}),
        ("e", {"active": "activating", "sub": "start-pre", "job": 62, "enabled": False}),
        ("nope", {"load": "not-found", "active": "inactive", "path": ""}),
    ],
)
def test_a_recorded_unit_is_understood(name: str, facts: dict[str, object]) -> None:
    status = SHOWN[f"llm-{name}.service"]
    assert {key: getattr(status, key) for key in facts} == facts


@pytest.mark.parametrize(
    ("text", "memory"),
    [("[not set]", None), ("18446744073709551615", None), ("1048576", 1 << 20), ("", None)],
)
def test_memory_without_accounting_is_unknown(text: str, memory: int | None) -> None:
    (status,) = parse_show(f"Id=a\nMemoryCurrent={text}\n")
    assert status.memory_bytes == memory


def test_a_value_may_hold_an_equals_sign() -> None:
    (status,) = parse_show("Id=a\nFragmentPath=/x=y\n")
    assert status.path == "/x=y"


def test_a_changed_file_wants_a_reload() -> None:
    (status,) = parse_show("Id=a\nNeedDaemonReload=yes\n")
    assert status.needs_reload


@given(st.text(max_size=200))
def test_any_output_is_read_without_complaint(text: str) -> None:
    assert isinstance(parse_show(text), tuple)


def test_the_fake_of_these_tests_prints_what_is_read_back() -> None:
    status = UnitStatus("a", "loaded", "active", "running", "success", 1, 2, 3, 4, 5, "id", 6, 7)
    assert parse_show(format_show(status)) == (status,)


@pytest.mark.parametrize("follow", [False, True])
def test_the_journal_is_asked_for_a_users_unit(follow: bool) -> None:
    argv = journal_argv("a.service", lines=20, follow=follow)
    assert {"journalctl", "--user-unit=a.service", "--lines=20"} <= set(argv)
    assert ("--follow" in argv) is follow


def test_lines_of_one_run_come_bare() -> None:
    argv = journal_argv("a.service", lines=20, matches=["_PID=1"])
    assert {"--output=cat", "_PID=1"} <= set(argv)


def test_units_are_told_in_the_order_asked_for() -> None:
    systemd, _ = manager(show=Output(stdout="Id=b\nActiveState=active\n\nId=a\n"))
    assert [one.unit for one in systemd.status(["a", "b", "c"])] == ["a", "b", "c"]


def test_a_unit_that_is_not_shown_is_not_found() -> None:
    systemd, _ = manager(show=Output())
    assert systemd.status(["a"]) == (UnitStatus("a"),)


def test_no_units_are_not_asked_for() -> None:
    systemd, host = manager()
    assert (systemd.status([]), host.calls) == ((), [])


def test_units_that_are_not_plainly_stopped_are_listed() -> None:
    recorded = (DATA / "systemctl-list-units-252.txt").read_text()
    systemd, _ = manager(list_units=Output(stdout=recorded))
    assert systemd.lively("llm-*.service") == tuple(f"llm-{name}.service" for name in "acde")


def test_a_stopped_unit_with_a_job_is_listed() -> None:
    rows = "a.service loaded inactive dead start Model a\nb.service loaded inactive dead Model b\n"
    systemd, _ = manager(list_units=Output(stdout=rows))
    assert systemd.lively("*") == ("a.service",)


def test_units_that_are_about_to_start_are_known() -> None:
    recorded = (DATA / "systemctl-list-jobs-252.txt").read_text()
    rows = f"{recorded}63 llm-f.service stop waiting\n64 llm-g.service restart waiting\n"
    systemd, _ = manager(list_jobs=Output(stdout=rows))
    assert systemd.starting() == {"llm-e.service", "llm-g.service"}


@pytest.mark.parametrize(
    ("verb", "words"),
    [
        ("start", ("start", "--no-block", "--", "a.service")),
        ("restart", ("restart", "--no-block", "--", "a.service")),
    ],
)
def test_a_start_forgets_the_count_of_starts_and_does_not_block(
    verb: str, words: tuple[str, ...]
) -> None:
    systemd, host = manager()
    getattr(systemd, verb)("a.service")
    assert host.calls == [
        ("systemctl", "--user", "reset-failed", "--", "a.service"),
        ("systemctl", "--user", *words),
    ]


def test_forgetting_a_unit_that_is_not_loaded_is_no_error() -> None:
    systemd, host = manager(reset_failed=Output(status=1, stderr="Unit a.service not loaded."))
    systemd.start("a.service")
    assert host.called("start")


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda s: s.stop(["a", "b"]), ("stop", "--no-block", "--", "a", "b")),
        (lambda s: s.reload(), ("daemon-reload",)),
        (lambda s: s.enable("a"), ("--quiet", "enable", "--", "a")),
        (lambda s: s.disable(["a", "b"]), ("--quiet", "disable", "--", "a", "b")),
        (lambda s: s.forget_failures(["a"]), ("reset-failed", "--", "a")),
    ],
)
def test_a_verb_becomes_its_command(call: object, words: tuple[str, ...]) -> None:
    systemd, host = manager()
    assert callable(call)
    call(systemd)
    assert host.calls == [("systemctl", "--user", *words)]


def test_a_refusal_is_told_in_systemds_words() -> None:
    refusal = Output(status=1, stderr="Hint\nFailed to start a.service: Unit is masked.\n")
    systemd, _ = manager(start=refusal)
    with pytest.raises(HostError, match=r"Failed to start a.service: Unit is masked\."):
        systemd.start("a.service")


def test_a_refusal_without_words_is_told_too() -> None:
    systemd, _ = manager(daemon_reload=Output(status=1))
    with pytest.raises(HostError, match="no reason given"):
        systemd.reload()


@pytest.mark.parametrize(
    "stderr",
    [
        "Failed to connect to bus: No medium found",
        "Failed to connect to bus: No such file or directory",
        "Failed to connect to user scope bus via local transport: $DBUS_SESSION_BUS_ADDRESS and "
        "$XDG_RUNTIME_DIR not defined",
    ],
)
def test_a_manager_that_does_not_run_is_told_with_what_to_type(stderr: str) -> None:
    systemd, _ = manager(show=Output(status=1, stderr=stderr))
    with pytest.raises(HostError, match="user manager of ana on box does not answer") as caught:
        systemd.status(["a"])
    assert caught.value.hint is not None
    assert "sudo loginctl enable-linger ana" in caught.value.hint


def test_under_sudo_the_person_is_told_to_go_without() -> None:
    host = FakeHost(environ={"USER": "root", "SUDO_USER": "ana"})
    host.install("/usr/bin/systemctl", lambda _: Output("", "Failed to connect to bus: x", 1))
    with pytest.raises(HostError) as caught:
        Systemd(host).reload()
    assert caught.value.hint == "Run llmctl without sudo, as ana."


def test_a_person_who_came_by_sudo_is_no_root() -> None:
    host = FakeHost(environ={"USER": "ana", "SUDO_USER": "admin"})
    host.install("/usr/bin/systemctl", lambda _: Output("", "Failed to connect to bus: x", 1))
    with pytest.raises(HostError, match="user manager of ana on box does not answer"):
        Systemd(host).reload()


def test_lively_units_are_told_as_they_are() -> None:
    rows = "a.service loaded active running Model a\nb.service loaded inactive dead Model b\n"
    systemd, _ = manager(
        list_units=Output(stdout=rows), show=Output(stdout="Id=a.service\nActiveState=active\n")
    )
    assert systemd.lively_status("*") == (
        UnitStatus("a.service", active="active", load="not-found"),
    )


def test_a_journal_without_lines_is_empty() -> None:
    systemd, _ = manager(journal=Output(status=1, stderr="No journal files were found."))
    assert systemd.journal("a.service", lines=20) == []


def test_a_run_is_known_by_its_process_where_the_journal_lost_its_id() -> None:
    host = FakeHost()
    host.install(
        "/usr/bin/journalctl",
        lambda argv: Output(stdout="by pid\n" if "_PID=77" in argv else ""),
    )
    run = UnitStatus("a.service", invocation="x", last_pid=77)
    assert Systemd(host).journal_of_run(run, lines=20) == ["by pid"]


@pytest.mark.parametrize(("matched", "line"), [("_SYSTEMD_INVOCATION_ID=x", "by id"),
                                               ("_PID=77", "by pid")])  # fmt: skip
def test_a_run_is_read_from_its_beginning_and_bounded_in_time(matched: str, line: str) -> None:
    host = FakeHost()
    host.install(
        "/usr/bin/timeout",
        lambda argv: Output(stdout=f"{line}\nmore\n" if matched in argv else ""),
    )
    run = UnitStatus("a.service", invocation="x", pid=77)
    lines = Systemd(host).beginning_of_run(run)
    assert next(lines) == line
    first, *rest = host.calls
    assert first[:3] == ("timeout", "5", "journalctl")
    assert "--user-unit=a.service" in first
    assert [one for one in first if one.startswith("--lines")] == []
    assert len(rest) == (matched == "_PID=77")
