"""The one module of the proxy that reaches the engine: what runs, and how to switch.

Its functions block and are called in threads; what they give are plain facts.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import msgspec

from llmctl.core.eviction import Ledger
from llmctl.core.fleet import is_in_pool
from llmctl.core.gpu_reports import GpuReport
from llmctl.core.guard.settings import merged
from llmctl.core.profile_parts import seconds
from llmctl.core.progress import Event, Report, Waiting
from llmctl.core.proxy_settings import ProxySettings
from llmctl.core.state import State
from llmctl.engine.alive import Life
from llmctl.engine.box import Box
from llmctl.engine.clock import SystemClock, slept_s
from llmctl.engine.gpu_reports import dumps, kernel_reports
from llmctl.engine.pool import ledger, unload
from llmctl.engine.proxy_units import addresses
from llmctl.engine.replicas import restart, start_replica, stop_replica
from llmctl.engine.resume import look_after
from llmctl.engine.status import Instance, overview
from llmctl.engine.switch import Options, Switch
from llmctl.errors import ProfileError
from llmctl.host.local import LocalHost
from llmctl.proxy.contexts import Contexts
from llmctl.proxy.far import boxes_of, stand_ins
from llmctl.proxy.keyfile import KeyFile
from llmctl.proxy.keys import Keyring
from llmctl.proxy.routing import Far, Served
from llmctl.store import Store

if TYPE_CHECKING:
    from llmctl.core.config import Config
    from llmctl.core.listening import Address

Progress = Callable[[str, float | None, float], None]
"""What is being waited for, how much of it is done (0 to 1), and for how many seconds."""


class Seen(msgspec.Struct, frozen=True):
    """A box at one moment. ready, coming: per queue. stopping: profiles whose process is ending, by
    whomever it was told to. problems: what is wrong with its files. keys: None, where clients need
    none. replicas: of those in served, however they are. made: by label, the processes that
    answered when a start of ours ended. dumps: what GPUs' drivers have left."""

    served: tuple[Served, ...]
    ready: dict[str, str]
    coming: dict[str, str]
    settings: ProxySettings
    stopping: frozenset[str] = frozenset()
    problems: tuple[str, ...] = ()
    keys: Keyring | None = None
    replicas: tuple[Served, ...] = ()
    made: Mapping[str, int] = {}
    dumps: tuple[GpuReport, ...] = ()

    @property
    def stopped(self) -> frozenset[str]:
        """Profiles that do not run, and did not fail."""
        still = (one.name for one in self.served if one.state is State.STOPPED)
        return frozenset(still) - self.stopping


class Keeper(Protocol):
    """Knows the box."""

    def look(self) -> Seen:
        """How things are. LlmctlError: they cannot be known."""
        ...

    def switch(self, name: str, *, timeout: float, progress: Progress) -> None:
        """Make a profile the running one. LlmctlError: it failed, and why."""
        ...

    def restart(self, name: str) -> None:
        """Restart a profile's server, which hangs. LlmctlError: it cannot be."""
        ...

    def gpu_reports(self) -> tuple[GpuReport, ...]:
        """Of the kernel's log; none where it cannot be read."""
        ...

    def start_replica(self, name: str, number: int, *, timeout: float) -> int:
        """Start one more instance, if it fits into what is free, and give its port. LlmctlError:
        there is none."""
        ...

    def stop_replica(self, name: str, number: int) -> None:
        """Stop one. LlmctlError: it is not gone."""
        ...

    def ledger(self, name: str) -> Ledger:
        """What a member of a pool needs, what is free, and who holds what. LlmctlError: nobody can
        say, and why."""
        ...

    def unload(self, names: tuple[str, ...]) -> None:
        """Stop profiles, with their replicas, and wait until they are gone. LlmctlError: they are
        not."""
        ...


class LocalKeeper:
    """This machine. What of its files was right last is kept for as long as they are wrong."""

    def __init__(self) -> None:
        self._config: Config | None = None
        self._known: dict[str, Served] = {}
        self._keys = KeyFile()
        self._key_path: str | None = None
        self._contexts = Contexts()
        self._boxes: Mapping[str, Far] = {}
        self._made: dict[str, int] = {}

    @property
    def request_log(self) -> str:
        """The path of the request log."""
        return Store(LocalHost()).request_log

    @property
    def guard_log(self) -> str:
        """The path of the guard's log."""
        return Store(LocalHost()).guard_log

    def look(self) -> Seen:
        """See Keeper."""
        box = Box(LocalHost())
        wrong = self._configure(box)
        self._boxes, closed = boxes_of(box.store)
        found = overview(box)
        up = {one.profile: one for one in found.instances if one.number == 1}
        served = {
            name: one
            for name in box.store.profiles
            if (one := self._entry(box, name, up.get(name))) is not None
        }
        self._known = served
        ready, coming = _queues(served, tuple(up.values()))
        stopping = frozenset(one.profile for one in up.values() if _is_stopping(one))
        settings = box.store.config.proxy
        self._key_path = box.store.in_config(settings.api_keys)
        keys = self.keys()
        badly = (keys.problem,) if keys and keys.problem else ()
        return Seen(
            tuple(served.values()), ready, coming, settings, stopping,
            (*wrong, *found.problems, *badly, *closed), keys,
            tuple(_replicas(served, found.instances)), dict(self._made), dumps(box.host),
        )  # fmt: skip

    def slept(self) -> float | None:
        """How long the machine has slept in all; None where nobody counts."""
        return slept_s()

    def look_after(self) -> tuple[str, ...]:
        """After the machine has slept (waking.py): models that did not survive it, restarted."""
        found = look_after(Box(LocalHost()), clock=SystemClock(), report=lambda _: None)
        return tuple(one.name for one in found if one.life is Life.DEAD)

    def keys(self) -> Keyring | None:
        """See key_watch.Read; where the file is, the last look has told."""
        return self._keys.read(LocalHost(), self._key_path)

    def _configure(self, box: Box) -> tuple[str, ...]:
        """Go on with the configuration that was right last; ProfileError: none ever was."""
        try:
            self._config = box.store.config
        except ProfileError as error:
            if self._config is None:
                raise
            box.store.config = self._config
            return error.problems
        return ()

    def _entry(self, box: Box, name: str, instance: Instance | None) -> Served | None:
        """None: the profile is broken, and was never seen whole."""
        if box.store.profiles[name].profile is not None:
            return self._served(box, name, instance)
        known = self._known.get(name)
        state, pid = (instance.state, instance.pid) if instance else (State.STOPPED, 0)
        return known and msgspec.structs.replace(known, state=state, pid=pid)

    def _served(self, box: Box, name: str, instance: Instance | None) -> Served:
        """Its port is where its process listens, whatever the files say by now."""
        profile = box.store.profile(name)
        return Served(
            name=name, group=None if profile.is_resident else profile.group,
            port=(instance and instance.port) or box.port(profile), aliases=profile.aliases,
            state=instance.state if instance else State.STOPPED,
            pid=instance.pid if instance else 0, ctx=self._contexts.of(box, profile, instance),
            vision=profile.mmproj is not None, key=box.api_key(profile),
            guard=merged(box.store.config.guard, profile.guard), most=profile.replicas.max,
            slots=profile.parallel, idle_timeout_s=seconds(profile.replicas.idle_timeout),
            is_shared=is_in_pool(profile, box.store.config), pinned=profile.pin,
            ttl_s=profile.ttl_s,
            fallback=stand_ins(profile.fallback, self._boxes),
        )  # fmt: skip

    def addresses(self) -> "tuple[Address, ...]":
        """Where to listen. LlmctlError: nowhere, and why."""
        return addresses(Box(LocalHost()))

    def switch(self, name: str, *, timeout: float, progress: Progress) -> None:
        """See Keeper."""
        work = Switch(
            Box(LocalHost()), name, options=Options(timeout=timeout, room=False),
            clock=SystemClock(), report=_reporting(progress),
        )  # fmt: skip
        self._made[name] = work.run().pid

    def restart(self, name: str) -> None:
        """See Keeper."""
        restart(Box(LocalHost()), name, clock=SystemClock(), report=_untold)

    def gpu_reports(self) -> tuple[GpuReport, ...]:
        """See Keeper."""
        return kernel_reports(Box(LocalHost()))

    def start_replica(self, name: str, number: int, *, timeout: float) -> int:
        """See Keeper."""
        box, clock = Box(LocalHost()), SystemClock()
        made = start_replica(box, name, number, timeout=timeout, clock=clock, report=_untold)
        self._made[f"{name}@{number}"] = made.pid
        return made.port

    def stop_replica(self, name: str, number: int) -> None:
        """See Keeper."""
        stop_replica(Box(LocalHost()), name, number, clock=SystemClock(), report=_untold)

    def ledger(self, name: str) -> Ledger:
        """See Keeper."""
        return ledger(Box(LocalHost()), name)

    def unload(self, names: tuple[str, ...]) -> None:
        """See Keeper."""
        unload(Box(LocalHost()), names, clock=SystemClock(), report=_untold)


def _queues(
    served: dict[str, Served], instances: Sequence[Instance]
) -> tuple[dict[str, str], dict[str, str]]:
    """What is ready and what is coming, per queue. An entry knows the group of a profile that is
    broken by now; its file may not."""
    ready: dict[str, str] = {}
    coming: dict[str, str] = {}
    for one in instances:
        entry = served.get(one.profile)
        if entry is not None and one.state in (State.READY, State.LOADING):
            of = ready if one.state is State.READY else coming
            of.setdefault(entry.queue, one.profile)
    return ready, {queue: name for queue, name in coming.items() if queue not in ready}


def _replicas(served: dict[str, Served], instances: Sequence[Instance]) -> Iterator[Served]:
    """All that is said of the first instance holds for them, but where and how they run."""
    for one in instances:
        if one.number > 1 and (first := served.get(one.profile)) is not None:
            yield msgspec.structs.replace(
                first, port=one.port, state=one.state, pid=one.pid, number=one.number
            )


def _is_stopping(one: Instance) -> bool:
    """Told to stop, by hand or for another model, and not gone yet: systemd does not name units
    that plainly are."""
    return one.state is State.STOPPED


def _untold(_: Event) -> None:
    """Nobody waits for it."""


def _reporting(progress: Progress) -> Report:
    def report(event: Event) -> None:
        if isinstance(event, Waiting):
            progress(event.what, event.fraction, event.elapsed_s)

    return report
