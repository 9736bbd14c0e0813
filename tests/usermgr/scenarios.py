"""Scenarios that hold on any site: each is run on a private manager and on real boxes."""

from __future__ import annotations

import itertools
import json
import random
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from kit.waiting import eventually
from usermgr.site import DONE, FAILED, NOTHING, PROFILE, UNREACHABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from kit.commands import Done
    from usermgr.site import Event, Site


# ------------------------------------------------------------------------------ exclusion


def the_new_model_starts_only_when_the_old_one_is_gone(
    site: Site, first: str, second: str, *, slow_s: float
) -> None:
    site.profiles({first: f"slowstop={slow_s}", second: ""})
    site.llmctl("apply")
    site.llmctl("switch", first)
    said = site.json("switch", second)
    assert said["previous"] == first
    assert said["ready_s"] > slow_s
    stopped, started = site.await_event("stop", first), site.await_event("start", second)
    assert started.at > stopped.at
    # And by systemd's own clock: the old process was reaped before the new one was executed.
    reaped = int(site.show(f"llm-{first}.service", "ExecMainExitTimestampMonotonic"))
    executed = int(site.show(f"llm-{second}.service", "ExecMainStartTimestampMonotonic"))
    assert 0 < reaped < executed
    assert site.group() == (second, "ready")
    assert site.active_units() == {f"llm-{second}.service"}


def a_later_switch_displaces_a_pending_one(
    site: Site, running: str, pending: str, last: str, *, slow_s: float
) -> None:
    site.profiles({running: f"slowstop={slow_s}", pending: "", last: ""})
    site.llmctl("apply")
    site.llmctl("switch", running)
    displaced = site.begin("switch", pending)
    site.await_job(f"llm-{pending}.service")
    site.llmctl("switch", last)
    told = displaced.result(timeout=60)
    assert told.returncode == FAILED
    assert f"{pending} was displaced by {last}" in told.stderr
    assert site.active_units() == {f"llm-{last}.service"}
    assert site.group() == (last, "ready")
    assert site.jobs() == []
    assert pending not in {event.alias for event in site.events()}


BUSY = {"a": "", "b": "load=0.2", "c": "slowstop=0.4", "d": "load=0.1,slowstop=0.2"}


def many_callers_end_with_one_model(
    site: Site, *, callers: int, switches: int, seed: int
) -> Sequence[Done]:
    """`switches` random ones, by callers that each do one after another."""
    site.profiles(BUSY)
    site.llmctl("apply")
    dice = random.Random(seed)
    names = [dice.choice(sorted(BUSY)) for _ in range(switches)]
    wishes = [names[caller::callers] for caller in range(callers)]

    def call(wished: Sequence[str]) -> list[Done]:
        return [site.llmctl("switch", name, status=None) for name in wished]

    with ThreadPoolExecutor(callers) as pool:
        ended = list(itertools.chain.from_iterable(pool.map(call, wishes)))
    assert {done.returncode for done in ended} <= {DONE, FAILED, NOTHING}
    for done in ended:
        assert (done.returncode == DONE) == (" is ready" in done.stdout), done
        assert (done.returncode == DONE) != ("error: " in done.stderr), done
    eventually(lambda: not site.jobs(), why="no job is left")
    assert len(site.active_units()) == 1
    name, state = site.group()
    assert (f"llm-{name}.service", state) == (*site.active_units(), "ready")
    no_two_ran_at_once(site.events())
    return ended


def no_two_ran_at_once(events: Sequence[Event]) -> None:
    """By the stand-ins' own log. One killed before it was ready to note anything is not in it."""
    ends = {event.pid: event for event in events if event.word == "stop"}
    starts = sorted((event for event in events if event.word == "start"), key=lambda e: e.at)
    for earlier, later in itertools.pairwise(starts):
        if earlier.pid in ends:
            assert ends[earlier.pid].at < later.at, (earlier, later)


# -------------------------------------------------------------------------------- failure


def a_failed_switch_brings_the_old_model_back(
    site: Site, words: str, says: str, *flags: str, evidence: str = "initializing"
) -> Done:
    """`says`: the cause in the error. `evidence`: in the server's own lines."""
    site.profiles({"old": "", "new": words})
    site.llmctl("apply")
    site.llmctl("switch", "old")
    told = site.llmctl("switch", "new", *flags, status=FAILED)
    assert f"error: new failed: {says}" in told.stderr
    assert told.stderr.count("old is ready again.") == 1
    assert any(evidence in line for line in last_words(told)), told.stderr
    assert told.stdout == ""
    back_at_work(site, "old")
    return told


def last_words(told: Done) -> list[str]:
    """The server's lines in an error."""
    return [line[4:] for line in told.stderr.splitlines() if line.startswith("  | ")]


def back_at_work(site: Site, name: str) -> None:
    """`name` is ready, alone, and nothing is about to change that."""
    assert site.group() == (name, "ready")
    assert site.active_units() == {f"llm-{name}.service"}
    assert site.jobs() == []


# ---------------------------------------------------------------------------------- words

WORDS: Mapping[str, str] = {
    "spaces": "  a  b ",
    "specifier": "%n %h %t",
    "percent": "100%% %",
    "variable": "$HOME",
    "braced variable": "x${HOME}y ${NOT_SET}",
    "dollars": "$$ $ $$HOME",
    "double quotes": 'say "hi"',
    "single quotes": "it's 'so'",
    "one double quote": '"',
    "one single quote": "'",
    "backslashes": "a\\b \\n \\x41 \\u00e9",
    "trailing backslash": "end\\",
    "newline": "one\ntwo\n",
    "blank line": "one\n\n[Install]\nAlias=x",
    "tab": "a\tb\t",
    "accent": "é",
    "emoji": "🙂 日本",
    "two dashes": "--",
    "dashes later": "a --b -c",
    "semicolon": ";",
    "semicolons": "a ; b;",
    "hash": "# no comment",
    "comment line": "a\n# b\n; c",
    "equals": "A=b c",
    "prefixes": "@-:+!|x",
    "glob": "* ? [a] {b,c} ~ `id` $(id)",
    "empty": "",
}
CONTROLS: Mapping[str, str] = {
    "carriage return": "a\r\nb",
    "escape": "\x1b[31m",
    "bell": "\a\b\f\v",
    "delete": "\x7f",
    "next line": "a\x85b",
    "separators": "a\u2028b\u2029c",
    "no-break space": "a\xa0b",
    "mark": "\ufeffx",
    "joiner": "👩\u200d💻 e\u0301",
}


def every_word_arrives_as_it_was_written(site: Site, words: Mapping[str, str]) -> None:
    """As argument, as environment value, as a model's path: what the process really got."""
    names = {f"WORD_{index}": word for index, word in enumerate(words.values())}
    flags = itertools.chain.from_iterable(("--grammar", word) for word in words.values())
    argv_file = f"{site.home}/fake/argv %n $HOME é.json"
    site.profile("a", env={**names, "FAKE_ARGV_FILE": argv_file}, args=list(flags))
    site.llmctl("switch", "a")
    got = json.loads(site.read(argv_file))
    argv, environ = got["argv"], got["environ"]
    assert argv[-2 * len(words) :: 2] == ["--grammar"] * len(words)
    assert dict(zip(words, argv[1 - 2 * len(words) :: 2], strict=True)) == words
    arrived = {name: environ.get(f"WORD_{i}") for i, name in enumerate(words)}
    assert arrived == words


def every_argument_arrives(site: Site, words: Sequence[str]) -> None:
    """One unit with many arguments: what the process really got."""
    argv_file = f"{site.home}/fake/argv.json"
    flags = itertools.chain.from_iterable(("--grammar", word) for word in words)
    site.profile("a", env={"FAKE_ARGV_FILE": argv_file}, args=list(flags))
    site.llmctl("switch", "a")
    argv = json.loads(site.read(argv_file))["argv"]
    assert argv[1 - 2 * len(words) :: 2] == list(words)


def an_environment_value_arrives_or_is_refused(site: Site, value: str) -> None:
    argv_file = f"{site.home}/fake/argv.json"
    site.profile("a", env={"FAKE_ARGV_FILE": argv_file, "VALUE": value})
    told = site.llmctl("switch", "a", status=None)
    if told.returncode == PROFILE:
        assert "env.VALUE: holds the control character" in told.stderr
        assert not site.exists(site.unit_path("a"))
    else:
        assert told.returncode == DONE
        assert json.loads(site.read(argv_file))["environ"]["VALUE"] == value


def every_path_is_opened_as_it_was_written(site: Site, words: Mapping[str, str]) -> None:
    """Models and the binary, below directories with such names; nothing between can be a slash."""
    odd = "a dir %h 'é'"
    binary = f"{site.home}/bin {{}} %n;é/llama server %%"  # systemd takes no quotes there
    site.run("mkdir", "--parents", binary.rpartition("/")[0])
    site.run("ln", "--symbolic", site.server, binary)
    site.configure(models_dir=f"~/models/{odd}", binaries={"upstream": binary})
    argv_file = f"{site.home}/fake/argv.json"
    names = [f"{word} {index}.gguf" for index, word in enumerate(words.values())]
    names += ["last.gguf"] * (-len(names) % 3)
    site.put({f"{site.models_dir}/{odd}/{name}": "GGUF" for name in names})
    for model, draft, mmproj in zip(names[::3], names[1::3], names[2::3], strict=True):
        env = {"FAKE_ARGV_FILE": argv_file}
        site.profile("a", model=model, draft=draft, mmproj=mmproj, env=env)
        site.llmctl("switch", "a")
        argv = json.loads(site.read(argv_file))["argv"]
        got = [argv[argv.index(flag) + 1] for flag in ("-m", "-md", "--mmproj")]
        assert got == [f"{site.models_dir}/{odd}/{path}" for path in (model, draft, mmproj)]
        assert argv[0] == binary


FILE_NAMES = {name: word for name, word in WORDS.items() if "/" not in word}


# ------------------------------------------------------------------------ disks and units


def what_happened_before_the_power_went_is_over(site: Site) -> None:
    """After a restart of the machine: nothing runs, all is whole, and switching works."""
    assert site.group() == (None, "stopped")
    assert site.active_units() == set()
    assert site.llmctl("status").stderr == ""
    assert all(not name.startswith(".") for name in site.names(site.unit_dir))
    assert "units are current" in site.llmctl("apply", "--check").stdout
    site.behave("old", "")
    site.behave("new", "")
    site.llmctl("switch", "new")
    back_at_work(site, "new")


def a_full_disk_leaves_everything_as_it_was(site: Site, mount: str) -> None:
    """`mount` is the unit directory, on a disk of its own that can be filled."""
    fill = f"{mount}/fill"
    site.profiles({"old": "", "new": ""})
    site.llmctl("apply")
    site.llmctl("switch", "old")
    pid, names = site.show("llm-old.service", "MainPID"), site.names(mount)
    unit = site.read(site.unit_path("new"))
    site.run("dd", "if=/dev/zero", f"of={fill}", "bs=4096", check=False)
    site.profile("new", ctx=8192)
    for command in (("switch", "new"), ("apply",)):
        told = site.llmctl(*command, status=UNREACHABLE)
        assert "llm-new.service cannot be written: No space left on device." in told.stderr
        assert "hint: Free some space there; the old file is untouched." in told.stderr
    assert site.read(site.unit_path("new")) == unit
    assert site.names(mount) == names | {"fill"}
    assert site.show("llm-old.service", "MainPID") == pid
    back_at_work(site, "old")
    site.remove(fill)
    site.llmctl("switch", "new")
    back_at_work(site, "new")


def a_read_only_home_still_switches(site: Site, remount: Callable[[str], None]) -> None:
    """`remount` makes the home `ro` or `rw`."""
    site.profiles({"old": "", "new": ""}, env={"FAKE_LOG": ""})
    site.llmctl("apply")
    site.llmctl("switch", "old")
    site.remove(site.cache_dir)
    remount("ro")
    site.llmctl("switch", "new")
    back_at_work(site, "new")
    assert "new" in site.llmctl("list").stdout
    remount("rw")
    site.profile("old", ctx=8192)
    remount("ro")
    told = site.llmctl("switch", "old", status=UNREACHABLE)
    assert "llm-old.service cannot be written: Read-only file system." in told.stderr
    assert "hint: " in told.stderr
    back_at_work(site, "new")
    remount("rw")


# ---------------------------------------------------------------------------------- proxy


HEARS = """\
import asyncio, sys
from llmctl.proxy.bus import Bus, private_socket

async def main():
    woken = asyncio.Event()
    listening = asyncio.ensure_future(Bus(private_socket(), woken.set).listen())
    await asyncio.wait_for(woken.wait(), 20)  # it hears
    for verb in ("start", "restart", "stop"):
        woken.clear()
        argv = ("systemctl", "--user", verb, "--", sys.argv[1])
        process = await asyncio.create_subprocess_exec(*argv)
        await process.wait()
        await asyncio.wait_for(woken.wait(), 20)
        print(verb)
    listening.cancel()

asyncio.run(main())
"""


def what_happens_to_a_model_is_heard(site: Site) -> None:
    """Each systemd tells it on its private socket, to whom has not asked."""
    site.profile("a")
    site.llmctl("apply")
    said = site.run(site.python(), "-c", HEARS, "llm-a.service")
    assert said.stdout.split() == ["start", "restart", "stop"]
