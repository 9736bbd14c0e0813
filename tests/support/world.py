"""A whole box in memory: FakeHost, a small model of the user manager, and scripted servers.

The manager knows as much of systemd as the engine relies on: `Conflicts=` of the installed text, a
new InvocationID for each start, jobs, and what `systemctl show` prints. Real managers are in other
rings; here are the decisions that those will not show on demand.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace
from support.fakes import HOME, FakeClock, FakeHost, Output
from support.systemd_syntax import assignment, values

from llmctl.core.state import UnitStatus
from llmctl.core.unit import PROCESS_VARIABLE
from llmctl.core.words import profile_of
from llmctl.engine.apply import carry_out, plan_apply
from llmctl.engine.box import Box

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from llmctl.core.progress import Event

DATA = Path(__file__).resolve().parents[1] / "data"
HELP = (DATA / "llama-server-help-0.7.0.txt").read_text("utf-8")
OLD_HELP = (DATA / "llama-server-help-old.txt").read_text("utf-8")

CONFIG_DIR = f"{HOME}/.config/llmctl"
UNIT_DIR = f"{HOME}/.config/systemd/user"
SERVER = "/usr/bin/llama-server"
PORT = 12340
NEVER = 1e9


@dataclass(frozen=True, slots=True)
class Run:
    """How one run of a server goes; times in seconds since its start.

    ready_s: when it answers 200. reads_until_s: until when its memory grows. crash_s: when it dies,
    having said `says`; again: systemd then tries again. alias: the name it gives itself.
    queue_s: how long its start waits for something else. stop_s: how long its stop takes; killed:
    it outlasts its stop_timeout then, and systemd kills it.
    """

    ready_s: float = 0.3
    reads_until_s: float = 0.0
    crash_s: float = NEVER
    exit_s: float = NEVER
    says: tuple[str, ...] = ()
    again: bool = False
    alias: str = ""
    queue_s: float = 0.0
    silent: bool = False
    locked: bool = False
    stop_s: float = 0.0
    killed: bool = False


@dataclass(slots=True)
class _Unit:
    status: UnitStatus
    runs: list[Run] = field(default_factory=list)  # the next starts; the last one stays


class World:
    """One box. `box` is what the engine gets; the rest scripts it and looks at it."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.host = FakeHost()
        self.units: dict[str, _Unit] = {}
        self.journal: dict[str, list[str]] = {}
        """Unit -> what its present or last run wrote."""
        self.older: dict[str, list[str]] = {}
        """Unit -> what its earlier runs wrote."""
        self.refuses: dict[str, str] = {}
        """Verb of systemctl -> what it says on stderr when it fails."""
        self.hangs: set[str] = set()
        """Verbs of systemctl, and other programs, that do their work and never answer."""
        self.events: list[str] = []
        self.search_path = "/usr/local/bin:/usr/bin:/bin"
        self._count = 0
        self.host.install(SERVER, lambda _: Output(stdout=HELP))
        self.host.install("/usr/bin/systemctl", self._systemctl)
        self.host.install("/usr/bin/journalctl", self._journalctl)
        self.host.install("/usr/bin/timeout", lambda argv: self._journalctl(argv[2:]))
        self.host.install("/usr/bin/find", self._find)

    @property
    def box(self) -> Box:
        """A Box that has read nothing yet, as each command of the CLI has it."""
        return Box(self.host)

    def profile(self, name: str, text: str = "", *, file: bytes = b"GGUF....") -> None:
        """A profile with its model's file."""
        self.host.put(f"{CONFIG_DIR}/profiles/{name}.yaml", f"model: /models/{name}.gguf\n{text}")
        self.host.put(f"/models/{name}.gguf", file)

    def config(self, text: str) -> None:
        """What config.yaml says."""
        self.host.put(f"{CONFIG_DIR}/config.yaml", text)

    def apply(
        self, *names: str, prune: bool = False, overwrite: bool = False,
        events: list[Event] | None = None,
    ) -> None:  # fmt: skip
        """As `llmctl apply`."""
        changes = plan_apply(self.box, names, prune=prune, overwrite=overwrite)
        report = (events if events is not None else []).append
        carry_out(self.box, changes, clock=self.clock, report=report)

    def goes(self, unit: str, *runs: Run) -> None:
        """How the next runs of a unit go."""
        self._unit(unit).runs = list(runs)

    def unit(self, name: str) -> UnitStatus:
        """A unit as systemctl shows it."""
        return self._unit(name).status

    def shows(self, name: str, status: UnitStatus) -> None:
        """Have systemctl show a unit so."""
        self._unit(name).status = status

    def up(self) -> list[str]:
        """The units that are active."""
        return sorted(name for name, one in self.units.items() if one.status.is_up)

    # The user manager

    def start(self, name: str, *, again: bool = False) -> None:
        """As `systemctl start` or `restart` by anybody."""
        unit = self._unit(name)
        if unit.status.active == "active" and not again:
            return
        self._end(name)
        for rival in self._rivals(name):
            if self.unit(rival).is_up or self.unit(rival).job:
                self._end(rival)
                self.events.append(f"stopped {rival}")
        run = unit.runs.pop(0) if len(unit.runs) > 1 else (unit.runs or [Run()])[0]
        self._count += 1
        job = self._count
        unit.status = replace(
            unit.status, load="loaded", path=self._path(name), job=job, active="inactive",
            sub="dead", result="success",
        )  # fmt: skip
        if run.queue_s:
            self.clock.after(run.queue_s, lambda: self._begin(name, run, job))
        else:
            self._begin(name, run, job)

    def stop(self, name: str) -> None:
        """As `systemctl stop` by anybody."""
        unit = self._unit(name)
        run = unit.runs[0] if unit.runs else Run()
        if run.stop_s and unit.status.is_up:
            unit.status = replace(unit.status, active="deactivating", sub="stop-sigterm", job=9)
            self.clock.after(run.stop_s, lambda: self._end(name, killed=run.killed))
        elif unit.status.active != "failed":  # such a one has nothing to stop, and stays failed
            self._end(name)

    def _begin(self, name: str, run: Run, job: int) -> None:
        unit = self._unit(name)
        if unit.status.job != job:
            return  # cancelled while it waited
        self._count += 1
        pid, invocation = 4000 + self._count, f"{self._count:032x}"
        unit.status = replace(
            unit.status, load="loaded", active="active", sub="running", result="success", pid=pid,
            invocation=invocation, job=0, exit_code=0, exit_status=0,
            last_pid=pid,
        )  # fmt: skip
        self.older.setdefault(name, []).extend(self.journal.pop(name, []))
        self.events.append(f"started {name}")
        self._processes(name, run, pid)
        if not run.silent:
            self.host.servers[self._port(name)] = self._server(name, run)
        for after, sub in ((run.crash_s, "failed"), (run.exit_s, "dead")):
            if after < NEVER:
                self.clock.after(after, self._death(name, run, invocation, sub))

    def _death(self, name: str, run: Run, invocation: str, sub: str) -> Callable[[], None]:
        def happens() -> None:
            unit = self._unit(name)
            if unit.status.invocation != invocation or unit.status.active != "active":
                return
            self.journal.setdefault(name, []).extend(run.says)
            self._end(name)
            unit.status = replace(unit.status, exit_code=1, exit_status=0)
            if sub == "failed":
                state = ("activating", "auto-restart") if run.again else ("failed", "failed")
                unit.status = replace(
                    unit.status, active=state[0], sub=state[1], result="exit-code", exit_status=1
                )

        return happens

    def _end(self, name: str, *, killed: bool = False) -> None:
        """By a signal, unless it is a death of its own."""
        unit = self._unit(name)
        if unit.status.pid:
            self.host.servers.pop(self._port(name), None)
            unit.status = replace(unit.status, exit_code=2, exit_status=9 if killed else 15)
        unit.status = replace(unit.status, active="inactive", sub="dead", pid=0, job=0)
        if killed:
            unit.status = replace(unit.status, active="failed", sub="failed", result="timeout")

    def _processes(self, name: str, run: Run, pid: int) -> None:
        began = self.clock.now()
        text = self._text(name)
        environ = [assignment(one) for one in values(text, "Environment")]
        raw = b"\0".join(f"{key}={value}".encode() for key, value in environ)

        def status() -> bytes:
            grown = min(self.clock.now() - began, run.reads_until_s)
            return f"Name:\tllama-server\nVmRSS:\t{int(grown * 4096)} kB\n".encode()

        self.host.put(f"/proc/{pid}/environ", raw)
        self.host.put(f"/proc/{pid}/status", status)
        command = f"/usr/bin/llama-server\0--port\0{self._port(name)}\0"
        self.host.put(f"/proc/{pid}/cmdline", command)
        self.host.put(f"/proc/{pid}/cgroup", f"0::/user.slice/llm.slice/{name}\n")

    def _server(self, name: str, run: Run) -> Callable[[bytes], bytes]:
        began = self.clock.now()
        alias = run.alias or profile_of(name) or name

        def server(request: bytes) -> bytes:
            if self.clock.now() - began < run.ready_s:
                return http(503, {"error": {"message": "Loading model"}})
            if request.startswith(b"GET /health "):
                return http(200, {"status": "ok"})
            if run.locked:
                return http(401, {"error": {"message": "Invalid API Key"}})
            return http(200, {"data": [{"id": alias}]})

        return server

    def _port(self, name: str) -> int:
        words = " ".join(values(self._text(name), "ExecStart")).split()
        return int(words[words.index("--port") + 1]) if "--port" in words else 0

    def _rivals(self, name: str) -> set[str]:
        theirs = {
            one
            for one in self.units
            if one != name and name in values(self._text(one), "Conflicts")
        }
        return theirs | set(values(self._text(name), "Conflicts"))

    def _text(self, name: str) -> str:
        path = self._path(name)
        return self.host.text(path) if path else ""

    def _path(self, name: str) -> str:
        path = f"{UNIT_DIR}/{name}"
        return path if path in self.host.paths() else ""

    def _unit(self, name: str) -> _Unit:
        return self.units.setdefault(name, _Unit(UnitStatus(name)))

    # Its commands

    def _systemctl(self, argv: Sequence[str]) -> Output:
        verb = next(word for word in argv[2:] if not word.startswith("-"))
        units = argv[argv.index("--") + 1 :] if "--" in argv else ()
        if verb in self.refuses:
            return Output(stderr=self.refuses[verb], status=1)
        done = self._obey(verb, units)
        return Output(takes_s=NEVER) if verb in self.hangs else done

    def _obey(self, verb: str, units: Sequence[str]) -> Output:
        match verb:
            case "show":
                return Output(stdout="\n".join(format_show(self.unit(one)) for one in units))
            case "show-environment":
                return Output(stdout=f"HOME=/home/me\nPATH={self.search_path}\nXDG_X=1\n")
            case "list-units":
                return Output(stdout="".join(self._rows(units)))
            case "list-jobs":
                waiting = (one.status for one in self.units.values() if one.status.job)
                rows = (f"{one.job} {one.unit} start waiting\n" for one in waiting)
                return Output(stdout="".join(rows))
            case "start" | "restart":
                for one in units:
                    self.start(one, again=verb == "restart")
            case "stop":
                for one in units:
                    self.stop(one)
            case "reset-failed":
                for one in units:
                    if self.unit(one).active == "failed":
                        self.shows(one, replace(self.unit(one), active="inactive", sub="dead"))
            case "enable" | "disable":
                for one in units:
                    self.shows(one, replace(self.unit(one), enabled=verb == "enable"))
            case _:
                pass
        return Output()

    def _rows(self, patterns: Sequence[str]) -> Iterator[str]:
        found = (unit.status for unit in self.units.values())
        for one in (one for one in found if any(fnmatch(one.unit, word) for word in patterns)):
            job = "start " if one.job else ""
            yield f"{one.unit} {one.load} {one.active} {one.sub} {job}Model x (llmctl)\n"

    def _journalctl(self, argv: Sequence[str]) -> Output:
        if "journalctl" in self.hangs:
            return Output(takes_s=NEVER)
        names = [word.partition("=")[2] for word in argv if word.startswith("--user-unit=")]
        of_one_run = any(word.startswith("_") for word in argv)
        books = [self.journal] if of_one_run else [self.older, self.journal]
        lines = [line for one in names for book in books for line in book.get(one, [])]
        return Output(stdout="\n".join(lines))

    def _find(self, argv: Sequence[str]) -> Output:
        if "find" in self.hangs:
            return Output(takes_s=NEVER)
        inode = argv[-1].removeprefix(r"socket:\[").removesuffix(r"\]")
        return Output(stdout=f"/proc/{inode}/fd/3\n" if int(inode) > 1 else "", status=1)

    def listening(self, port: int, pid: int) -> None:
        """Have /proc say that a process listens there. (The inode is the pid here.)"""
        row = f"   0: 0100007F:{port:04X} 00000000:0000 0A 0:0 00:0 0 1000 0 {pid} 1 0 100 0\n"
        self.host.put("/proc/net/tcp", "  sl  local_address rem_address   st ...\n" + row)


def http(status: int, body: object) -> bytes:
    """An answer as llama-server gives it."""
    text = json.dumps(body)
    return f"HTTP/1.1 {status} Whatever\r\nServer: llama.cpp\r\n\r\n{text}".encode()


def format_show(one: UnitStatus) -> str:
    """A block of `systemctl show`, as systemd 252 prints it."""
    memory = "[not set]" if one.memory_bytes is None else one.memory_bytes
    facts = {
        "MainPID": one.pid, "ExecMainPID": one.last_pid, "Result": one.result,
        "NRestarts": one.restarts,
        "ExecMainCode": one.exit_code, "ExecMainStatus": one.exit_status, "MemoryCurrent": memory,
        "Id": one.unit, "LoadState": one.load, "ActiveState": one.active, "SubState": one.sub,
        "FragmentPath": one.path, "UnitFileState": "enabled" if one.enabled else "disabled",
        "Job": one.job or "", "NeedDaemonReload": "yes" if one.needs_reload else "no",
        "InvocationID": one.invocation, "ExecMainStartTimestampMonotonic": one.started_us,
    }  # fmt: skip
    return "".join(f"{key}={value}\n" for key, value in facts.items())


def running_process(world: World, unit: str) -> str:
    """The digest in the environment of a unit's running process."""
    environ = world.host.text(f"/proc/{world.unit(unit).pid}/environ")
    pairs = dict(one.split("=", 1) for one in environ.split("\0"))
    return pairs[PROCESS_VARIABLE]
