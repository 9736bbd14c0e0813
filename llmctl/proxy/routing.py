"""Which model a request is for: a profile, an alias, or whatever the rules say of unknown names."""

from collections.abc import Mapping

import msgspec

from llmctl.core.guard.settings import GuardSettings
from llmctl.core.state import State
from llmctl.core.words import RESIDENT
from llmctl.proxy.dialect import Trouble

UPSTREAM = b"/upstream/"


class Far(msgspec.Struct, frozen=True, kw_only=True):
    """Another box's proxy. model: as it is called there. key: an API key of that box."""

    box: str
    host: str
    port: int
    key: str | None = None
    model: str = ""


class Served(msgspec.Struct, frozen=True, kw_only=True):
    """One profile as the proxy serves it. group: None is a resident. port: of its first instance.
    pid: of its process, 0 for none. key: of its server. ctx: tokens that one request may use, None
    where it is not known yet. guard: config.yaml's and its profile's settings. number: of this
    instance; most: instances there may be. slots: requests that one works on at a time.
    idle_timeout_s: how long a replica may have nothing to do. is_shared: its group is a pool.
    pinned: it never makes way there. ttl_s: how long the model may have nothing to do; None: it
    stays. fallback: who answers in its stead, profiles and models of other boxes. far: where it is
    another box's."""

    name: str
    group: str | None
    port: int
    aliases: tuple[str, ...] = ()
    state: State = State.STOPPED
    pid: int = 0
    ctx: int | None = None
    vision: bool = False
    key: str | None = None
    guard: GuardSettings = GuardSettings()
    number: int = 1
    most: int = 1
    slots: int = 1
    idle_timeout_s: float = 600.0
    is_shared: bool = False
    pinned: bool = False
    ttl_s: float | None = None
    fallback: tuple[str | Far, ...] = ()
    far: Far | None = None

    @property
    def queue(self) -> str:
        """What it takes turns with: its group; a resident and a member of a pool have a queue of
        their own."""
        if self.group is None:
            return f"{RESIDENT}:{self.name}"
        return f"{self.group}/{self.name}" if self.is_shared else self.group

    @property
    def pool(self) -> str | None:
        """The pool that it is a member of."""
        return self.group if self.is_shared else None

    @property
    def label(self) -> str:
        """What this instance is called: the profile's name, with `@2` and so on for a replica."""
        return self.name if self.number == 1 else f"{self.name}@{self.number}"


class Table(msgspec.Struct, frozen=True):
    """All profiles by name, every name that means one, and of each group the profile that is ready
    (active) or on its way (coming)."""

    served: Mapping[str, Served] = {}
    names: Mapping[str, str] = {}
    active: Mapping[str, str] = {}
    coming: Mapping[str, str] = {}

    @classmethod
    def of(
        cls, served: tuple[Served, ...], active: Mapping[str, str],
        coming: Mapping[str, str] | None = None,
    ) -> "Table":  # fmt: skip
        """A profile's own name is stronger than another's alias."""
        names = {alias: one.name for one in served for alias in one.aliases}
        names |= {one.name: one.name for one in served}
        return cls({one.name: one for one in served}, names, active, coming or {})

    def with_active(self, queue: str, name: str) -> "Table":
        """This profile has become the active one there."""
        return msgspec.structs.replace(self, active={**self.active, queue: name})

    def with_coming(self, name: str | None) -> "Table":
        """This profile is about to start. None: none is."""
        if name is None:
            return self
        coming = {**self.coming, self.served[name].queue: name}
        return msgspec.structs.replace(self, coming=coming)

    def without(self, queue: str) -> "Table":
        """The one that was active there is not any more."""
        active = {one: name for one, name in self.active.items() if one != queue}
        return msgspec.structs.replace(self, active=active)

    @property
    def default(self) -> str | None:
        """The profile for requests that name none: the active one of the first group that has, or
        the one that somebody is just starting."""
        return next(iter((*self.active.values(), *self.coming.values())), None)


class Rules(msgspec.Struct, frozen=True):
    """What config.yaml says about names. models: profiles that a key may use; None: all."""

    unknown_model: str = "active"
    models: frozenset[str] | None = None


def strip_upstream(path: bytes) -> tuple[str | None, bytes]:
    """/upstream/NAME/rest -> the name and /rest; other paths have no name."""
    if not path.startswith(UPSTREAM):
        return None, path
    name, _, rest = path[len(UPSTREAM) :].partition(b"/")
    return name.decode("latin-1"), b"/" + rest


def route(table: Table, *, model: str | None, forced: str | None, rules: Rules) -> Served | Trouble:
    """The profile that a request is for, or what to answer instead.

    model: as the body names it; forced: as the path does, which must be right.
    """
    asked = forced if forced is not None else model
    name = table.names.get(asked or "")
    if name is None and (forced is not None or (asked and rules.unknown_model == "error")):
        return _unknown(table, asked or "", rules)
    name = name or table.default
    if name is None:
        return _nothing(table, asked, rules)
    if rules.models is not None and name not in rules.models:
        return Trouble(403, "model_not_allowed", f"This API key may not use {name}.")
    return table.served[name]


def _unknown(table: Table, asked: str, rules: Rules) -> Trouble:
    known = _allowed(table, rules)
    there = f"There is {', '.join(known)}." if known else "There are no profiles."
    return Trouble(404, "unknown_model", f"There is no model {asked[:80]!r}. {there}")


def _allowed(table: Table, rules: Rules) -> list[str]:
    """Names of profiles that may be told."""
    return [name for name in sorted(table.served) if rules.models is None or name in rules.models]


def _nothing(table: Table, asked: str | None, rules: Rules) -> Trouble:
    """No model is active, and none was named that could be started."""
    named = f"{asked[:80]!r} is no profile's name, and no" if asked else "No"
    hint = f"Name one of {', '.join(_allowed(table, rules))}, or type: llmctl switch NAME"
    if not table.served:
        hint = "Write a profile first: llmctl new NAME FILE.gguf"
    return Trouble(503, "no_model", f"{named} model is running. {hint}", retry_after_s=5)
