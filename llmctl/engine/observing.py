"""What a model's server really allocated: read from its log after a start, and kept.

A record says what ran (the binary, the files, the words and the environment that memory depends
on) and what it logged. A profile's records are in one file of the state directory, the newest last.
"""

import contextlib
import itertools
from collections.abc import Generator, Iterator, Sequence

import msgspec

from llmctl.core.buffers import PATTERN, Reading, Start
from llmctl.core.gguf_name import shards
from llmctl.core.proc import parse_environ, started_s
from llmctl.core.profile import Profile
from llmctl.core.said import of_environment, said
from llmctl.core.state import UnitStatus
from llmctl.core.words import unit_name
from llmctl.engine.box import Box
from llmctl.errors import HostError, LlmctlError
from llmctl.host.base import Host

FORMAT = 1
"""Of the kept file; what another version of llmctl kept is not read."""
MOST_RECORDS = 20
"""Of a profile: kept are the last starts that differ."""
MOST_LINES = 20_000
"""Of a log, until the model is loaded: a few hundred are usual."""
_READ_TIMEOUT_S = 5
_CLOCK_SLACK_S = 2.0


class Stamp(msgspec.Struct, frozen=True):
    """A file as it was."""

    path: str
    size_bytes: int
    mtime_ns: int


class Record(msgspec.Struct, frozen=True):
    """A start: what ran, and what it allocated. files: the model's parts, projector and draft.
    said: see core/said.py. invocation: systemd's id of the run."""

    invocation: str
    binary: Stamp
    files: tuple[Stamp, ...]
    said: dict[str, str]
    environment: dict[str, str]
    start: Start

    def is_like(self, other: "Record") -> bool:
        """The same things ran."""
        return (self.binary, self.files, self.said, self.environment, self.start.build) == (
            other.binary, other.files, other.said, other.environment, other.start.build,
        )  # fmt: skip


class _Kept(msgspec.Struct, frozen=True):
    format: int
    records: tuple[Record, ...]


def records(box: Box, name: str) -> tuple[Record, ...]:
    """What is known of a profile's starts, the newest last."""
    try:
        kept = msgspec.json.decode(box.host.read(_path(box, name)), type=_Kept)
    except (FileNotFoundError, HostError, msgspec.MsgspecError):
        return ()
    return kept.records if kept.format == FORMAT else ()


def _path(box: Box, name: str) -> str:
    return f"{box.store.state_dir}/observed/{name}.json"


def observe(box: Box, name: str) -> Record | None:
    """The record of the start that a profile's server runs from; read and kept if it is new.

    None: nothing runs, or its log does not say (yet) that it has loaded everything. LlmctlError:
    the box does not answer, or the record cannot be kept.
    """
    status = box.systemd.status([unit_name(name)])[0]
    if not (status.is_running and status.pid and status.invocation):
        return None
    known = records(box, name)
    if known and known[-1].invocation == status.invocation:
        return known[-1]
    made = _made(box, name, status)
    if made is not None:
        others = tuple(one for one in known if not one.is_like(made))
        kept = _Kept(FORMAT, (*others, made)[-MOST_RECORDS:])
        box.store.write_private(_path(box, name), msgspec.json.encode(kept).decode())
    return made


def _made(box: Box, name: str, status: UnitStatus) -> Record | None:
    words = [
        one.decode(errors="replace") for one in box.read_proc(status.pid, "cmdline").split(b"\0")
    ]
    start = _read(box, name, status)
    if not start.is_whole or not start.models:
        return None
    environment = parse_environ(box.read_proc(status.pid, "environ"))
    binary = _stamp(box.host, _binary(box, name, status) or words[0])
    files = [_stamp(box.host, path) for path in _files(words)]
    stamps = [one for one in (binary, *files) if one is not None]
    if binary is None or None in files or not files or _changed_since(box, status.pid, stamps):
        return None
    return Record(
        status.invocation, binary, tuple(stamps[1:]), said(words), of_environment(environment),
        start,
    )  # fmt: skip


def _read(box: Box, name: str, status: UnitStatus) -> Start:
    """The start in the log of a run; it stands at the beginning of it."""
    path, reading = box.store.log_file(name), Reading()
    with contextlib.closing(_lines(box, path, status)) as lines:
        for line in itertools.islice(lines, MOST_LINES):
            reading.feed(line)
            if reading.is_whole and path is None:  # a file may hold further starts, after crashes
                break
    return reading.start()


def _lines(box: Box, path: str | None, status: UnitStatus) -> Generator[str, None, None]:
    if path is None:
        yield from box.systemd.beginning_of_run(status)
    elif box.host.stat(path) is not None:
        argv = ("timeout", str(_READ_TIMEOUT_S), "grep", "--text", "--extended-regexp", "--regexp",
                PATTERN, "--", path)  # fmt: skip
        yield from box.host.lines(argv)


def _binary(box: Box, name: str, status: UnitStatus) -> str | None:
    """The path that the unit starts, if the process runs from what the profile says now.

    argv[0] may be another one: that of what a wrapper executes.
    """
    with contextlib.suppress(LlmctlError):
        now = box.resolve(name)
        if now.process == box.running_process(status.pid):
            return now.argv[0]
    return None


def _files(words: Sequence[str]) -> Iterator[str]:
    """Every model file that a command line names."""
    named = {"-m", "--model", "-mm", "--mmproj", "-md", "--model-draft", "--spec-draft-model"}
    for flag, value in itertools.pairwise(words):
        if flag in named:
            yield from shards(value)


def _stamp(host: Host, path: str) -> Stamp | None:
    entry = host.stat(path)
    return Stamp(path, entry.size_bytes, entry.mtime_ns) if entry else None


def _changed_since(box: Box, pid: int, stamps: Sequence[Stamp]) -> bool:
    """A file was replaced after the process had started: it runs from the one before."""
    stat = box.read_proc(pid, "stat").decode(errors="replace")
    try:
        boot = box.host.read("/proc/stat").decode(errors="replace")
    except (FileNotFoundError, HostError):
        boot = ""
    began = started_s(stat, boot)
    return began is not None and any(one.mtime_ns / 1e9 > began + _CLOCK_SLACK_S for one in stamps)


# What of it holds for what a profile starts now


class Present(msgspec.Struct, frozen=True):
    """What a profile's server would run from now."""

    binary: Stamp | None
    files: tuple[Stamp | None, ...]
    said: dict[str, str]
    environment: dict[str, str]


def present(box: Box, profile: Profile) -> Present:
    """ProfileError: the profile cannot be served as it is."""
    resolved = box.resolve(profile.name)
    paths = tuple(_files(resolved.argv))
    return Present(
        binary=_stamp(box.host, resolved.argv[0]),
        files=tuple(_stamp(box.host, path) for path in paths),
        said=said(resolved.argv),
        environment=of_environment(resolved.place.environment or {}),
    )


def apart(one: Record, now: Present, *, settings: frozenset[str]) -> Iterator[str]:
    """In what a start differed from what a profile starts now, in words; settings: words that are
    compared by what they mean."""
    if one.binary != now.binary:
        yield "another binary, or it was built anew"
    if one.files != now.files:
        yield "other model files, or they were replaced"
    for name in sorted({*one.said, *now.said} - settings):
        was, is_now = one.said.get(name, "not given"), now.said.get(name, "not given")
        if was != is_now:
            yield f"{name} {was}, now {is_now}"
    names = {*one.environment, *now.environment}
    changed = sorted(x for x in names if one.environment.get(x) != now.environment.get(x))
    if changed:
        yield f"another environment: {', '.join(changed)}"
