"""The only code that knows systemctl's and journalctl's arguments and output.

`*_argv` builds, `parse_*` reads, and one thin class runs them on a Host.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from llmctl.core.state import UnitStatus
from llmctl.errors import HostError, sentence
from llmctl.host.base import Host, Result

TIMEOUT_S = 15.0
JOURNAL_TIMEOUT_S = 5.0
_SYSTEMCTL = ("systemctl", "--user")
_PROPERTIES = (
    "Id,LoadState,ActiveState,SubState,Result,ExecMainCode,ExecMainStatus,MainPID,ExecMainPID,NRestarts,"
    "InvocationID,Job,MemoryCurrent,FragmentPath,NeedDaemonReload,UnitFileState,"
    "ExecMainStartTimestampMonotonic"
)
SHOW = (*_SYSTEMCTL, "show", f"--property={_PROPERTIES}")
"""`systemctl show`, before `--` and units."""
_STARTS = ("start", "restart", "verify-active", "try-restart")
_LIST = ("--all", "--full", "--plain", "--no-legend")
UNITS_ARGV = (*_SYSTEMCTL, "list-units", *_LIST, "--", "llm-*.service")
"""All loaded units of models."""
_NO_BUS = ("Failed to connect to bus", "Failed to connect to user scope bus", "XDG_RUNTIME_DIR")


def show_argv(units: Iterable[str]) -> tuple[str, ...]:
    """One call for any number of units."""
    return (*SHOW, "--", *units)


def parse_show(text: str) -> tuple[UnitStatus, ...]:
    """`systemctl show` of several units: blocks of KEY=VALUE, an empty line between them."""
    blocks = (block for block in text.split("\n\n") if block.strip())
    return tuple(_status(dict(_pairs(block))) for block in blocks)


def _pairs(block: str) -> Iterator[tuple[str, str]]:
    for line in block.splitlines():
        key, equals, value = line.partition("=")
        if equals:
            yield key, value


def _status(facts: Mapping[str, str]) -> UnitStatus:
    return UnitStatus(
        unit=facts.get("Id", ""),
        load=facts.get("LoadState", "not-found"),
        active=facts.get("ActiveState", "inactive"),
        sub=facts.get("SubState", "dead"),
        result=facts.get("Result", "success"),
        exit_code=_number(facts.get("ExecMainCode")) or 0,
        exit_status=_number(facts.get("ExecMainStatus")) or 0,
        pid=_number(facts.get("MainPID")) or 0,
        last_pid=_number(facts.get("ExecMainPID")) or 0,
        restarts=_number(facts.get("NRestarts")) or 0,
        invocation=facts.get("InvocationID", ""),
        job=_number(facts.get("Job")) or 0,
        memory_bytes=_number(facts.get("MemoryCurrent")),
        path=facts.get("FragmentPath", ""),
        needs_reload=facts.get("NeedDaemonReload") == "yes",
        enabled=facts.get("UnitFileState") in ("enabled", "enabled-runtime"),
        started_us=_number(facts.get("ExecMainStartTimestampMonotonic")) or 0,
    )


def _is_stopped(row: Sequence[str]) -> bool:
    """A row of list-units: UNIT LOAD ACTIVE SUB, then the JOB if there is one, DESCRIPTION."""
    has_job = len(row) > 4 and row[4] in (*_STARTS, "stop", "reload")
    return len(row) < 4 or (row[2] == "inactive" and not has_job)


def _number(text: str | None) -> int | None:
    """A property's number; None for `[not set]` and for systemd's all-ones "infinity"."""
    if text is None or not text.isdigit() or int(text) == 2**64 - 1:
        return None
    return int(text)


def journal_argv(
    unit: str, *, lines: int, matches: Sequence[str] = (), follow: bool = False
) -> tuple[str, ...]:
    """The last lines of a unit; `follow` goes on as they come.

    matches: further FIELD=VALUE that lines must have (systemd.journal-fields(7)); such lines come
    bare, since whoever narrows down to one run knows when and who.
    """
    flags = ("--follow",) if follow else ("--no-pager",)
    output = "cat" if matches else "short-iso"
    # Not `--user --unit`: that finds nothing for root and other system users.
    return ("journalctl", f"--user-unit={unit}", "--quiet", f"--output={output}",
            f"--lines={lines}", *flags, *matches)  # fmt: skip


class Systemd:
    """A box's user manager. HostError when it cannot be reached or refuses."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def status(self, units: Sequence[str]) -> tuple[UnitStatus, ...]:
        """The units as they are, in the order asked for; one that does not exist is `not-found`."""
        if not units:
            return ()
        shown = {one.unit: one for one in parse_show(self._call(*show_argv(units)).stdout)}
        return tuple(shown.get(unit, UnitStatus(unit)) for unit in units)

    def lively(self, *patterns: str) -> tuple[str, ...]:
        """Loaded units of the patterns that are not plainly stopped.

        One call for all of them, and a cheap one: `show` of 20 stopped units takes systemd 15 ms.
        """
        rows = self._call(*_SYSTEMCTL, "list-units", *_LIST, "--", *patterns).stdout.splitlines()
        return tuple(row.split()[0] for row in rows if not _is_stopped(row.split()))

    def lively_status(self, *patterns: str) -> tuple[UnitStatus, ...]:
        """The units of the patterns that are not plainly stopped, as they are."""
        return self.status(self.lively(*patterns))

    def starting(self) -> frozenset[str]:
        """Units with a start or restart job that waits or runs."""
        rows = self._call(
            *_SYSTEMCTL, "list-jobs", "--full", "--plain", "--no-legend"
        ).stdout.splitlines()
        words = (row.split() for row in rows)
        return frozenset(row[1] for row in words if len(row) > 2 and row[2] in _STARTS)

    def start(self, unit: str) -> None:
        """Ask for a unit to become active; systemd does it and whatever must go first.

        The count of starts is forgotten first: StartLimitBurst= is there against crash loops and
        would otherwise count a person's switches too (systemd.unit(5)).
        """
        self._anew(unit, "start", "--no-block", "--", unit)

    def start_alone(self, unit: str) -> None:
        """The same without what the unit requires: where that is not active, the start fails, and
        nothing is started or stopped for it (systemctl(1), ignore-requirements). What the unit
        comes after still comes first."""
        alone = "--job-mode=ignore-requirements"
        self._anew(unit, "start", alone, "--no-block", "--", unit)

    def restart(self, unit: str) -> None:
        """Ask for a unit to be stopped, if it is active, and started."""
        self._anew(unit, "restart", "--no-block", "--", unit)

    def try_restart(self, unit: str) -> None:
        """Ask for a unit to be stopped and started, if it is active; else leave it as it is."""
        self._call(*_SYSTEMCTL, "try-restart", "--no-block", "--", unit)

    def refresh(self, unit: str) -> None:
        """Ask an active unit to read its configuration again (ExecReload=)."""
        self._call(*_SYSTEMCTL, "try-reload-or-restart", "--no-block", "--", unit)

    def stop(self, units: Sequence[str]) -> None:
        """Ask for units to stop; their pending starts are cancelled."""
        self._call(*_SYSTEMCTL, "stop", "--no-block", "--", *units)

    def _anew(self, unit: str, *words: str) -> None:
        # Status 1 for a unit that is not loaded: there is nothing to forget then.
        self._call(*_SYSTEMCTL, *words, before=(*_SYSTEMCTL, "reset-failed", "--", unit))

    def forget_failures(self, units: Sequence[str]) -> None:
        """Let failed units be plainly stopped."""
        self._run(*_SYSTEMCTL, "reset-failed", "--", *units)

    def reload(self) -> None:
        """Read unit files again."""
        self._call(*_SYSTEMCTL, "daemon-reload")

    def enable(self, unit: str) -> None:
        """Start a unit at boot (or at login, without linger)."""
        self._call(*_SYSTEMCTL, "--quiet", "enable", "--", unit)

    def disable(self, units: Sequence[str]) -> None:
        """Do not start units at boot."""
        self._call(*_SYSTEMCTL, "--quiet", "disable", "--", *units)

    def environment(self) -> Mapping[str, str]:
        """What units see of it: the environment of the user manager."""
        return dict(_pairs(self._call(*_SYSTEMCTL, "show-environment").stdout))

    def search_path(self) -> tuple[str, ...]:
        """The directories in which units find programs: PATH of the user manager."""
        return tuple(self.environment().get("PATH", "").split(":"))

    def lingers(self, user: str) -> bool:
        """The user manager runs without a login: loginctl's mark, which needs no bus to read."""
        return self._host.stat(f"/var/lib/systemd/linger/{user}") is not None

    def journal(self, unit: str, *, lines: int, matches: Sequence[str] = ()) -> list[str]:
        """The last lines that a unit wrote; none if the journal has none."""
        argv = journal_argv(unit, lines=lines, matches=matches)
        return self._host.run(argv, timeout=JOURNAL_TIMEOUT_S).stdout.splitlines()

    def journal_of_run(self, run: UnitStatus, *, lines: int) -> list[str]:
        """The last lines of one run of a unit, known by its invocation or by its process."""
        by_id = (f"_SYSTEMD_INVOCATION_ID={run.invocation}",)
        return self.journal(run.unit, lines=lines, matches=by_id) or self._journal_of_process(
            run.last_pid, lines=lines
        )

    def beginning_of_run(self, run: UnitStatus) -> Iterator[str]:
        """What a run wrote, from its first line on; a server may have written millions since.

        Stop reading when there is enough. journalctl is bounded in time by timeout(1), since who
        waits for a line cannot be; `--lines=+N` for the first lines came only with systemd 255.
        """
        found = False
        for line in self._beginning(run.unit, f"_SYSTEMD_INVOCATION_ID={run.invocation}"):
            found = True
            yield line
        if not found:  # journald cannot read the id of every run (in containers, for one)
            yield from self._beginning(run.unit, "--boot", f"_PID={run.pid}")

    def _beginning(self, unit: str, *matches: str) -> Iterator[str]:
        argv = ("timeout", f"{JOURNAL_TIMEOUT_S:g}", "journalctl", "--quiet", "--output=cat",
                "--no-pager", f"--user-unit={unit}", *matches)  # fmt: skip
        return self._host.lines(argv)

    def _journal_of_process(self, pid: int, *, lines: int) -> list[str]:
        """What a process wrote that was dead before journald looked: no unit is known of it.

        The lines then carry the socket's process id alone (systemd issue 2913).
        """
        argv = ("journalctl", "--quiet", "--output=cat", "--no-pager", "--boot", "--since=-1h",
                f"--lines={lines}", "_TRANSPORT=stdout", f"_PID={pid}")  # fmt: skip
        return self._host.run(argv, timeout=JOURNAL_TIMEOUT_S).stdout.splitlines()

    def _call(self, *argv: str, before: Sequence[str] = ()) -> Result:
        result = self._run(*argv, before=before)
        if not result.ok:
            verb = next(word for word in argv[1:] if not word.startswith("-"))
            raise HostError(
                f"systemctl {verb} failed: {sentence(_telling(result.stderr))}",
                hint=f"See `systemctl --user status` on {self._host.name}.",
            )
        return result

    def _run(self, *argv: str, before: Sequence[str] = ()) -> Result:
        try:
            if before:
                result = self._host.run_all((before, argv), timeout=TIMEOUT_S)
            else:
                result = self._host.run(argv, timeout=TIMEOUT_S)
        except HostError:
            if self._host.which(argv[0]) is not None:
                raise
            message = f"{self._host.name} has no systemd: there is no {argv[0]}."
            raise HostError(message, hint="Models run on Linux with systemd.") from None
        if not result.ok and any(words in result.stderr for words in _NO_BUS):
            raise _no_manager(self._host)
        return result


def _telling(stderr: str) -> str:
    """What systemctl says of a failure, without where to read more."""
    lines = [line for line in stderr.splitlines() if line.strip() and not line.startswith("See ")]
    return lines[-1] if lines else "no reason given"


def _no_manager(host: Host) -> HostError:
    environ = host.environ()
    if environ.get("SUDO_USER") and environ.get("USER") == "root":
        return HostError(
            "root's user manager does not run; models belong to the user manager of a person.",
            hint=f"Run llmctl without sudo, as {environ['SUDO_USER']}.",
        )
    user = environ.get("USER", "$USER")
    return HostError(
        f"the systemd user manager of {user} on {host.name} does not answer.",
        hint=f"Keep it running without a login: sudo loginctl enable-linger {user}",
    )
