"""Box: a host with what is on its disk and its user manager, and units rendered for it."""

import itertools
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import msgspec

from llmctl import __version__
from llmctl.core.argv import argv_complaints, server_argv
from llmctl.core.config import require_group
from llmctl.core.document import complain
from llmctl.core.fleet import clashes
from llmctl.core.pool_ports import pool_ports
from llmctl.core.proc import parse_environ, parse_port
from llmctl.core.profile import Profile
from llmctl.core.unit import (
    PROCESS_VARIABLE,
    Placement,
    UnitFile,
    context,
    read_header,
    render_unit,
    slice_file,
    source_digest,
)
from llmctl.core.words import SLICE, profile_of, unit_name
from llmctl.engine.placing import Remembered, remembered
from llmctl.errors import HostError, ProfileError
from llmctl.host.base import Host
from llmctl.store import Store
from llmctl.store.data import template
from llmctl.store.places import SERVER_KEY
from llmctl.systemd import Systemd

# A crash would start gdb and hang on it (ggml.c, ggml_print_backtrace).
_ALWAYS = {"GGML_NO_BACKTRACE": "1"}


class Resolved(msgspec.Struct, frozen=True):
    """A profile with its place on a box: all that its unit is made from."""

    profile: Profile
    place: Placement
    argv: tuple[str, ...]
    variables: Mapping[str, Any]
    source: str
    plan: Remembered

    @property
    def unit(self) -> str:
        """The name of its unit."""
        return unit_name(self.profile.name)

    @property
    def process(self) -> str:
        """The digest of the process that its unit starts."""
        return str(self.variables["process"]).partition("=")[2]


class Target(msgspec.Struct, frozen=True):
    """A model to wait for: where it listens and what is known of it.

    size_bytes: of its file, 0 when that is not known. key: its API key, where llmctl knows it.
    """

    profile: str
    unit: str
    port: int
    size_bytes: int = 0
    key: str | None = None


class Box:
    """One machine that serves models, as it is now: what is read is kept, so one per operation.

    leaving: profiles that are gone, and whose units are about to go too.
    """

    def __init__(self, host: Host) -> None:
        self.host = host
        self.store = Store(host)
        self.systemd = Systemd(host)
        self.leaving: frozenset[str] = frozenset()

    @cached_property
    def _template(self) -> str:
        return template("llm.service")

    def members(self, group: str) -> tuple[str, ...]:
        """Profiles of a group, by name; broken ones too, and gone ones whose units may run."""
        found = [name for name, one in self.store.profiles.items() if one.group == group]
        gone = self.store.orphans.items()
        found += [name for name, its in gone if its == group and name not in self.leaving]
        return tuple(sorted(found))

    def port(self, profile: Profile) -> int:
        """Where the profile's first instance listens."""
        if profile.port is not None:
            return profile.port
        file = self.store.profile_path(profile.name)
        group = require_group(self.store.config, profile.group, file=file)
        if not group.is_pool:
            return group.port
        if profile.name not in self._pool_ports:
            raise ProfileError(f"{file}: group: there is no port left above {group.port}")
        return self._pool_ports[profile.name]

    @cached_property
    def _pool_ports(self) -> Mapping[str, int]:
        """Where the members of pools listen, by what is installed now."""
        whole = [one.profile for one in self.store.profiles.values() if one.profile]
        names = [*self.store.names, *(one for one in self.store.orphans if one not in self.leaving)]
        headers = {name: read_header(self.store.unit_text(unit_name(name))) for name in names}
        installed = {name: its.port for name, its in headers.items() if its.port is not None}
        return pool_ports(self.store.config, whole, installed)

    def resolve(self, name: str, *, ask: bool = False) -> Resolved:
        """Everything that the unit of a profile is made from; ProfileError with all complaints.

        ask: plan what the profile leaves open, where no plan is remembered (engine/placing.py).
        """
        profile = self.store.profile(name)
        flags = self.store.flags(profile)
        place = self._place(profile)
        key_file = self._key_file(profile)
        complaints = argv_complaints(profile, flags, key_file=key_file)
        self._check(profile, flags_complaints=complaints)
        plan = remembered(self, profile, ask=ask)
        if plan.fault:
            file = self.store.profile_path(name)
            raise ProfileError(complain(("draft",), plan.fault, file=file))
        argv = server_argv(
            profile, files=self.store.files(profile), port=place.port, flags=flags,
            placing=plan.words, drafting=plan.draft.words if plan.draft else None,
            key_file=key_file,
        )  # fmt: skip
        variables = context(profile, argv, place)
        source = source_digest(self._template, variables)
        return Resolved(profile, place, argv, variables, source, plan)

    def _check(self, profile: Profile, *, flags_complaints: list[Any]) -> None:
        others = [one.profile for one in self.store.profiles.values() if one.profile]
        found = [*flags_complaints, *clashes(profile, others, self.store.config)]
        if found:
            file = self.store.profile_path(profile.name)
            raise ProfileError([complain(path, text, file=file) for path, text in found])

    def _place(self, profile: Profile) -> Placement:
        binary = self.store.binary(profile)
        rivals: tuple[str, ...] = ()
        foreign: tuple[str, ...] = ()
        port = self.port(profile)
        if not profile.is_resident:
            group = self.store.config.groups[profile.group]
            peers = (one for one in self.members(profile.group) if one != profile.name)
            rivals = () if group.is_pool else tuple(unit_name(one) for one in peers)
            foreign = group.conflicts
        environment = {**_ALWAYS, **binary.env, **profile.env}
        return Placement(port, rivals, foreign, self.store.log_file(profile.name), environment)

    def port_of(self, unit: str, group: str, *, pid: int = 0) -> int:
        """Where a unit listens, whatever the configuration says by now; 0: unknown.

        pid: of the process that it runs; a newer text may be installed by now.
        """
        if pid and (told := parse_port(self.read_proc(pid, "cmdline"))):
            return told
        written = read_header(self.store.unit_text(unit)).port
        if written is not None:
            return written
        loaded = self.store.profiles.get(profile_of(unit) or "")
        if loaded and loaded.profile and loaded.profile.port is not None:
            return loaded.profile.port
        found = self.store.config.groups.get(group)
        if found is not None and found.is_pool:
            return self._pool_ports.get(profile_of(unit) or "", 0)
        return found.port if found else 0

    def target(self, name: str) -> Target:
        """What to wait for. A profile that broke meanwhile may still have a unit that runs."""
        loaded = self.store.profiles.get(name)
        group = loaded.group if loaded else self.store.unit_group(unit_name(name))
        port = self.port_of(unit_name(name), group)
        if loaded is None or loaded.profile is None:
            return Target(name, unit_name(name), port)
        size = self.store.model_bytes(loaded.profile) or 0
        return Target(name, unit_name(name), port, size, self.api_key(loaded.profile))

    def render(self, resolved: Resolved) -> UnitFile:
        """The unit's text. An installed one that was made from the same is taken as it is."""
        installed = self.store.unit_text(resolved.unit)
        if installed is not None and read_header(installed).source == resolved.source:
            return UnitFile(resolved.unit, installed)
        return self.render_anew(resolved)

    def render_anew(self, resolved: Resolved) -> UnitFile:
        """The unit's text, whatever is installed."""
        return render_unit(resolved.unit, self._template, resolved.variables, version=__version__)

    def slice(self) -> UnitFile:
        """The common slice's unit."""
        text = template(SLICE)
        installed = self.store.unit_text(SLICE)
        if installed is not None and read_header(installed).source == source_digest(text, {}):
            return UnitFile(SLICE, installed)
        return slice_file(text, version=__version__)

    def not_ours(self, unit: str) -> ProfileError:
        """The refusal to touch a unit file that llmctl did not write."""
        path = self.store.unit_path(unit)
        if not self.store.unit_text(unit):  # a link to /dev/null
            return ProfileError(
                f"{unit} is masked: {path} is empty.", hint=f"systemctl --user unmask {unit}"
            )
        return ProfileError(
            f"{path} was not written by llmctl, so it is left alone.",
            hint="Rename the profile, or move that file away.",
        )

    def running_process(self, pid: int) -> str | None:
        """The digest that a running process was started with."""
        if not pid:
            return None
        return parse_environ(self.read_proc(pid, "environ")).get(PROCESS_VARIABLE)

    def read_proc(self, pid: int, what: str) -> bytes:
        """/proc/PID/WHAT; empty when the process is gone or is not ours to look at."""
        try:
            return self.host.read(f"/proc/{pid}/{what}")
        except (FileNotFoundError, HostError):
            return b""

    def api_key(self, profile: Profile) -> str | None:
        """The key that the profile's server wants, as far as llmctl can know it."""
        words = itertools.pairwise(str(word) for word in profile.args)
        file = next((value for flag, value in words if flag == "--api-key-file"), None)
        if file and (key := self._key_from(file)):
            return key
        if given := self._own_key(profile) or self.host.environ().get("LLAMA_API_KEY"):
            return str(given).split(",")[0]
        unit = self.store.unit_text(unit_name(profile.name)) or ""
        # Also while a server goes on that was started when clients still needed keys.
        wants = self.store.config.proxy.api_keys is not None or SERVER_KEY in unit
        return self._key_from(self.store.server_key) if wants else None

    def _own_key(self, profile: Profile) -> str | int | None:
        """The key that the profile or its build gives to the server."""
        binary = self.store.config.binary(profile.binary)
        key = "LLAMA_API_KEY"
        return profile.env.get(key) or (binary.env.get(key) if binary else None)

    def _key_file(self, profile: Profile) -> str | None:
        """Where clients need keys, servers want one too: else their loopback ports would be a way
        around the proxy. A profile that sees to it itself is left alone."""
        if self.store.config.proxy.api_keys is None or self._own_key(profile):
            return None
        return None if "--api-key-file" in profile.args else self.store.server_key

    def _key_from(self, path: str) -> str | None:
        try:
            lines = self.host.read(path).decode(errors="replace").splitlines()
        except (FileNotFoundError, HostError):
            return None
        return next((one.strip() for one in lines if one.strip() and one[0] != "#"), None)
