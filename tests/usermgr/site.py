"""Where a scenario happens: a private user manager or a real box, with llmctl and stand-ins.

A site has a configuration with a port of its own, models that are a magic number, and profiles
whose server is the stand-in (kit/fake_llama.py). What a stand-in does is read when it starts, from
a file: `site.behave` changes it without changing a unit.
"""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
import sys
from abc import ABC, abstractmethod
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import yaml
from kit.boxes import SSH_CONFIG
from kit.commands import CommandFailedError, Done
from kit.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kit.boxes import Box
    from kit.managers import UserManager

DONE, STALE, USAGE, PROFILE, UNREACHABLE, FAILED, NOTHING = 0, 1, 2, 3, 5, 6, 7
INTERRUPTED = 130


def free_port() -> int:
    """A port nobody listens on, outside those that the kernel gives to outgoing connections."""
    while True:
        port = 14000 + int.from_bytes(os.urandom(2)) % 16000
        with socket.socket() as s:
            if s.connect_ex(("127.0.0.1", port)):
                return port


@dataclass(frozen=True)
class Event:
    """A line of the stand-ins' common log: a process started, or is about to end."""

    word: str
    alias: str
    pid: int
    at: float


WRITE = """\
import json, pathlib, sys
for path, text in json.load(sys.stdin).items():
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
"""


class Site(ABC):
    """A user's session on some machine, seen from outside."""

    def __init__(self, *, home: str, server: str) -> None:
        self.home = home
        self.port = free_port()
        self.server = server  # the stand-in, unless a test is about the real one
        self.config_dir = f"{home}/.config/llmctl"
        self.unit_dir = f"{home}/.config/systemd/user"
        self.state_dir = f"{home}/.local/state/llmctl"
        self.cache_dir = f"{home}/.cache/llmctl"
        self.models_dir = f"{home}/models"
        self._threads = ThreadPoolExecutor(max_workers=8)

    # The machine

    @abstractmethod
    def run(
        self,
        *argv: str,
        env: Mapping[str, str] | None = None,
        stdin: str = "",
        timeout: float = 120.0,
        check: bool = True,
    ) -> Done:
        """Run a command as the user. `env` is added."""

    @abstractmethod
    def program(self) -> Sequence[str]:
        """The words that start llmctl."""

    @abstractmethod
    def python(self) -> str:
        """A Python that has llmctl."""

    def put(self, files: Mapping[str, str]) -> None:
        """Write files, by absolute path, and the directories above them.

        By a command, since only that sees what a test has mounted there.
        """
        self.run("python3", "-c", WRITE, stdin=json.dumps(files))

    def read(self, path: str) -> str:
        return self.run("cat", "--", path).stdout

    def exists(self, path: str) -> bool:
        return self.run("test", "-e", path, check=False).returncode == 0

    def names(self, directory: str) -> set[str]:
        """What a directory holds, hidden files too."""
        return set(self.run("ls", "--almost-all", "--", directory, check=False).stdout.splitlines())

    def remove(self, *paths: str) -> None:
        self.run("rm", "-rf", "--", *paths)

    def systemctl(self, *words: str, check: bool = True) -> Done:
        return self.run("systemctl", "--user", *words, check=check)

    def show(self, unit: str, key: str) -> str:
        return self.systemctl("show", "--value", f"--property={key}", unit).stdout.strip()

    def jobs(self) -> list[str]:
        said = self.systemctl("list-jobs", "--no-legend", "--plain", "--full").stdout
        return [line for line in said.splitlines() if not line.startswith("No jobs")]

    def active_units(self) -> set[str]:
        """Model units that are active or on their way."""
        states = "--state=active,activating,deactivating,reloading"
        said = self.systemctl(
            "list-units", "--no-legend", "--plain", "--full", states, "llm-*.service"
        )
        return {line.split()[0] for line in said.stdout.splitlines() if line.strip()}

    # What stands on it

    def config(self, **keys: Any) -> dict[str, Any]:
        """config.yaml's content: this site's, and `keys`."""
        return {
            "models_dir": self.models_dir,
            "binaries": {"upstream": self.server},
            "groups": {"gpu": {"port": self.port}},
            **keys,
        }

    def configure(self, **keys: Any) -> None:
        self.put({f"{self.config_dir}/config.yaml": to_yaml(self.config(**keys))})

    def unit_path(self, name: str) -> str:
        return f"{self.unit_dir}/llm-{name}.service"

    def profile_path(self, name: str) -> str:
        return f"{self.config_dir}/profiles/{name}.yaml"

    def script_path(self, name: str) -> str:
        return f"{self.home}/fake/{name}"

    def set_up(self) -> Self:
        """The configuration, and one model."""
        self.put({
            f"{self.config_dir}/config.yaml": to_yaml(self.config()),
            f"{self.models_dir}/m.gguf": "GGUF",
        })  # fmt: skip
        return self

    def profile(self, name: str, words: str = "", **keys: Any) -> None:
        """A profile, and what its stand-in does (see kit/fake_llama.py)."""
        self.profiles({name: words}, **keys)

    def profiles(self, behaviours: Mapping[str, str], **keys: Any) -> None:
        """Several profiles with the same keys, each with its behaviour."""
        files = {}
        for name, words in behaviours.items():
            env = {
                "FAKE_LLAMA": f"@{self.script_path(name)}",
                "FAKE_LOG": f"{self.home}/fake/log",
                **keys.get("env", {}),
            }
            content = {"model": "m.gguf", **keys, "env": env}
            files[self.profile_path(name)] = to_yaml(content)
            files[self.script_path(name)] = words
        self.put(files)

    def behave(self, name: str, words: str) -> None:
        """What the stand-in of a profile does from its next start on."""
        self.put({self.script_path(name): words})

    def events(self) -> list[Event]:
        """What the stand-ins noted down."""
        path = f"{self.home}/fake/log"
        lines = self.run("cat", path, check=False).stdout.splitlines()
        cut = (line.split() for line in lines)
        return [Event(word, alias, int(pid), float(at)) for word, alias, pid, at in cut]

    # llmctl

    def llmctl(
        self,
        *words: str,
        status: int | None = DONE,
        env: Mapping[str, str] | None = None,
        timeout: float = 120.0,
    ) -> Done:
        """Run llmctl, which must leave with `status` (None: any) and never with a traceback."""
        argv = [*self.program(), *words]
        done = self.run(*argv, env=env, timeout=timeout, check=False)
        if "Traceback" in done.stderr or (status is not None and done.returncode != status):
            raise CommandFailedError([f"(wanted {status})", "llmctl", *words], done)
        return done

    def begin(self, *words: str, env: Mapping[str, str] | None = None) -> Future[Done]:
        """Start an llmctl and go on. It may leave with any status, never with a traceback."""
        return self._threads.submit(self.llmctl, *words, status=None, env=env)

    def spawn(self, *argv: str) -> Future[Done]:
        """Start any command and go on. It may leave with any status."""
        return self._threads.submit(self.run, *argv, check=False)

    def json(self, *words: str, status: int = DONE) -> Any:
        """The answer of an llmctl command as JSON."""
        return json.loads(self.llmctl(*words, "--json", status=status).stdout)

    def status(self) -> Any:
        return self.json("status")

    def group(self, name: str = "gpu") -> tuple[str | None, str]:
        """Which profile of a group is active, and in what state."""
        found = next(one for one in self.status()["groups"] if one["name"] == name)
        return found["active"], found["state"]

    def await_event(self, word: str, alias: str) -> Event:
        """The first such line of the stand-ins' log, as soon as it is there."""

        def seen() -> Event | None:
            return next((e for e in self.events() if (e.word, e.alias) == (word, alias)), None)

        found = eventually(seen, 20, why=f"{alias}: {word}")
        assert found is not None
        return found

    def await_job(self, unit: str) -> None:
        """Until systemd has a job for a unit."""
        eventually(lambda: any(unit in job for job in self.jobs()), 20, why=f"a job of {unit}")

    def await_state(self, name: str | None, state: str) -> None:
        """Until the group's active profile is `name`, and in that state."""
        eventually(lambda: self.group() == (name, state), 30, why=f"{name} is {state}")

    def close(self) -> None:
        """Wait for what was begun."""
        self._threads.shutdown(cancel_futures=True)


class ManagerSite(Site):
    """A private user manager on this machine."""

    def __init__(self, manager: UserManager, server: str) -> None:
        super().__init__(home=str(manager.home), server=server)
        self.manager = manager
        self._processes: list[subprocess.Popen[str]] = []

    def program(self) -> Sequence[str]:
        # As in a shell: what is printed into a pipe is buffered.
        return ("env", "--unset=PYTHONUNBUFFERED", sys.executable, "-m", "llmctl")

    def python(self) -> str:
        return sys.executable

    def run(
        self,
        *argv: str,
        env: Mapping[str, str] | None = None,
        stdin: str = "",
        timeout: float = 120.0,
        check: bool = True,
    ) -> Done:
        return self.manager.run(argv, env=env, stdin=stdin, timeout=timeout, check=check)

    def popen(self, *words: str) -> subprocess.Popen[str]:
        """llmctl as a child of ours, to which signals can be sent, and which ends with us.

        Not through a shell: the background children of one without job control ignore SIGINT.
        """
        process = subprocess.Popen(
            [
                *("setpriv", "--pdeathsig", "KILL"),
                *("nsenter", "--target", str(self.manager.pid), "--mount", "--"),
                *("env", f"--chdir={self.home}", *self.program(), *words),
            ],
            env=self.manager.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._processes.append(process)
        return process

    def close(self) -> None:
        """End what was begun."""
        for process in self._processes:
            process.kill()
            process.communicate()
        super().close()

    def await_asking(self) -> None:
        """Until somebody has a connection to the group's port: proc(5), /proc/net/tcp."""
        established = f" 0100007F:{self.port:04X} 01 "
        table = Path("/proc/net/tcp")
        eventually(lambda: established in table.read_text("ascii"), why="the server is asked")


# Killed first: a stop waits for stand-ins that are slow on purpose.
CLEAR = """\
systemctl --user kill --signal=KILL 'llm-*.service'
systemctl --user stop 'llm-*.service'
systemctl --user reset-failed
systemctl --user unset-environment LLAMA_API_KEY
cd && rm -rf .config/llmctl .config/systemd .local/state/llmctl .cache/llmctl fake models
systemctl --user daemon-reload
"""


class BoxSite(Site):
    """The user `llm` of a real box, reached by ssh: all commands over one connection."""

    def __init__(self, box: Box) -> None:
        super().__init__(home=box.home, server=box.fake_llama)
        self.box = box
        self.run("sh", "-c", CLEAR, check=False)

    def program(self) -> Sequence[str]:
        return ("llmctl",)

    def python(self) -> str:
        return "python3"

    def _ssh(self, *words: str, stdin: str = "", timeout: float = 60.0, check: bool = True) -> Done:
        options = ("ControlMaster=auto", "ControlPersist=yes", "ControlPath=/run/llmlab/%r@%n")
        given = [word for option in options for word in ("-o", option)]
        argv = ["ssh", "-F", SSH_CONFIG, *given, f"llm@{self.box.name}", *words]
        return self.box.lab.run(argv, stdin=stdin, timeout=timeout, check=check)

    def run(
        self,
        *argv: str,
        env: Mapping[str, str] | None = None,
        stdin: str = "",
        timeout: float = 120.0,
        check: bool = True,
    ) -> Done:
        added = [f"{name}={value}" for name, value in (env or {}).items()]
        words = [*(("env", *added) if added else ()), *argv]
        return self._ssh(shlex.join(words), stdin=stdin, timeout=timeout, check=check)

    def reboot(self) -> None:
        """Restart the box in good order."""
        self._hang_up()
        self.box.reboot()

    def cut_power(self) -> None:
        """Pull the plug and put it in again."""
        self._hang_up()
        self.box.cut_power()
        self.box.power_on()

    def _hang_up(self) -> None:
        """End the connection and the commands that still use it."""
        self._ssh("-O", "exit", check=False)


class Quoted(yaml.SafeDumper):
    """Text in double quotes, where YAML has an escape for whatever it would fold or refuse."""


def quoted(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"')


Quoted.add_representer(str, quoted)


def to_yaml(content: object) -> str:
    return yaml.dump(content, Dumper=Quoted, allow_unicode=True, sort_keys=False, width=10**6)
