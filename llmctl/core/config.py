"""Config: what config.yaml says about a box. Every key has a default that works."""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from llmctl.core.boxes import RemoteBox, box_complaints
from llmctl.core.document import Path, build
from llmctl.core.guard.settings import GuardSettings, guard_complaints
from llmctl.core.proxy_settings import ProxySettings, proxy_complaints
from llmctl.core.size import MOST_BYTES, parse_size
from llmctl.core.words import DEFAULT_GROUP, NAME, RESIDENT, instance_of
from llmctl.errors import ProfileError

FIRST_PORT = 12340
"""Instance i of a group listens on 127.0.0.1, the group's port + i."""


# config_parse_exec() refuses what string_is_safe() does (systemd, src/core/load-fragment.c), and
# `$` would be expanded in argv[0].
UNSAFE_IN_PROGRAM = re.compile(r"""[\x00-\x1f\x7f"'\\$]""")


class Binary(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A llama-server build: where it is, and what environment it needs."""

    path: Annotated[str, Meta(min_length=1)]
    env: dict[str, str | int] = {}


class Group(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Profiles that share devices: their port, foreign units that exclude them, and how many of
    them run. exclusive: at most one. pool: as many as fit, each on ports of its own
    (core/pool_ports.py)."""

    port: Annotated[int, Meta(ge=1024, le=65535)]
    conflicts: tuple[str, ...] = ()
    mode: Literal["exclusive", "pool"] = "exclusive"

    @property
    def is_pool(self) -> bool:
        """May several members run at once?"""
        return self.mode == "pool"


class Device(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to plan with, instead of what was found: sizes as core/size.py reads them."""

    total: str | int | None = None
    free: str | int | None = None
    reserve: str | int | None = None


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One box."""

    models_dir: Annotated[
        str,
        Meta(
            title="the path of a directory",
            description="Where relative model paths start.",
            examples=["~/models"],
        ),
    ] = "~/models"
    binaries: Annotated[
        dict[str, str | Binary],
        Meta(
            title="names with a path each, or {path: ..., env: {...}}",
            description="llama-server builds by name. A bare word is looked up on the box's PATH.",
            examples=[{"upstream": "~/llama.cpp/build/bin/llama-server"}],
        ),
    ] = msgspec.field(default_factory=lambda: {"upstream": "llama-server"})
    groups: Annotated[
        dict[str, Group],
        Meta(
            title="names with {port: N, conflicts: [UNIT, ...], mode: exclusive|pool} each",
            description="Groups of profiles of which at most one runs (`mode: pool`: as many as "
            "fit), and foreign user units that must not run beside them.",
            examples=[{"gpu": {"port": 12340, "conflicts": ["lmstudio.service"]}}],
        ),
    ] = msgspec.field(default_factory=lambda: {DEFAULT_GROUP: Group(port=FIRST_PORT)})
    devices: Annotated[
        dict[str, Device],
        Meta(
            title="names with {total: SIZE, free: SIZE, reserve: SIZE} each",
            description="Devices to plan with: instead of what was found at those that "
            "`llmctl devices` lists, or all there are when planning for another box. "
            "`RAM` is the host's memory.",
            examples=[{"CUDA0": {"reserve": "1GiB"}}],
        ),
    ] = {}
    logs: Annotated[
        Literal["journal", "file"],
        Meta(
            title="journal or file",
            description="Where the servers' output goes: the journal, or one file per model below "
            "the state directory (for a user manager whose journal cannot be read).",
            examples=["journal"],
        ),
    ] = "journal"
    proxy: Annotated[
        ProxySettings,
        Meta(
            title="{listen: [ADDRESS:PORT, ...], ...}",
            description="How the proxy on port 1234 serves.",
            examples=[{"listen": ["127.0.0.1:1234", "tailscale:1234"]}],
        ),
    ] = ProxySettings()
    guard: Annotated[
        GuardSettings,
        Meta(
            title="{mode: on, ...}",
            description="How the proxy treats models that loop; a profile's own `guard` is "
            "stronger, key by key.",
            examples=[{"mode": "log"}],
        ),
    ] = GuardSettings()
    boxes: Annotated[
        dict[str, RemoteBox],
        Meta(
            title="names with {url: URL, key_file: FILE} each",
            description="Other boxes' proxies, for profiles' `fallback` (`attic/coder`).",
            examples=[{"attic": {"url": "http://attic:1234"}}],
        ),
    ] = {}
    unit_dir: Annotated[
        str | None,
        Meta(
            title="the path of a directory that the user manager reads",
            description="Where units are written; `~/.config/systemd/user` when not given.",
            examples=["$XDG_RUNTIME_DIR/systemd/user"],
        ),
    ] = None

    def binary(self, name: str) -> Binary | None:
        """The build of that name, however it was written."""
        given = self.binaries.get(name)
        return Binary(path=given) if isinstance(given, str) else given


def parse_config(raw: Any, *, file: str) -> Config:
    """The configuration that a document (of parse_yaml) describes, or every complaint about it."""
    return build(Config, raw, file=file, check=lambda config: list(_complaints(config)))


def _complaints(config: Config) -> Iterator[tuple[Path, str]]:
    ports: dict[int, str] = {}
    for name, group in config.groups.items():
        if name == RESIDENT or not NAME.fullmatch(name):
            yield ("groups", name), "expected a name such as gpu (none means no group)"
        if group.port in ports:
            yield ("groups", name, "port"), f"{group.port} is group {ports[group.port]}'s"
        ports[group.port] = name
        for index, unit in enumerate(group.conflicts):
            if not _is_unit(unit):
                path = ("groups", name, "conflicts", index)
                yield path, f'expected a unit such as ollama.service, got "{unit}"'
    for name in config.binaries:
        binary = config.binary(name)
        if binary and (sign := UNSAFE_IN_PROGRAM.search(binary.path)):
            yield ("binaries", name), f"a path with {sign[0]!r} cannot start a unit"
        elif binary and "/" in binary.path and not _is_absolute(binary.path):
            yield ("binaries", name), f"{binary.path} is relative: begin it with / or ~/"
    for name, device in config.devices.items():
        yield from _device_complaints(name, device)
    for where, text in proxy_complaints(config.proxy, ports):
        yield ("proxy", *where), text
    for where, text in box_complaints(config.boxes):
        yield ("boxes", *where), text
    for where, text in guard_complaints(config.guard):
        yield ("guard", *where), text
    paths = {"models_dir": config.models_dir, "unit_dir": config.unit_dir or "/"}
    for key, place in paths.items():
        if not _is_absolute(place):
            yield (key,), f"{place} is relative: begin it with /, ~/ or a variable"


def _device_complaints(name: str, device: Device) -> Iterator[tuple[Path, str]]:
    sizes: dict[str, int] = {}
    for key in ("total", "free", "reserve"):
        given = getattr(device, key)
        try:
            sizes |= {} if given is None else {key: parse_size(given)}
        except ValueError as error:
            yield ("devices", name, key), str(error)
    if sizes.get("total") == 0:
        yield ("devices", name, "total"), "expected more than nothing"
    elif sizes.get("free", 0) > sizes.get("total", MOST_BYTES):
        yield ("devices", name, "free"), f"{device.free} is more than the total, {device.total}"


def _is_absolute(path: str) -> bool:
    return path == "~" or path.startswith(("/", "~/", "$"))


_UNIT = re.compile(r"[A-Za-z0-9:_.\\@-]+\.(?:service|socket|target|slice|scope|timer|path|mount)")


def _is_unit(name: str) -> bool:
    return _UNIT.fullmatch(name) is not None and instance_of(name) is None


def require_group(config: Config, name: str, *, file: str) -> Group:
    """The group `name`, or a ProfileError that says how to make it."""
    if name in config.groups:
        return config.groups[name]
    raise ProfileError(
        f"{file}: group: {name} is not a group of this box; there is "
        + ", ".join(sorted(config.groups)),
        hint=f"Add it to config.yaml: groups: {{{name}: {{port: 12360}}}}",
    )


def json_schema() -> Mapping[str, Any]:
    """JSON Schema of config.yaml, for editors."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **msgspec.json.schema(Config),
    }
